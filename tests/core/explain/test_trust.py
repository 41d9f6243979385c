"""Measures of trust against a linear model of which all is known by hand, and against themselves."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

from core.config import TRIO
from core.data import MEAN, STD
from core.explain import WHOLE
from core.explain.methods import attribute
from core.explain.score import Question
from core.explain.trust import measure_infidelity, measure_sensitivity, randomize, rank_correlation, trace_curves
from tests.core.explain.by_hand import corner_map

SIZE = 64
about = Question.about


def test_rank_correlation_by_hand():
    rising = np.arange(1024.0).reshape(1, 32, 32)
    assert rank_correlation(rising, rising**3) == pytest.approx([1])
    assert rank_correlation(rising, -rising) == pytest.approx([-1])
    assert rank_correlation(rising, np.ones((1, 32, 32))) == [0]


@pytest.mark.parametrize("name", TRIO)
def test_randomizing_goes_from_the_head_down_and_leaves_the_model(name, models, images):
    model = models[name]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    told = []
    stages = randomize(about(model, images[:2], 3, 32), "saliency", progress=told.append)
    assert [s.stage for s in stages] == ["trained", "head", "1/32", "1/16", "1/8", "1/4", "1/2"]
    assert stages[0].correlation == pytest.approx([1, 1]) and np.array_equal(
        stages[0].maps, attribute(about(model, images[:2], 3, 32), "saliency")[WHOLE]
    )
    for earlier, later in pairwise(stages):
        assert np.isfinite(later.maps).all() and later.maps.max() > 0 and not np.allclose(earlier.maps, later.maps)
    for stage in stages[1:]:
        assert (stage.correlation < 0.95).all() and np.array_equal(stage.correlation, stage.absolute_correlation)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert told == sorted(told) and told[-1] == pytest.approx(1)


@pytest.mark.parametrize("name", TRIO)
def test_the_last_stage_has_no_trained_weight_left(name, models, images):
    """Two models that share nothing but the seed of the random weights end at the same map."""
    other = copy.deepcopy(models[name])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    last = [randomize(about(m, images[:1], 3, 32), "saliency")[-1].maps for m in (models[name], other)]
    np.testing.assert_allclose(*last, rtol=1e-3)


def test_infidelity_is_0_for_the_truth_and_1_for_nothing(corner, images):
    images = images[:, :, :12, :12].repeat(1, 1, 3, 3)[:, :, :32, :32]
    true = corner_map(images)
    question, options = about(corner, images, 0, 32), {"window": 16, "samples": 40}
    assert measure_infidelity(question, true, **options) == pytest.approx([0, 0, 0], abs=1e-4)
    assert measure_infidelity(question, 7 * true, **options) == pytest.approx([0, 0, 0], abs=1e-4)  # its scale is free
    assert measure_infidelity(question, 0 * true, **options) == pytest.approx([1, 1, 1])
    assert measure_infidelity(question, -true, **options) == pytest.approx([1, 1, 1])  # its sign is not
    elsewhere = measure_infidelity(question, true[:, ::-1, ::-1].copy(), **options)
    assert (elsewhere > 0.5).all() and (elsewhere <= 1).all()
    assert measure_infidelity(about(corner, images, 1, 32), true, samples=5) == pytest.approx([0, 0, 0])  # a logit that never changes


def test_sensitivity_is_0_where_the_gradient_is_constant_and_repeats_itself(corner, models, images):
    assert measure_sensitivity(about(corner, images, 0, 32), "saliency") == pytest.approx([0, 0, 0], abs=1e-5)
    told = []
    question = about(models["fusion"], images[:2], 0, 32)
    first = measure_sensitivity(question, "grad_cam", samples=3, progress=told.append)
    assert (first > 0).all() and np.array_equal(first, measure_sensitivity(question, "grad_cam", samples=3))
    assert told == sorted(told) and told[-1] == pytest.approx(1)
    # by hand: the map is pixel - grey in the corner, so noise in [-r, r] moves it by at most r at each of 64 pixels
    moved = measure_sensitivity(about(corner, images, 0, 32), "integrated_gradients", radius=0.02, samples=20)
    norm = np.sqrt((corner_map(images) ** 2).sum((1, 2)))
    largest = 0.02 / STD[0] * 8 / norm
    assert (moved < largest).all() and (moved > 0.4 * largest).all()


def test_curves_by_hand(corner, images):
    images = images.clone()
    images[:, 0, :8, :8] = 255  # so that the corner speaks for class 0
    told = []
    curves = trace_curves(about(corner, images, 0, 32), corner_map(images), steps=16, progress=told.append)
    assert told == sorted(told) and told[-1] == 1 and len(told) > len(images)  # more often than once an image: whoever leaves stops it
    one = (1 - MEAN[0]) / STD[0]  # a pixel's logits
    assert curves.fraction == pytest.approx(np.linspace(0, 1, 17))
    for i, curve in enumerate(curves.deletion):
        assert curve == pytest.approx(1 / (1 + 9 * np.exp(-np.clip(64 - 64 * np.arange(17), 0, 64) * one)), abs=1e-5), i
    assert curves.insertion == pytest.approx(
        np.broadcast_to(1 / (1 + 9 * np.exp(-np.clip(64 * np.arange(17), 0, 64) * one)), (3, 17)), abs=1e-5
    )
    assert curves.deletion_area == pytest.approx([0.1 + 0.9 / 32] * 3, abs=1e-4)
    assert curves.insertion_area == pytest.approx([1 - 0.9 / 32] * 3, abs=1e-4)
    against = trace_curves(about(corner, images, 0, 32, contrast=4), corner_map(images), steps=4)
    assert against.deletion[:, -1] == pytest.approx([0.5] * 3)  # of two classes, not of ten
    assert trace_curves(about(corner, images, 0, 32), -corner_map(images)).deletion_area.min() > 0.9
