"""Attributions against values by hand, autograd or a second computation, on all three models with random weights."""

import copy
import threading
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients
from torch import nn

from core import explain, results
from core.config import TRIO, UserError
from core.data import MEAN, STD, to_input
from core.evaluate import load_shipped_model
from core.explain import (
    METHODS,
    WHOLE,
    ablate_branches,
    attribute,
    branch_contributions,
    extract_features,
    measure_infidelity,
    measure_sensitivity,
    pick_images,
    randomize_cascade,
    rank_correlation,
    score_change,
    trace_curves,
    whole,
)
from core.models import build_model
from tests.fake_run import make_run

SIZE = 64
GREY = torch.tensor(MEAN)[:, None, None]


def make_model(name: str):
    """Random weights and BatchNorm statistics under which signals keep their size, as those of a trained model do."""
    torch.manual_seed(0)
    model = build_model(name, hidden=32)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.05)
            nn.init.uniform_(module.running_var, 1, 3)
            nn.init.normal_(module.bias, 0, 0.05)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def models():
    return {name: make_model(name) for name in TRIO}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Smooth pictures: blobs of colour, as neighbouring pixels of a photograph are alike."""
    blobs = torch.rand(3, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    return (F.interpolate(blobs, size=(32, 32), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


class Corner(nn.Module):
    """Features (N, 512) of which only the first is not 0: the red in the upper left 8x8 pixels, summed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, 0, :8, :8].sum((1, 2))[:, None], (0, 511))


@pytest.fixture
def corner():
    """A model whose logit 0 is Corner's feature and whose other logits are 0; linear, so that all is known by hand."""
    model = build_model("resnet18")
    model.backbones["resnet18"] = Corner()
    model.head = nn.Sequential(nn.Linear(512, 10, bias=False))
    nn.init.zeros_(model.head[0].weight)
    model.head[0].weight.data[0, 0] = 1.0
    return model.eval()


def corner_map(images: torch.Tensor) -> np.ndarray:
    """What each pixel adds to Corner's logit over the baseline's: (N, 32, 32)."""
    red = (images[:, 0].float() / 255 - MEAN[0]) / STD[0]
    expected = torch.zeros(len(images), 32, 32)
    expected[:, :8, :8] = red[:, :8, :8]
    return expected.numpy()


def resize_matrix(size: int) -> torch.Tensor:
    """(size, 32): bilinear weights of the source pixels, from the definition with half-pixel centres."""
    matrix = torch.zeros(size, 32)
    for row in range(size):
        at = min(max((row + 0.5) * 32 / size - 0.5, 0), 31)
        low = int(at)
        matrix[row, low] += 1 - (at - low)
        matrix[row, min(low + 1, 31)] += at - low
    return matrix


def input_gradient(model, images: torch.Tensor, target: int) -> torch.Tensor:
    """Gradient of a logit with respect to the network's own input (N, 3, SIZE, SIZE), by autograd."""
    x = to_input(images, SIZE).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, target].sum(), x)
    return gradient


# --- the methods -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRIO)
def test_saliency_is_autograds_gradient_summed_over_the_footprint(name, models, images):
    matrix = resize_matrix(SIZE)
    torch.testing.assert_close(
        torch.einsum("ri,ncij,sj->ncrs", matrix, (images / 255 - GREY) / torch.tensor(STD)[:, None, None], matrix), to_input(images, SIZE)
    )
    gradient = torch.einsum("ri,ncrs,sj->ncij", matrix, input_gradient(models[name], images, 4), matrix)
    expected = (gradient / torch.tensor(STD)[:, None, None]).abs().sum(1)
    maps = attribute(models[name], images, 4, "saliency", SIZE)
    assert maps.keys() == {WHOLE} and maps[WHOLE].shape == (3, 32, 32) and maps[WHOLE].dtype == np.float32
    np.testing.assert_allclose(maps[WHOLE], expected.numpy(), atol=1e-4 * expected.max().item())


def changes_of(model, images: torch.Tensor) -> tuple[list[int], np.ndarray]:
    """For each image the class whose logit is furthest from the baseline's, and by how much."""
    with torch.no_grad():
        changes = model(to_input(images, 32)) - model(torch.zeros(len(images), 3, 32, 32))
    target = changes.abs().argmax(1)
    return target.tolist(), changes[range(len(images)), target].numpy()


@pytest.mark.parametrize("name", TRIO)
def test_integrated_gradients_add_up(name, models, images):
    target, change = changes_of(models[name], images)
    parts = attribute(models[name], images, target, "integrated_gradients", 32)
    np.testing.assert_allclose(score_change(models[name], images, target, 32), change, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(whole(parts).sum((1, 2)), change, rtol=0.0101)
    assert list(parts) == list(models[name].backbones) and all(abs(one).max() > 0 for one in parts.values())


@pytest.mark.parametrize("name", TRIO)
def test_a_map_keeps_the_total_of_the_networks_own_input(name, models, images):
    """One piece of five points is Captum's own method with five steps, there on the resized input."""
    parts = attribute(models[name], images, 2, "integrated_gradients", SIZE, steps=5, max_steps=5)
    x = to_input(images, SIZE)
    expected = IntegratedGradients(models[name]).attribute(x, torch.zeros_like(x), target=2, n_steps=5).detach().sum((1, 2, 3))
    np.testing.assert_allclose(whole(parts).sum((1, 2)), expected.numpy(), rtol=1e-3, atol=1e-4)


def test_refining_spends_steps_only_where_they_are_missing(models, images):
    model, told = models["fusion"], []
    target, change = changes_of(model, images)

    def missed(max_steps: int) -> tuple[np.ndarray, float]:
        maps = whole(attribute(model, images, target, "integrated_gradients", 32, max_steps=max_steps, progress=told.append))
        return abs(maps.sum((1, 2)) / change - 1), told[-2]  # the share done before it ended early

    (rough, _), (fine, spent) = missed(25), missed(200)
    assert rough.max() > 0.01 >= fine.max() and spent < 0.7


def test_many_steps_in_pieces_give_captums_map_of_many_steps(models, images):
    pixels, model = images[:1].float() / 255, models["resnet18"]
    method = IntegratedGradients(lambda p: model(to_input(p, 32)))
    expected = method.attribute(pixels, GREY.expand_as(pixels), target=7, n_steps=200, internal_batch_size=40)
    maps = attribute(model, images[:1], 7, "integrated_gradients", 32, steps=50, max_steps=50)["resnet18"]
    assert np.corrcoef(maps.ravel(), expected.detach().sum(1).numpy().ravel())[0, 1] > 0.99


def test_integrated_gradients_of_a_linear_model_by_hand(corner, images):
    maps = attribute(corner, images, 0, "integrated_gradients", 32)
    np.testing.assert_allclose(maps["resnet18"], corner_map(images), atol=1e-5)


@pytest.mark.parametrize("stride", [8, 4])
def test_occlusion_sees_the_only_corner_that_matters(stride, corner, images):
    maps = attribute(corner, images, 0, "occlusion", 32, window=8, stride=stride)[WHOLE]
    corners = corner_map(images)
    falls = np.zeros((3, 32, 32))  # by hand: the mean, over the squares that hide a pixel, of what they hide of the corner
    for y in range(32):
        for x in range(32):
            starts = [[s for s in range(0, 25, stride) if s <= at < s + 8] for at in (y, x)]
            hidden = [corners[:, a : a + 8, b : b + 8].sum((1, 2)) for a in starts[0] for b in starts[1]]
            falls[:, y, x] = np.mean(hidden, axis=0)
    np.testing.assert_allclose(maps, falls, atol=1e-3)
    assert abs(maps[:, :8, :8]).min() > 0 and (maps[:, 16:] == 0).all() and (maps[:, :, 16:] == 0).all()


class GuidedStep(torch.autograd.Function):
    """ReLU, or ReLU6, whose backward pass lets through only what is positive, where the unit is not clipped."""

    @staticmethod
    def forward(context, x, ceiling):
        context.save_for_backward(x)
        context.ceiling = ceiling
        return x.clamp(0, ceiling)

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return gradient.clamp_min(0) * ((x > 0) & (x < context.ceiling)), None


class GuidedUnit(nn.Module):
    def __init__(self, ceiling: float):
        super().__init__()
        self.ceiling = ceiling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return GuidedStep.apply(x, self.ceiling)


@pytest.mark.parametrize("name", TRIO)
def test_guided_backprop_is_guided_at_every_relu_and_relu6(name, models, images):
    guided = copy.deepcopy(models[name])
    for module in list(guided.modules()):
        for key, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(module, key, GuidedUnit(6.0 if isinstance(child, nn.ReLU6) else torch.inf))
    pixels = (images.float() / 255).requires_grad_()
    expected, plain = (torch.autograd.grad(m(to_input(pixels, SIZE))[:, 1].sum(), pixels)[0].sum(1).numpy() for m in (guided, models[name]))
    maps = attribute(models[name], images, 1, "guided_backprop", SIZE)[WHOLE]
    np.testing.assert_allclose(maps, expected, atol=1e-4 * abs(expected).max())
    assert abs(np.corrcoef(maps.ravel(), plain.ravel())[0, 1]) < 0.9
    assert not any(isinstance(m, explain.HookedReLU6) for m in models[name].modules())


def last_activations(name: str, backbone: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the backbone pools, (N, C, h, w), without hooks."""
    if name == "mobilenet_v2":
        return backbone.features(x)
    x = backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(x))))
    return backbone.layer4(backbone.layer3(backbone.layer2(backbone.layer1(x))))


@pytest.mark.parametrize("name", TRIO)
def test_grad_cam_by_hand_one_map_a_branch(name, models, images):
    model = models[name]
    with torch.no_grad():
        seen = {n: last_activations(n, backbone, to_input(images, SIZE)) for n, backbone in model.backbones.items()}
    seen = {n: one.requires_grad_() for n, one in seen.items()}
    logits = model.head(torch.cat([one.mean((2, 3)) for one in seen.values()], dim=1))
    torch.testing.assert_close(logits, model(to_input(images, SIZE)), atol=1e-3, rtol=1e-3)
    gradients = torch.autograd.grad(logits.amax(1).sum(), list(seen.values()))
    maps = attribute(model, images, logits.argmax(1).tolist(), "grad_cam", SIZE)
    assert list(maps) == list(model.backbones)
    for (n, one), gradient in zip(seen.items(), gradients, strict=True):
        cells = (gradient.mean((2, 3), keepdim=True) * one).sum(1, keepdim=True).clamp_min(0).detach()  # (N, 1, 2, 2)
        assert cells.shape == (3, 1, 2, 2) and (cells.sum((1, 2, 3)) > 0).any()
        enlarged = F.interpolate(cells, size=(32, 32), mode="bilinear", align_corners=False)[:, 0]
        for i in range(3):
            expected = enlarged[i] * cells[i].sum() / enlarged[i].sum() if cells[i].sum() > 0 else enlarged[i]
            np.testing.assert_allclose(maps[n][i], expected.numpy(), atol=1e-3 * abs(maps[n]).max())
            assert maps[n][i].sum() == pytest.approx(cells[i].sum().item(), rel=1e-3, abs=1e-6)


def test_smoothgrad_without_noise_is_saliency_and_with_it_smoother(models, images):
    plain = attribute(models["mobilenet_v2"], images, 3, "saliency", SIZE)[WHOLE]
    quiet, loud = (attribute(models["mobilenet_v2"], images, 3, "smoothgrad", SIZE, samples=4, noise=n)[WHOLE] for n in (1e-6, 0.2))
    np.testing.assert_allclose(quiet, plain, rtol=0.05, atol=0.01 * plain.max())
    assert np.corrcoef(loud.ravel(), plain.ravel())[0, 1] < 0.99 and (loud >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_map_repeats_itself_alone_or_in_a_batch_and_leaves_no_trace(method, models, images):
    model = copy.deepcopy(models["fusion"]).train()
    before = torch.get_rng_state()
    first, again = (attribute(model, images[:2], [3, 8], method, 32) for _ in range(2))
    alone = attribute(model, images[1:2], 8, method, 32, batch=3)
    assert first.keys() == (set(model.backbones) if METHODS[method].by_branch else {WHOLE})
    for part, maps in first.items():
        assert np.isfinite(maps).all() and np.array_equal(maps, again[part])
        assert METHODS[method].signed or (maps >= 0).all()
        np.testing.assert_allclose(alone[part][0], maps[1], atol=1e-3 * abs(maps[1]).max() + 1e-9)
    assert model.training and all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_difference_of_classes_has_the_difference_of_their_maps(models, images):
    def maps(target, minus=None):
        return whole(attribute(models["fusion"], images, target, "integrated_gradients", 32, minus, steps=5, max_steps=5))

    difference = maps([3, 1, 9], minus=[5, 2, 0])
    for i, (target, minus) in enumerate(((3, 5), (1, 2), (9, 0))):
        expected = maps(target)[i] - maps(minus)[i]
        np.testing.assert_allclose(difference[i], expected, atol=1e-4 * abs(expected).max())


def test_captum_warns_of_nothing(models, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", module="captum")
        for method in METHODS:
            assert attribute(models["resnet18"], images[:1], 0, method, 32)


def test_progress_grows_to_one_and_can_end_a_method(models, images):
    for method in ("integrated_gradients", "smoothgrad", "occlusion"):
        told = []
        attribute(models["resnet18"], images[:1], 0, method, 32, progress=told.append)
        assert len(told) > 3 and told == sorted(told) and told[-1] == 1 and max(told[:-1]) > 0.2

    def stop(share: float) -> None:
        if share > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attribute(models["resnet18"], images[:1], 0, "occlusion", 32, progress=stop)


def test_two_threads_on_one_model_get_what_one_gets(models, images):
    """200 explanations, and plain predictions in between."""
    model, wrong = models["fusion"], []
    jobs = [(method, target) for method in ("saliency", "grad_cam", "guided_backprop", "smoothgrad") for target in range(5)]
    options = {"smoothgrad": {"samples": 2}}

    def compute(method: str, target: int) -> np.ndarray:
        return np.stack(list(attribute(model, images[:1], target, method, 32, **options.get(method, {})).values()))

    expected = {job: compute(*job) for job in jobs}
    with torch.no_grad():
        logits = model(to_input(images, 32))

    def visit(order: list[tuple[str, int]]) -> None:
        for job in order:
            if not np.allclose(compute(*job), expected[job], rtol=1e-3, atol=1e-4 * abs(expected[job]).max() + 1e-12):
                wrong.append(job)
            with torch.no_grad():
                if not torch.allclose(model(to_input(images, 32)), logits, atol=1e-4):
                    wrong.append("prediction")

    threads = [threading.Thread(target=visit, args=(order * 5,)) for order in (jobs, jobs[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- inside the fusion -----------------------------------------------------------------------------------------------


def test_a_branch_the_head_ignores_carries_nothing(models, images):
    model = copy.deepcopy(models["fusion"])
    model.head = nn.Sequential(nn.Linear(1792, 10))
    model.head[0].weight.data[:, 512:] = 0
    target, change = changes_of(model, images)
    parts = attribute(model, images, target, "integrated_gradients", 32)
    assert (parts["mobilenet_v2"] == 0).all()
    np.testing.assert_allclose(parts["resnet18"].sum((1, 2)), change, rtol=0.0101)


def test_branch_contributions_of_a_linear_head_by_hand(models, images):
    model = copy.deepcopy(models["fusion"])
    model.head = nn.Sequential(nn.Linear(1792, 10))
    features = extract_features(model, images, SIZE, batch=2)
    with torch.no_grad():
        torch.testing.assert_close(features, model.forward_features(to_input(images, SIZE)), atol=1e-4, rtol=1e-4)
    reference = features.mean(dim=0)
    rows = branch_contributions(model, features, reference, [0, 1, 2], minus=9)
    weight = model.head[0].weight.detach()
    for i in range(3):
        terms = (weight[i] - weight[9]) * (features[i] - reference)
        np.testing.assert_allclose(rows[i], [terms[:512].sum(), terms[512:].sum()], atol=1e-4)


def test_branch_contributions_add_up_and_ablation_replaces_one_branch(models, images):
    model = models["fusion"]
    features = extract_features(model, images, SIZE)
    reference = features.mean(dim=0)
    rows = branch_contributions(model, features, reference, 6)
    with torch.no_grad():
        change = (model.head(features) - model.head(reference[None]))[:, 6]
        swapped = {
            "resnet18": model.head(torch.cat([reference[:512].expand(3, -1), features[:, 512:]], dim=1)),
            "mobilenet_v2": model.head(torch.cat([features[:, :512], reference[512:].expand(3, -1)], dim=1)),
        }
    np.testing.assert_allclose(rows.sum(1), change.numpy(), rtol=0.01, atol=1e-3)
    ablated = ablate_branches(model, features, reference)
    assert list(ablated) == ["resnet18", "mobilenet_v2"]
    for branch, logits in ablated.items():
        np.testing.assert_allclose(logits, swapped[branch].numpy(), atol=1e-5)


# --- how far to trust a map ------------------------------------------------------------------------------------------


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
    stages = randomize_cascade(model, images[:2], 3, "saliency", 32, progress=told.append)
    assert [s.stage for s in stages] == ["trained", "head", "1/32", "1/16", "1/8", "1/4", "1/2"]
    assert stages[0].correlation == pytest.approx([1, 1]) and np.array_equal(
        stages[0].maps, attribute(model, images[:2], 3, "saliency", 32)[WHOLE]
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
    last = [randomize_cascade(m, images[:1], 3, "saliency", 32)[-1].maps for m in (models[name], other)]
    np.testing.assert_allclose(*last, rtol=1e-3)


def test_infidelity_is_0_for_the_truth_and_1_for_nothing(corner, images):
    images = images[:, :, :12, :12].repeat(1, 1, 3, 3)[:, :, :32, :32]
    true = corner_map(images)
    options = {"target": 0, "image_size": 32, "window": 16, "samples": 40}
    assert measure_infidelity(corner, images, true, **options) == pytest.approx([0, 0, 0], abs=1e-4)
    assert measure_infidelity(corner, images, 7 * true, **options) == pytest.approx([0, 0, 0], abs=1e-4)  # its scale is free
    assert measure_infidelity(corner, images, 0 * true, **options) == pytest.approx([1, 1, 1])
    elsewhere = measure_infidelity(corner, images, true[:, ::-1, ::-1].copy(), **options)
    assert (elsewhere > 0.5).all() and (elsewhere <= 1).all()
    assert measure_infidelity(corner, images, true, 1, 32, samples=5) == pytest.approx([0, 0, 0])  # a logit that never changes


def test_sensitivity_is_0_where_the_gradient_is_constant_and_repeats_itself(corner, models, images):
    assert measure_sensitivity(corner, images, 0, "saliency", 32) == pytest.approx([0, 0, 0], abs=1e-5)
    told = []
    first = measure_sensitivity(models["fusion"], images[:2], 0, "grad_cam", 32, samples=3, progress=told.append)
    assert (first > 0).all() and np.array_equal(first, measure_sensitivity(models["fusion"], images[:2], 0, "grad_cam", 32, samples=3))
    assert told == sorted(told) and told[-1] == pytest.approx(1)
    # by hand: the map is pixel - grey in the corner, so noise in [-r, r] moves it by at most r at each of 64 pixels
    moved = measure_sensitivity(corner, images, 0, "integrated_gradients", 32, radius=0.02, samples=20)
    norm = np.sqrt((corner_map(images) ** 2).sum((1, 2)))
    largest = 0.02 / STD[0] * 8 / norm
    assert (moved < largest).all() and (moved > 0.4 * largest).all()


def test_curves_by_hand(corner, images):
    images = images.clone()
    images[:, 0, :8, :8] = 255  # so that the corner speaks for class 0
    curves = trace_curves(corner, images, corner_map(images), 0, 32, steps=16)
    one = (1 - MEAN[0]) / STD[0]  # a pixel's logits
    assert curves.fraction == pytest.approx(np.linspace(0, 1, 17))
    for i, curve in enumerate(curves.deletion):
        assert curve == pytest.approx(1 / (1 + 9 * np.exp(-np.clip(64 - 64 * np.arange(17), 0, 64) * one)), abs=1e-5), i
    assert curves.insertion == pytest.approx(
        np.broadcast_to(1 / (1 + 9 * np.exp(-np.clip(64 * np.arange(17), 0, 64) * one)), (3, 17)), abs=1e-5
    )
    assert curves.deletion_area == pytest.approx([0.1 + 0.9 / 32] * 3, abs=1e-4)
    assert curves.insertion_area == pytest.approx([1 - 0.9 / 32] * 3, abs=1e-4)
    against = trace_curves(corner, images, corner_map(images), 0, 32, minus=4, steps=4)
    assert against.deletion[:, -1] == pytest.approx([0.5] * 3)  # of two classes, not of ten
    assert trace_curves(corner, images, -corner_map(images), 0, 32).deletion_area.min() > 0.9


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "lime"}, "unknown method 'lime': choose from saliency"),
        ({"target": 10}, "target 10 is not a class: they are 0 to 9"),
        ({"target": -1}, "target -1 is not a class"),
        ({"target": [1, 2]}, "target [1, 2]: give one class position, or one for each of the 3 images"),
        ({"target": 1.0}, "target 1.0: give one class position"),
        ({"minus": 12}, "minus 12 is not a class"),
        ({"minus": [3, 0, 2]}, "target and minus are the same class"),
        ({"samples": 5}, "saliency has no parameter samples: it takes none"),
        ({"method": "smoothgrad", "samples": 0}, "smoothgrad: samples 0 is not a positive int"),
        ({"method": "smoothgrad", "samples": 2.5}, "smoothgrad: samples 2.5 is not a positive int"),
        ({"method": "smoothgrad", "noise": float("nan")}, "smoothgrad: noise nan is not a positive float"),
        ({"method": "occlusion", "window": 4, "stride": 8}, "occlusion: window 4 and stride 8 leave pixels out"),
        ({"method": "occlusion", "window": 33}, "occlusion: window 33 and stride 4"),
        ({"images": torch.zeros(3, 3, 28, 28)}, "the images' shape is (3, 3, 28, 28): it must be (N, 3, 32, 32)"),
        ({"images": torch.zeros(0, 3, 32, 32)}, "the images' shape is (0, 3, 32, 32)"),
    ],
)
def test_bad_input_is_named(change, message, models, images):
    arguments = {"images": images, "target": 3, "method": "saliency", "image_size": 32} | change
    with pytest.raises(UserError) as error:
        attribute(models["resnet18"], **arguments)
    assert str(error.value).startswith(message)


# --- the script ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, models):
    """A made-up run of 200 test images whose weights are random ones."""
    run = make_run(tmp_path_factory.mktemp("results"), "run", n_test=200)
    for name in TRIO:
        model = build_model(name)
        model.load_state_dict({k: v for k, v in models[name].state_dict().items() if not k.startswith("head")}, strict=False)
        state = {key: value.numpy() for key, value in model.state_dict().items()}
        results.write_weights(run / name / "weights.safetensors", state, {key for key, _ in model.named_parameters()})
    return run


def test_the_script_writes_what_attribute_gives(shipped, script, data, fake_cifar):
    chosen = ["--model", "fusion", "--errors", "--method", "saliency", "grad_cam", "--target", "difference"]
    finished = script("explain.py", shipped, *chosen, "--branches", "--data", fake_cifar)
    assert finished.code == 0, finished.error
    run = results.load_run(shipped)
    predictions = results.load_predictions(run, "fusion")
    predicted = predictions.logits.argmax(1)
    errors = np.flatnonzero(predicted != predictions.labels)
    *speeds, last = finished.out.splitlines()
    assert last == f"wrote {shipped}/fusion/attributions.npz: {len(errors)} images, saliency, grad_cam, branches"
    assert [line.split(":")[0] for line in speeds] == ["saliency", "grad_cam"] and all(line.endswith(" images/s") for line in speeds)

    found = results.load_attributions(run, "fusion")
    assert np.array_equal(found.index, errors)
    assert np.array_equal(found.target, predicted[errors]) and np.array_equal(found.minus, predictions.labels[errors])
    assert {method: set(parts) for method, parts in found.maps.items()} == {"saliency": {WHOLE}, "grad_cam": {"resnet18", "mobilenet_v2"}}
    assert found.record == {"image_size": 96, "target": "difference", "methods": {"saliency": {}, "grad_cam": {}}}
    model, test_images = load_shipped_model(run, "fusion"), results.load_test_images(shipped.parent)
    images = pick_images(test_images, errors[:2])
    expected = attribute(model, images, found.target[:2], "saliency", 96, found.minus[:2])[WHOLE]
    np.testing.assert_allclose(found.maps["saliency"][WHOLE][:2], expected, rtol=0.01, atol=0.002 * expected.max())

    features = extract_features(model, pick_images(test_images, range(200)), 96)
    mean = extract_features(model, data.train.images[:200], 96).mean(0, keepdim=True)
    with torch.no_grad():
        change = model.head(features) - model.head(mean)
    contributions = sum(found.branches["contribution"].values())
    np.testing.assert_allclose(contributions, change.numpy()[np.arange(200), predicted], rtol=0.01, atol=0.01)
    assert found.branches["ablated"]["resnet18"].shape == (200, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet18", "--index", "200"], "--index 200: the run's test images are 0 to 199"),
        (["--model", "resnet18", "--index", "0", "--branches"], "--branches: resnet18 has no branches, only fusion has"),
        (["--model", "resnet18"], "one of the arguments --errors --index is required"),
        (["--model", "resnet18", "--index", "0", "--method", "lime"], "argument --method: invalid choice: 'lime'"),
    ],
)
def test_the_script_refuses_bad_choices(arguments, message, shipped, script):
    finished = script("explain.py", shipped, *arguments)
    assert finished.code == 2 and message in finished.error.splitlines()[-1] and "Traceback" not in finished.error
    assert not (shipped / "resnet18" / "attributions.npz").exists()


def test_the_script_names_weights_that_are_missing(tmp_path, script):
    run = make_run(tmp_path, "run", n_test=200)
    finished = script("explain.py", run, "--model", "fusion", "--index", "3")
    assert (finished.code, finished.out) == (2, "")
    assert "weights.safetensors is missing: run python scripts/evaluate.py" in finished.error


def test_damaged_attributions_name_their_repair(shipped, tmp_path):
    run = results.load_run(shipped)
    with pytest.raises(
        UserError, match=r"attributions.npz cannot be read .*: run python scripts/explain.py .*run --model mobilenet_v2 --errors"
    ):
        results.load_attributions(run, "mobilenet_v2")
    path = shipped / "mobilenet_v2" / "attributions.npz"
    rows = {"index": np.array([4, 9]), "target": np.array([1, 2]), "minus": np.array([-1, -1])}
    maps = {"saliency": {WHOLE: np.ones((2, 32, 32))}}
    results.write_attributions(path, rows, maps, {}, {})
    assert results.load_attributions(run, "mobilenet_v2").branches == {}
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="cannot be read"):
        results.load_attributions(run, "mobilenet_v2")
    results.write_attributions(path, rows, {"saliency": {WHOLE: np.ones((2, 31, 32))}}, {}, {})
    with pytest.raises(UserError, match="saliency of whole is not whole"):
        results.load_attributions(run, "mobilenet_v2")
    results.write_attributions(path, rows | {"index": np.array([9, 4])}, maps, {}, {})
    with pytest.raises(UserError, match="does not hold test images in order"):
        results.load_attributions(run, "mobilenet_v2")
    with pytest.raises(UserError, match="gave values that do not fit float16"):
        results.write_attributions(path, rows, {"saliency": {WHOLE: np.full((2, 32, 32), np.nan)}}, {}, {})
    path.unlink()


def test_images_out_of_range_are_named(shipped):
    with pytest.raises(UserError, match="image 10000 does not exist: the test images are 0 to 9999"):
        pick_images(results.load_test_images(shipped.parent), [3, 10_000])
