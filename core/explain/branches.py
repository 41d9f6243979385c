"""What each branch of a fusion carries, from its features on: cheap, since no backbone is run more than once an image."""

import numpy as np
import torch
from captum.attr import IntegratedGradients

from core.config import BACKBONES
from core.explain.score import Classes, in_batches, share_weights, weigh_logits
from core.models import Classifier


def branch_contributions(
    model: Classifier, features: torch.Tensor, reference: torch.Tensor, target: Classes, contrast: Classes | None = None
) -> np.ndarray:
    """What each backbone's features add to the score, (N, backbones) logits: Integrated Gradients of the head alone.

    `features` are a clone of evaluate.extract_features' (N, D), since no gradient takes its own; the path starts at `reference` (D,),
    say their mean over a whole split, so a row adds up to F(features) - F(reference). Raises UserError.
    """
    weights = weigh_logits(target, contrast, len(features), features.device)
    head, widths = share_weights(model).head, [BACKBONES[name].width for name in model.backbones]
    method = IntegratedGradients(lambda *inputs: (head(torch.cat(inputs[:-1], dim=1)) * inputs[-1]).sum(1))
    rows = []
    for f, w in in_batches(100, features, weights):
        start = reference.expand_as(f).split(widths, dim=1)
        parts = method.attribute(f.split(widths, dim=1), start, additional_forward_args=w, n_steps=300, internal_batch_size=1_000)
        rows.append(torch.stack([part.detach().sum(1) for part in parts], dim=1))
    return torch.cat(rows).cpu().numpy()


@torch.no_grad()
def ablate_branches(model: Classifier, features: torch.Tensor, reference: torch.Tensor) -> dict[str, np.ndarray]:
    """Logits (N, 10) with one backbone's features (N, D) replaced by those of `reference` (D,), for each backbone.

    The reference is meant to be the features' mean over training images; over test images it hardly differs.
    """
    head, start, logits = share_weights(model).head, 0, {}
    for name in model.backbones:
        own = slice(start, start := start + BACKBONES[name].width)
        ablated = features.clone()
        ablated[:, own] = reference[own]
        logits[name] = head(ablated).cpu().numpy()
    return logits
