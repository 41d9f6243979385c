"""What each branch carries: against a linear head by hand, and heads of which one half is replaced."""

import copy

import numpy as np
import torch
from torch import nn

from core.evaluate import extract_features
from core.explain.branches import ablate_branches, branch_contributions
from core.explain.methods import FLOOR, attribute
from core.explain.score import Question
from tests.core.explain.by_hand import changes_of

SIZE = 64
about = Question.about


def test_a_branch_the_head_ignores_carries_nothing(models, images):
    model = copy.deepcopy(models["fusion"])
    model.head = nn.Sequential(nn.Linear(1792, 10))
    model.head[0].weight.data[:, 512:] = 0
    target, change = changes_of(model, images)
    parts = attribute(about(model, images, target, 32), "integrated_gradients")
    assert (parts["mobilenet_v2"] == 0).all()
    np.testing.assert_allclose(parts["resnet18"].sum((1, 2)), change, rtol=0.0101, atol=FLOOR)


def test_branch_contributions_of_a_linear_head_by_hand(models, images, world):
    model = copy.deepcopy(models["fusion"])
    model.head = nn.Sequential(nn.Linear(1792, 10))
    features = extract_features(model, images, SIZE, world).clone()
    reference = features.mean(dim=0)
    rows = branch_contributions(model, features, reference, [0, 1, 2], contrast=9)
    weight = model.head[0].weight.detach()
    for i in range(3):
        terms = (weight[i] - weight[9]) * (features[i] - reference)
        np.testing.assert_allclose(rows[i], [terms[:512].sum(), terms[512:].sum()], atol=1e-4)


def test_branch_contributions_add_up_and_ablation_replaces_one_branch(models, images, world):
    model = models["fusion"]
    features = extract_features(model, images, SIZE, world).clone()
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
