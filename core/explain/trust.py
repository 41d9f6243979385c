"""How far to trust a map: does it follow the weights, the pixels, the score?"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from captum.metrics import sensitivity_max
from torch import nn

from core.config import BACKBONES
from core.explain.methods import compute_maps, whole
from core.explain.score import SIDE, Progress, Question, Score, baseline, in_batches, part_of, share_weights
from core.models import Classifier

STAGES = ("1/32", "1/16", "1/8", "1/4", "1/2")  # of a backbone, from the top down: the side of what it computes, of the input's


@dataclass(frozen=True)
class Randomization:
    """The maps of a model whose layers, down to `stage`, are random, and their likeness to the trained model's."""

    stage: str
    maps: np.ndarray  # (N, 32, 32)
    correlation: np.ndarray  # (N,) Spearman's, of the maps as they are
    absolute_correlation: np.ndarray  # (N,) of the maps without their signs


def randomize(question: Question, method: str, seed: int = 0, progress: Progress | None = None, **parameters: float) -> list[Randomization]:
    """The sanity check of Adebayo et al. 2018: draw weights anew from the top down; a map that stays explains no weights.

    Seven stages: trained, head, then the backbones' STAGES. New weights and BatchNorm statistics are a training's first
    (He et al. 2015, so that signals keep their size). Takes seven times as long as `attribute`. Raises UserError.
    """
    fresh, mixed = draw_weights(question.model, seed), share_weights(question.model)
    stages: list[Randomization] = []
    paths = [["head"], *([f"backbones.{n}.{path}" for n in fresh.backbones for path in BACKBONES[n].stages[i]] for i in range(len(STAGES)))]
    for i, (stage, replaced) in enumerate(zip(("trained", "head", *STAGES), [[], *paths], strict=True)):
        for path in replaced:
            mixed.set_submodule(path, fresh.get_submodule(path))
        step = part_of(progress, i / (len(paths) + 1), 1 / (len(paths) + 1))
        maps = whole(compute_maps(replace(question, model=mixed), method, step, **parameters)).cpu().numpy()
        trained = stages[0].maps if stages else maps
        correlations = [rank_correlation(*pair) for pair in ((trained, maps), (abs(trained), abs(maps)))]
        stages.append(Randomization(stage, maps, *correlations))
    return stages


def draw_weights(model: Classifier, seed: int) -> Classifier:
    """A copy of a model with the weights and BatchNorm statistics that a training begins with."""
    fresh, generator = copy.deepcopy(model).cpu(), torch.Generator().manual_seed(seed)
    for module in fresh.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):  # as torch does, but with a generator of its own
            nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
            bound = module.in_features**-0.5
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif callable(reset := getattr(module, "reset_parameters", None)):  # normalisation, which draws nothing
            reset()
    return fresh.to(next(model.parameters()).device)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of maps (N, 32, 32), one an image; 0 where a map is constant and so orders nothing."""
    from scipy.stats import spearmanr

    flat = zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True)
    return np.array([spearmanr(x, y).statistic if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0 for x, y in flat])


@torch.no_grad()
def measure_infidelity(
    question: Question, maps: np.ndarray, window: int = 8, samples: int = 50, seed: int = 0, progress: Progress | None = None
) -> np.ndarray:
    """Share (N,) of the score's changes that maps (N, 32, 32) fail to tell, from 0 (none) to 1 (no better than no map).

    Infidelity (Yeh et al. 2019) under random squares of the baseline's colour, the same for all images, over that of an empty map.
    Maps may be of any scale, but not of the opposite sign, which Captum's normalised infidelity does not tell apart.
    """
    score, shares = Score(question.model, question.image_size, (samples + 1) * len(maps), progress), []
    squares = draw_squares(samples, window, torch.Generator().manual_seed(seed)).to(question.pixels)
    for p, w, one in in_batches(1, question.pixels, question.weights, torch.from_numpy(maps).to(question.pixels)[:, None]):
        hidden = [score(p + square * (baseline(p) - p), w.expand(len(square), -1)) for square in squares.split(question.batch)]
        change, told = (score(p, w) - torch.cat(hidden)).double(), (one * squares).sum((1, 2, 3)).double()
        explained = (told @ change).clamp_min(0) ** 2 / (told @ told) if told.any() else 0.0
        shares.append(1 - float(explained / (change @ change)) if change.any() else 0.0)
    if progress:
        progress(1.0)
    return np.array(shares)


def draw_squares(n: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Masks (n, 1, 32, 32) with one random square of ones each."""
    corner = torch.randint(0, SIDE - side + 1, (2, n, 1), generator=generator)
    inside = (torch.arange(SIDE) >= corner) & (torch.arange(SIDE) < corner + side)  # (2, n, 32): rows, columns
    return (inside[0, :, :, None] & inside[1, :, None, :])[:, None].float()


def measure_sensitivity(
    question: Question,
    method: str,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
    **parameters: float,
) -> np.ndarray:
    """Largest relative change (N,) of a method's map while pixels move by up to `radius`: Captum's max-sensitivity (Yeh et al. 2019).

    Above 1 a map changes by more than its own size under noise nobody sees. Takes `samples` + 1 times as long as
    `attribute`. Raises UserError.
    """
    generator, done, total = torch.Generator().manual_seed(seed), 0, len(question.pixels) * (samples + 1)

    def perturb(pixels: torch.Tensor) -> torch.Tensor:
        return pixels + radius * (2 * torch.rand(pixels.shape, generator=generator).to(pixels) - 1)

    def explanation(pixels: torch.Tensor | tuple[torch.Tensor], additional_forward_args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        nonlocal done
        pixels = pixels[0] if isinstance(pixels, tuple) else pixels
        step = part_of(progress, done / total, len(pixels) / total)
        done += len(pixels)
        nudged = replace(question, pixels=pixels, weights=additional_forward_args[0])
        return (whole(compute_maps(nudged, method, step, **parameters)),)  # in a tuple, since Captum first gives the pixels in one

    options = {"n_perturb_samples": samples, "additional_forward_args": (question.weights,)}
    return sensitivity_max(explanation, question.pixels, perturb, **options).cpu().numpy()


@dataclass(frozen=True)
class Curves:
    """Probability of the target while pixels are taken away or put in, those a map holds most important first."""

    fraction: np.ndarray  # (S,) of the pixels
    deletion: np.ndarray  # (N, S)
    insertion: np.ndarray  # (N, S)

    @property
    def deletion_area(self) -> np.ndarray:
        """(N,), in [0, 1]; low is good."""
        return np.trapezoid(self.deletion, self.fraction)

    @property
    def insertion_area(self) -> np.ndarray:
        """(N,), in [0, 1]; high is good."""
        return np.trapezoid(self.insertion, self.fraction)


@torch.no_grad()
def trace_curves(question: Question, maps: np.ndarray, steps: int = 32, progress: Progress | None = None) -> Curves:
    """Deletion and insertion curves (Petsiuk et al. 2018) of maps (N, 32, 32); a pixel taken away has the baseline's colour.

    With a contrast class, the probability is of the target against that class alone.
    """
    score, curves = Score(question.model, question.image_size, 2 * (steps + 1) * len(maps), progress), []
    order = np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable")
    rank = torch.from_numpy(np.argsort(order, axis=1)).reshape(-1, 1, 1, SIDE, SIDE).to(question.pixels.device)  # 0: most important
    fraction = np.linspace(0, 1, steps + 1)
    first = rank < torch.from_numpy(fraction * SIDE**2).to(question.pixels).reshape(-1, 1, 1, 1)  # (N, S, 1, 32, 32)
    for i, (p, w) in enumerate(question.rows(1)):
        ground, involved = baseline(p), (w != 0) | (w >= 0).all()  # without a contrast class, all classes
        painted = torch.cat([torch.where(first[i], ground, p), torch.where(first[i], p, ground)])  # (2S, 3, 32, 32)
        parts = []
        for one in painted.split(2 * question.batch):
            parts.append(score.logits(one))
            score.count(len(one))
        logits = torch.cat(parts)
        curves.append(logits.masked_fill(~involved, -torch.inf).softmax(1)[:, w[0] > 0].reshape(2, -1))
    deletion, insertion = torch.stack(curves, dim=1).cpu().numpy()
    return Curves(fraction, deletion, insertion)
