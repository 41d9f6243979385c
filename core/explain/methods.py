"""The attribution methods, a function each: a Score and a Question -> maps (N, 32, 32) by part.

To add one: its description in METHODS (core/explain/__init__.py), its function here, named alike, and in FUNCTIONS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion, Saliency
from torch import nn

from core.config import BACKBONES, UserError
from core.explain import METHODS, PIECE, WHOLE
from core.explain.score import SIDE, Progress, Question, Score, baseline

TOLERANCE = 0.01  # share of what a branch adds by which its map of Integrated Gradients may miss it
FLOOR = 0.02  # logits that it may miss in any case: 1 % of next to nothing would take steps without end

Maps = dict[str, torch.Tensor]
Array = TypeVar("Array", np.ndarray, torch.Tensor)


def attribute(question: Question, method: str, progress: Progress | None = None, **parameters: float) -> dict[str, np.ndarray]:
    """Maps (N, 32, 32) on the source pixels, in logits or logits a unit of intensity.

    One for each backbone where the method's by_branch is set, else one named WHOLE. `parameters` replace the method's
    defaults. The same call gives the same maps. Raises UserError.
    """
    return {part: one.cpu().numpy() for part, one in compute_maps(question, method, progress, **parameters).items()}


def compute_maps(question: Question, method: str, progress: Progress | None = None, **parameters: float) -> Maps:
    """`attribute` with tensors as results."""
    if method not in METHODS:
        raise UserError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
    chosen = METHODS[method]
    unknown = sorted(parameters.keys() - chosen.parameters.keys())
    if unknown:
        raise UserError(f"{method} has no parameter {', '.join(unknown)}: it takes {', '.join(chosen.parameters) or 'none'}")
    settings = chosen.parameters | parameters
    for name, value in settings.items():
        if not value > 0 or (isinstance(chosen.parameters[name], int) and value != int(value)):
            raise UserError(f"{method}: {name} {value} is not a positive {type(chosen.parameters[name]).__name__}")
    expected = chosen.evaluations(**settings) * len(question.pixels)
    score = Score(question.model, question.image_size, expected, progress)
    maps = COMPUTE[method](score, question, **settings)
    if progress:
        progress(1.0)
    return maps


def whole(maps: dict[str, Array]) -> Array:
    """One map (N, 32, 32) of an attribution's parts: their sum."""
    return reduce(add, maps.values())


def saliency(score: Score, question: Question) -> Maps:
    """Absolute gradient, summed over the colours (Simonyan et al. 2014)."""
    return {WHOLE: gradients(Saliency(score), question)}


def gradients(method: Saliency | GuidedBackprop, question: Question) -> torch.Tensor:
    """What a method that takes one backward pass gives, summed over the colours: (N, 32, 32)."""
    return torch.cat([method.attribute(p.detach().requires_grad_(), additional_forward_args=w).sum(1) for p, w in question.rows()])


def smoothgrad(score: Score, question: Question, samples: int, noise: float) -> Maps:
    """Absolute mean gradient over noisy copies, summed over the colours (Smilkov et al. 2017).

    Images go one by one, each with the same noise, so that a map does not depend on its neighbours in a batch.
    """
    method, maps = Saliency(score), []
    drawn = noise * torch.randn(samples, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(question.pixels)
    for p, w in question.rows(1):
        copies = ((p + one).requires_grad_() for one in drawn.split(question.batch))
        parts = [method.attribute(one, additional_forward_args=w.expand(len(one), -1), abs=False) for one in copies]
        maps.append(torch.cat(parts).mean(0, keepdim=True).abs().sum(1))
    return {WHOLE: torch.cat(maps)}


def guided_backprop(score: Score, question: Question) -> Maps:
    """Size of the gradient whose negative values are dropped at every ReLU and ReLU6 (Springenberg et al. 2015), summed over the colours.

    Its sign tells whether light or dark excites, not what speaks for the score.
    """
    hook_relu6(score.model)
    return {WHOLE: gradients(GuidedBackprop(score), question).abs()}


class HookedReLU6(nn.ReLU):
    """ReLU6 for Captum's Guided Backprop, which hooks nn.ReLU alone: on nn.ReLU6 it would return the plain gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu6(x)


def hook_relu6(module: nn.Module) -> None:
    """Put HookedReLU6 in place of every ReLU6 below `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU6):
            setattr(module, name, HookedReLU6())
        hook_relu6(child)


def grad_cam(score: Score, question: Question) -> Maps:
    """Positive evidence in each backbone's last convolutional block (Selvaraju et al. 2017), drawn out to 32x32."""
    return {name: enlarge(cells.clamp_min(0)) for name, cells in weigh_cells(score, question).items()}


def grad_cam_signed(score: Score, question: Question) -> Maps:
    """grad_cam, with the negative evidence that it cuts off."""
    return {name: enlarge(cells.clamp_min(0)) - enlarge((-cells).clamp_min(0)) for name, cells in weigh_cells(score, question).items()}


def weigh_cells(score: Score, question: Question) -> Maps:
    """Each backbone's last block as seen by the score: its channels weighed by their mean gradients, (N, 1, h, w)."""
    cells = {}
    for name, backbone in score.model.backbones.items():
        method = LayerGradCam(score, getattr(backbone, BACKBONES[name].last_block))
        cells[name] = torch.cat([method.attribute(p, additional_forward_args=w).detach() for p, w in question.rows()])
    return cells


def enlarge(cells: torch.Tensor) -> torch.Tensor:
    """Non-negative cells (N, 1, h, w) drawn out to (N, 32, 32), each image with the total it had."""
    enlarged = LayerAttribution.interpolate(cells, (SIDE, SIDE), interpolate_mode="bilinear")
    total = enlarged.sum((1, 2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return (enlarged * (cells.sum((1, 2, 3), keepdim=True) / total))[:, 0]


def occlusion(score: Score, question: Question, window: int, stride: int) -> Maps:
    """Fall of the score when a square is painted in the baseline's colour, mean over a pixel's squares (Zeiler & Fergus 2014)."""
    if not stride <= window <= SIDE:
        raise UserError(f"occlusion: window {window} and stride {stride} leave pixels out: use stride <= window <= {SIDE}")
    method, maps, shape = Occlusion(score), [], {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}
    for p, w in question.rows():
        options = {"baselines": baseline(p), "additional_forward_args": w, "perturbations_per_eval": question.batch // len(p)}
        maps.append(method.attribute(p, **shape, **options).mean(1))  # colours are equal
    return {WHOLE: torch.cat(maps)}


def integrated_gradients(score: Score, question: Question, steps: int, max_steps: int) -> Maps:
    """Gradient times input over the straight path from the baseline (Sundararajan et al. 2017), by backbone: each sees its own copy.

    Networks bend most where contrast is low, so the path is cut at 1/2, 1/4, 1/8, … and each piece integrated by itself.
    While the map of any backbone misses what that backbone adds (see branch_changes) by more than TOLERANCE and FLOOR allow,
    and `max_steps` are not spent, the piece that is furthest off is halved; score_change tells what the whole misses then.
    """
    maps = [integrate(score, p, w, question.batch, steps, max_steps) for p, w in question.rows()]
    return dict(zip(score.model.backbones, torch.cat(maps).unbind(1), strict=True))


@dataclass(frozen=True)
class Piece:
    """Integrated Gradients over one piece of one image's path."""

    start: float  # shares of the way from the baseline to the image
    end: float
    maps: torch.Tensor  # (backbones, 32, 32)
    change: np.ndarray  # (backbones,) logits that each backbone adds on it

    @property
    def gap(self) -> np.ndarray:
        """(backbones,): by how much each map's total exceeds that."""
        return self.maps.sum((1, 2)).cpu().numpy() - self.change


def integrate(score: Score, pixels: torch.Tensor, weights: torch.Tensor, batch: int, steps: int, max_steps: int) -> torch.Tensor:
    """One batch of integrated_gradients: maps (N, backbones, 32, 32)."""
    edges = [0.0, *(0.5**k for k in reversed(range(-(-steps // PIECE))))]
    pending = [(image, *ends) for image in range(len(pixels)) for ends in pairwise(edges)]
    pieces: list[list[Piece]] = [[] for _ in pixels]
    spent = [PIECE * (len(edges) - 1)] * len(pixels)
    while pending:
        size = max(1, batch // PIECE)
        for chunk in (pending[first : first + size] for first in range(0, len(pending), size)):
            for (image, start, end), maps, change in zip(chunk, *integrate_pieces(score, pixels, weights, chunk), strict=True):
                pieces[image].append(Piece(start, end, maps, change))
        pending = []
        for image, own in enumerate(pieces):
            missed, change = (abs(reduce(add, values)) for values in ([p.gap for p in own], [p.change for p in own]))
            if (missed > np.maximum(TOLERANCE * change, FLOOR)).any() and spent[image] + 2 * PIECE <= max_steps:
                worst = own.pop(max(range(len(own)), key=lambda k: abs(own[k].gap).max()))
                middle = (worst.start + worst.end) / 2
                pending += [(image, worst.start, middle), (image, middle, worst.end)]
                spent[image] += 2 * PIECE
    return torch.stack([reduce(add, (piece.maps for piece in own)) for own in pieces])


def integrate_pieces(
    score: Score, pixels: torch.Tensor, weights: torch.Tensor, pieces: list[tuple[int, float, float]]
) -> tuple[torch.Tensor, np.ndarray]:
    """Maps (P, backbones, 32, 32) of pieces (image, start, end), and what each backbone adds on them (P, backbones)."""
    image = torch.tensor([one[0] for one in pieces], device=pixels.device)
    ends = torch.tensor([one[1:] for one in pieces], device=pixels.device)  # (P, 2)
    ground = baseline(pixels[:1])
    low, high = (ground + share[:, None, None, None] * (pixels[image] - ground) for share in ends.unbind(1))
    copies, options = len(score.model.backbones), {"additional_forward_args": weights[image], "n_steps": PIECE}
    parts = IntegratedGradients(score).attribute((high,) * copies, (low,) * copies, **options)
    return torch.stack([part.detach().sum(1) for part in parts], dim=1), branch_changes(score, low, high, weights[image])


@torch.no_grad()
def branch_changes(score: Score, low: torch.Tensor, high: torch.Tensor, weights: torch.Tensor) -> np.ndarray:
    """What each backbone adds to F(high) - F(low), (N, backbones): F's change when its input goes from low to high.

    The others' inputs are still low in one order and high already in the other; the mean of both orders is, on a short
    piece, what an integral over that backbone's input gives, and the backbones' changes add up to the whole.
    """
    before, after = score.features(low), score.features(high)
    score.count(2 * len(low))
    changes = []
    for order in (range(len(before)), reversed(range(len(before)))):
        features, added = list(before), [torch.empty(0)] * len(before)
        value = (score.model.head(torch.cat(features, dim=1)) * weights).sum(1)
        for branch in order:
            features[branch] = after[branch]
            previous, value = value, (score.model.head(torch.cat(features, dim=1)) * weights).sum(1)
            added[branch] = value - previous
        changes.append(torch.stack(added, dim=1))
    return torch.stack(changes).mean(dim=0).cpu().numpy()


FUNCTIONS = (saliency, integrated_gradients, grad_cam, grad_cam_signed, smoothgrad, occlusion, guided_backprop)
COMPUTE: dict[str, Callable[..., Maps]] = {function.__name__: function for function in FUNCTIONS}
