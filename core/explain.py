"""Why a model answers as it does: Captum's attributions as maps on the 32x32 source pixels, and tests of how far to trust them.

What is explained is a score: a class's logit, or the difference of two, as a function F of the source pixels in [0, 1].
Normalisation and resize belong to F, so the chain rule itself sums an attribution over all a source pixel became: maps
come out as (32, 32) and keep their totals. The baseline, F(0), is an image of ImageNet's mean colour: zero once normalised.

Every call explains a private copy of the module tree that shares the weights: Captum hangs its hooks on modules, and on
shared ones two threads would read each other's. The caller's model keeps its mode, its hooks and its gradients.
"""

import copy
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, IntegratedGradients, LayerAttribution, LayerGradCam, NoiseTunnel, Occlusion, Saliency
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from core.config import BACKBONES, CLASSES, UserError
from core.data import MEAN, to_input
from core.models import Classifier
from core.results import TestImages

warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", module="captum")  # said at every call

SIDE = 32
WHOLE = "whole"  # names a map that is not divided by branch
BATCH = 5  # images a pass; bounds the memory that the backward pass needs
PIECE = 5  # Gauss-Legendre points on one piece of Integrated Gradients' path
TOLERANCE = 0.01  # share of F(x) - F(0) by which a map of Integrated Gradients may miss it
STAGE_NAMES = ("1/32", "1/16", "1/8", "1/4", "1/2")  # of the input's side: what a backbone's stages compute, from the top down

Classes = int | Sequence[int]  # one class for all images, or one an image
Progress = Callable[[float], None]  # told the share that is done; what it raises ends the computation
_GLOBAL_RANDOMNESS = threading.RLock()


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed torch's global generators for code that takes no generator of its own; one thread at a time, restored after."""
    with _GLOBAL_RANDOMNESS, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def part_of(progress: Progress | None, start: float, share: float) -> Progress | None:
    """The progress of a step that begins at `start` of the whole and is `share` of it."""
    return progress and (lambda fraction: progress(start + share * fraction))


# --- what is explained -----------------------------------------------------------------------------------------------


def share_weights(model: Classifier) -> Classifier:
    """A copy of the module tree in eval mode; its frozen parameters and its buffers are the model's own memory."""
    frozen = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, frozen | {id(b): b for b in model.buffers()}).eval()


class Score(nn.Module):
    """F: pixels in [0, 1] (N, 3, 32, 32) and a contrast (N, 10) -> scores (N,), the logits weighed by the contrast.

    Given the pixels once a backbone, each backbone sees its own.
    """

    def __init__(self, model: Classifier, image_size: int, expected: float = 0, progress: Progress | None = None):
        super().__init__()
        self.model = share_weights(model)
        self.image_size = image_size
        self.expected, self.evaluated, self.progress = expected, 0, progress  # images

    def logits(self, *pixels: torch.Tensor) -> torch.Tensor:
        inputs = [to_input(one, self.image_size) for one in pixels]
        if len(inputs) == 1:
            return self.model(inputs[0])
        features = [backbone(x) for backbone, x in zip(self.model.backbones.values(), inputs, strict=True)]
        return self.model.head(torch.cat(features, dim=1))

    def forward(self, *pixels_and_contrast: torch.Tensor) -> torch.Tensor:
        *pixels, contrast = pixels_and_contrast
        self.evaluated += len(contrast)
        if self.progress and self.expected:
            self.progress(min(1.0, self.evaluated / self.expected))
        return (self.logits(*pixels) * contrast).sum(1)


def make_contrast(target: Classes, minus: Classes | None, n: int, device: torch.device) -> torch.Tensor:
    """Weights (n, 10) of the logits: 1 for the target class, -1 for `minus` where given. Raises UserError."""
    contrast = torch.zeros(n, len(CLASSES), device=device)
    for name, value, weight in (("target", target, 1.0), ("minus", minus, -1.0)):
        if value is None:
            continue
        classes = np.asarray(value)
        if classes.dtype.kind not in "iu" or classes.shape not in ((), (n,)):
            raise UserError(f"{name} {value!r}: give one class position, or one for each of the {n} images")
        outside = classes[(classes < 0) | (classes >= len(CLASSES))]
        if outside.size:
            raise UserError(f"{name} {outside[0]} is not a class: they are 0 to {len(CLASSES) - 1}")
        contrast[range(n), np.broadcast_to(classes, n).tolist()] += weight
    if (contrast == 0).all(dim=1).any():
        raise UserError("target and minus are the same class, so their difference is always 0: choose two")
    return contrast


def pick_images(test_images: TestImages, index: Sequence[int]) -> torch.Tensor:
    """Test images by position, uint8 (N, 3, 32, 32). Raises UserError."""
    last = len(test_images.labels) - 1
    for one in index:
        if not 0 <= one <= last:
            raise UserError(f"image {one} does not exist: the test images are 0 to {last}")
    return torch.from_numpy(np.stack([test_images.decode(one) for one in index])).permute(0, 3, 1, 2).contiguous()


def to_pixels(model: Classifier, images: torch.Tensor) -> torch.Tensor:
    """uint8 or [0, 1] float images (N, 3, 32, 32) -> float in [0, 1] on the model's device. Raises UserError."""
    if images.ndim != 4 or images.shape[1:] != (3, SIDE, SIDE) or len(images) == 0:
        raise UserError(f"the images' shape is {tuple(images.shape)}: it must be (N, 3, {SIDE}, {SIDE})")
    images = images.to(next(model.parameters()).device)
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def baseline(pixels: torch.Tensor) -> torch.Tensor:
    """The image with nothing to see, for each of `pixels` (N, 3, 32, 32): ImageNet's mean colour."""
    return torch.tensor(MEAN, device=pixels.device)[None, :, None, None].expand_as(pixels)


@torch.no_grad()
def score_change(model: Classifier, images: torch.Tensor, target: Classes, image_size: int, minus: Classes | None = None) -> np.ndarray:
    """F(x) - F(0), (N,) logits: what the maps of Integrated Gradients add up to. Raises UserError."""
    pixels = to_pixels(model, images)
    contrast = make_contrast(target, minus, len(pixels), pixels.device)
    score = Score(model, image_size)
    changes = [score(p, c) - score(baseline(p), c) for p, c in in_batches(BATCH, pixels, contrast)]
    return torch.cat(changes).cpu().numpy()


def in_batches(size: int, *tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Rows of all tensors, at most `size` at a time."""
    return zip(*(t.split(size) for t in tensors), strict=True)


# --- the methods: a Score, pixels (N, 3, 32, 32), a contrast (N, 10), images a pass -> maps (N, 32, 32) by part ------

Maps = dict[str, torch.Tensor]


def saliency(score: Score, pixels: torch.Tensor, contrast: torch.Tensor, batch: int) -> Maps:
    """Absolute gradient, summed over the colours (Simonyan et al. 2014)."""
    method = Saliency(score)
    maps = [method.attribute(p.detach().requires_grad_(), additional_forward_args=c) for p, c in in_batches(batch, pixels, contrast)]
    return {WHOLE: torch.cat(maps).sum(1)}


def smoothgrad(score: Score, pixels: torch.Tensor, contrast: torch.Tensor, batch: int, samples: int, noise: float) -> Maps:
    """Absolute mean gradient over noisy copies, summed over the colours (Smilkov et al. 2017).

    Images go one by one, each with the same noise, so that a map does not depend on its neighbours in a batch.
    """
    method, maps = NoiseTunnel(Saliency(score)), []
    for p, c in in_batches(1, pixels, contrast):
        with global_seed(0):
            options = {"nt_samples": samples, "nt_samples_batch_size": min(batch, samples), "stdevs": float(noise), "abs": False}
            maps.append(method.attribute(p, nt_type="smoothgrad", additional_forward_args=c, **options).abs().sum(1))
    return {WHOLE: torch.cat(maps)}


def guided_backprop(score: Score, pixels: torch.Tensor, contrast: torch.Tensor, batch: int) -> Maps:
    """Gradient whose negative values are dropped at every ReLU and ReLU6 (Springenberg et al. 2015), summed over the colours."""
    hook_relu6(score.model)
    method = GuidedBackprop(score)
    maps = [method.attribute(p.detach().requires_grad_(), additional_forward_args=c) for p, c in in_batches(batch, pixels, contrast)]
    return {WHOLE: torch.cat(maps).sum(1)}


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


def grad_cam(score: Score, pixels: torch.Tensor, contrast: torch.Tensor, batch: int) -> Maps:
    """Positive evidence in each backbone's last convolutional block (Selvaraju et al. 2017), drawn out to 32x32.

    The bilinear enlargement is rescaled so that a map keeps the total of the block's few cells.
    """
    maps = {}
    for name, backbone in score.model.backbones.items():
        method, parts = LayerGradCam(score, getattr(backbone, BACKBONES[name].last_block)), []
        for p, c in in_batches(batch, pixels, contrast):
            cells = method.attribute(p, additional_forward_args=c, relu_attributions=True).detach()  # (B, 1, h, w)
            enlarged = LayerAttribution.interpolate(cells, (SIDE, SIDE), interpolate_mode="bilinear")
            total = enlarged.sum((1, 2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
            parts.append((enlarged * (cells.sum((1, 2, 3), keepdim=True) / total))[:, 0])
        maps[name] = torch.cat(parts)
    return maps


def occlusion(score: Score, pixels: torch.Tensor, contrast: torch.Tensor, batch: int, window: int, stride: int) -> Maps:
    """Fall of the score when a square is painted in the baseline's colour, mean over a pixel's squares (Zeiler & Fergus 2014)."""
    if not stride <= window <= SIDE:
        raise UserError(f"occlusion: window {window} and stride {stride} leave pixels out: use stride <= window <= {SIDE}")
    method, maps = Occlusion(score), []
    for p, c in in_batches(batch, pixels, contrast):
        options = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride), "perturbations_per_eval": batch // len(p)}
        maps.append(method.attribute(p, baselines=baseline(p), additional_forward_args=c, **options).mean(1))  # colours are equal
    return {WHOLE: torch.cat(maps)}


def integrated_gradients(score: Score, pixels: torch.Tensor, contrast: torch.Tensor, batch: int, steps: int, max_steps: int) -> Maps:
    """Gradient times input over the straight path from the baseline (Sundararajan et al. 2017), by backbone: each sees its own copy.

    Networks bend most where contrast is low, so the path is cut at 1/2, 1/4, 1/8, … and each piece integrated by itself.
    While a map misses F(x) - F(0) by more than TOLERANCE and `max_steps` allow, the piece that is furthest off its own
    change of the score is halved; score_change tells what is missing then.
    """
    maps = [integrate(score, p, c, batch, steps, max_steps) for p, c in in_batches(batch, pixels, contrast)]
    return dict(zip(score.model.backbones, torch.cat(maps).unbind(1), strict=True))


def integrate(score: Score, pixels: torch.Tensor, contrast: torch.Tensor, batch: int, steps: int, max_steps: int) -> torch.Tensor:
    """One batch of integrated_gradients: maps (N, backbones, 32, 32)."""
    method, copies = IntegratedGradients(score), len(score.model.backbones)
    edges = [0.0, *(0.5**k for k in reversed(range(-(-steps // PIECE))))]
    pending = [(image, start, end) for image in range(len(pixels)) for start, end in pairwise(edges)]
    pieces = [[] for _ in pixels]  # an image's (gap, change of the score, start, end, map)
    spent = [PIECE * (len(edges) - 1)] * len(pixels)
    ground = baseline(pixels[:1])
    while pending:
        for first in range(0, len(pending), max(1, batch // PIECE)):
            chunk = pending[first : first + max(1, batch // PIECE)]
            image = torch.tensor([one[0] for one in chunk], device=pixels.device)
            ends = torch.tensor([one[1:] for one in chunk], device=pixels.device)  # (B, 2)
            low, high = (ground + share[:, None, None, None] * (pixels[image] - ground) for share in ends.unbind(1))
            options = {"additional_forward_args": contrast[image], "n_steps": PIECE}
            parts = method.attribute((high,) * copies, (low,) * copies, **options)
            maps = torch.stack([part.detach().sum(1) for part in parts], dim=1)  # (B, backbones, 32, 32)
            with torch.no_grad():
                change = score(high, contrast[image]) - score(low, contrast[image])
            gap = maps.sum((1, 2, 3)) - change
            for (i, start, end), *values, piece in zip(chunk, gap.tolist(), change.tolist(), maps, strict=True):
                pieces[i].append((*values, start, end, piece))
        pending = []
        for i, own in enumerate(pieces):
            missed, change = (abs(sum(piece[column] for piece in own)) for column in (0, 1))
            if missed > TOLERANCE * change and spent[i] + 2 * PIECE <= max_steps:
                worst = max(range(len(own)), key=lambda k: abs(own[k][0]))
                _, _, start, end, _ = own.pop(worst)
                pending += [(i, start, (start + end) / 2), (i, (start + end) / 2, end)]
                spent[i] += 2 * PIECE
    return torch.stack([sum(piece[-1] for piece in own) for own in pieces])


@dataclass(frozen=True)
class Method:
    """What a reader must know of a method, and how to compute it."""

    label: str
    meaning: str
    misleads: str
    compute: Callable[..., Maps]
    parameters: dict[str, float]  # defaults
    evaluations: Callable[..., float]  # images put through the model for one map, at most
    signed: bool  # may a map be negative?
    by_branch: bool = False  # one map a backbone, which add up to the whole


METHODS = {
    "saliency": Method(
        "Saliency",
        "How strongly the score reacts to a small change of each pixel, up or down.",
        "Noisy, and silent about evidence the model is already sure of: where the score is flat, the gradient vanishes.",
        saliency,
        {},
        lambda: 1,
        signed=False,
    ),
    "integrated_gradients": Method(
        "Integrated Gradients",
        "How many logits each pixel adds or takes on the way from a plain grey image to this one; the map adds up to the whole change.",
        "A pixel of the baseline's grey gets nothing, however much it matters; the image is a factor of its map and so shows through.",
        integrated_gradients,
        {"steps": 25, "max_steps": 100},
        lambda steps, max_steps: max(steps, max_steps) * (PIECE + 2) / PIECE,
        signed=True,
        by_branch=True,
    ),
    "grad_cam": Method(
        "Grad-CAM",
        "Where the last convolution of each backbone saw evidence for the target.",
        "Coarse: at 96 pixels it knows only 3x3 places; evidence against the target is cut off, and an earlier layer may tell otherwise.",
        grad_cam,
        {},
        lambda: 2,
        signed=False,
        by_branch=True,
    ),
    "smoothgrad": Method(
        "SmoothGrad",
        "The gradient's strength averaged over noisy copies of the image: what of it is stable.",
        "Shows the noisy images' gradients: much noise explains images the model was never trained on.",
        smoothgrad,
        {"samples": 25, "noise": 0.1},  # noise: standard deviation, of the pixels' range
        lambda samples, noise: samples,
        signed=False,
    ),
    "occlusion": Method(
        "Occlusion",
        "By how many logits the score falls when a square of the mean colour hides a place.",
        "The painted square is itself new to the model; evidence that lies in two places goes unnoticed, and detail finer than it is lost.",
        occlusion,
        {"window": 8, "stride": 4},  # pixels
        lambda window, stride: (-(-(SIDE - window) // stride) + 1) ** 2 + 1,
        signed=True,
    ),
    "guided_backprop": Method(
        "Guided Backprop",
        "The gradient along paths on which every ReLU passes a positive one: sharp outlines of what excites the target.",
        "Close to an edge detector: it changes little when upper layers are randomised, so it says more of the image than of the model.",
        guided_backprop,
        {},
        lambda: 1,
        signed=True,
    ),
}


def explain(
    model: Classifier,
    pixels: torch.Tensor,
    contrast: torch.Tensor,
    method: str,
    image_size: int,
    batch: int,
    progress: Progress | None,
    parameters: dict[str, float],
) -> Maps:
    """`attribute` on pixels and contrast, with tensors as results."""
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
    score = Score(model, image_size, chosen.evaluations(**settings) * len(pixels), progress)
    maps = chosen.compute(score, pixels, contrast, batch, **settings)
    if progress:
        progress(1.0)
    return maps


def attribute(
    model: Classifier,
    images: torch.Tensor,
    target: Classes,
    method: str,
    image_size: int,
    minus: Classes | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
    **parameters: float,
) -> dict[str, np.ndarray]:
    """Explain the target's logit, or how far it exceeds `minus`'s, for images (N, 3, 32, 32), uint8 or float in [0, 1].

    Returns maps (N, 32, 32) on the source pixels, in logits or logits a unit of intensity: one for each backbone where
    the method's by_branch is set, else one named WHOLE. `batch` images pass the model at once; `parameters` replace the
    method's defaults. The same call gives the same maps. Raises UserError.
    """
    pixels = to_pixels(model, images)
    contrast = make_contrast(target, minus, len(pixels), pixels.device)
    maps = explain(model, pixels, contrast, method, image_size, batch, progress, parameters)
    return {part: one.cpu().numpy() for part, one in maps.items()}


def whole(maps: dict[str, np.ndarray]) -> np.ndarray:
    """One map (N, 32, 32) of an attribution's parts: their sum."""
    return sum(maps.values())


# --- inside the fusion -----------------------------------------------------------------------------------------------


@torch.no_grad()
def extract_features(
    model: Classifier, images: torch.Tensor, image_size: int, batch: int = 50, progress: Progress | None = None
) -> torch.Tensor:
    """All backbones' features side by side, (N, D), on the model's device. Raises UserError."""
    score, features = Score(model, image_size), []
    pixels = to_pixels(model, images)
    for (p,) in in_batches(batch, pixels):
        features.append(score.model.forward_features(to_input(p, image_size)))
        if progress:
            progress(min(1.0, len(features) * batch / len(pixels)))
    return torch.cat(features)


def branch_contributions(
    model: Classifier, features: torch.Tensor, reference: torch.Tensor, target: Classes, minus: Classes | None = None
) -> np.ndarray:
    """What each backbone's features add to the score, (N, backbones) logits: Integrated Gradients of the head alone.

    `features` are extract_features' (N, D); the path starts at `reference` (D,), say their mean over a whole split, so a
    row adds up to F(features) - F(reference). Cheap: no backbone is run. Raises UserError.
    """
    contrast = make_contrast(target, minus, len(features), features.device)
    head, widths = share_weights(model).head, [BACKBONES[name].width for name in model.backbones]
    method = IntegratedGradients(lambda *inputs: (head(torch.cat(inputs[:-1], dim=1)) * inputs[-1]).sum(1))
    rows = []
    for f, c in in_batches(100, features, contrast):
        start = reference.expand_as(f).split(widths, dim=1)
        parts = method.attribute(f.split(widths, dim=1), start, additional_forward_args=c, n_steps=300, internal_batch_size=1_000)
        rows.append(torch.stack([part.detach().sum(1) for part in parts], dim=1))
    return torch.cat(rows).cpu().numpy()


@torch.no_grad()
def ablate_branches(model: Classifier, features: torch.Tensor, reference: torch.Tensor) -> dict[str, np.ndarray]:
    """Logits (N, 10) with one backbone's features (N, D) replaced by those of `reference` (D,), for each backbone.

    The reference is meant to be the features' mean over training images; over test images it hardly differs.
    """
    head, start, logits = share_weights(model).head, 0, {}
    for name in model.backbones:
        ablated = features.clone()
        ablated[:, start : start + BACKBONES[name].width] = reference[start : start + BACKBONES[name].width]
        logits[name] = head(ablated).cpu().numpy()
        start += BACKBONES[name].width
    return logits


# --- how far to trust a map ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Randomization:
    """The maps of a model whose layers, down to `stage`, are random, and their likeness to the trained model's."""

    stage: str
    maps: np.ndarray  # (N, 32, 32)
    correlation: np.ndarray  # (N,) Spearman's, of the maps as they are
    absolute_correlation: np.ndarray  # (N,) of the maps without their signs


def randomize_cascade(
    model: Classifier,
    images: torch.Tensor,
    target: Classes,
    method: str,
    image_size: int,
    minus: Classes | None = None,
    batch: int = BATCH,
    seed: int = 0,
    progress: Progress | None = None,
    **parameters: float,
) -> list[Randomization]:
    """The sanity check of Adebayo et al. 2018: draw weights anew from the top down; a map that stays explains no weights.

    Seven stages: trained, head, then the backbones' blocks from 1/32 of the input's side to 1/2. New weights and BatchNorm
    statistics are a training's first (He et al. 2015, so that signals keep their size). Takes seven times as long as
    `attribute`. Raises UserError.
    """
    pixels = to_pixels(model, images)
    contrast = make_contrast(target, minus, len(pixels), pixels.device)
    fresh = copy.deepcopy(model)
    with global_seed(seed):
        for module in fresh.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    paths = [
        ["head"],
        *([f"backbones.{n}.{path}" for n in model.backbones for path in BACKBONES[n].stages[i]] for i in range(len(STAGE_NAMES))),
    ]
    mixed, stages = share_weights(model), []
    for i, (stage, replaced) in enumerate(zip(("trained", "head", *STAGE_NAMES), [[], *paths], strict=True)):
        for path in replaced:
            mixed.set_submodule(path, fresh.get_submodule(path))
        share = 1 / (len(paths) + 1)
        maps = whole(explain(mixed, pixels, contrast, method, image_size, batch, part_of(progress, i * share, share), parameters))
        maps = maps.cpu().numpy()
        trained = stages[0].maps if stages else maps
        correlations = [rank_correlation(*pair) for pair in ((trained, maps), (abs(trained), abs(maps)))]
        stages.append(Randomization(stage, maps, *correlations))
    return stages


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of maps (N, 32, 32), one an image; 0 where a map is constant and so orders nothing."""
    from scipy.stats import spearmanr

    flat = zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True)
    return np.array([spearmanr(x, y).statistic if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0 for x, y in flat])


def measure_infidelity(
    model: Classifier,
    images: torch.Tensor,
    maps: np.ndarray,
    target: Classes,
    image_size: int,
    minus: Classes | None = None,
    window: int = 8,
    samples: int = 50,
    batch: int = BATCH,
    seed: int = 0,
    progress: Progress | None = None,
) -> np.ndarray:
    """Share (N,) of the score's changes that maps (N, 32, 32) fail to tell, from 0 (none) to 1 (no better than no map).

    Captum's normalised infidelity (Yeh et al. 2019) under random squares of the baseline's colour, the same for all
    images, over that of an empty map. Raises UserError.
    """
    pixels = to_pixels(model, images)
    contrast = make_contrast(target, minus, len(pixels), pixels.device)
    score, shares = Score(model, image_size), []
    explanations = torch.from_numpy(maps).to(pixels)[:, None]  # (N, 1, 32, 32)
    for i, (p, c, explanation) in enumerate(in_batches(1, pixels, contrast, explanations)):
        missed, everything = (
            square_infidelity(score, p, c, one, window, samples, batch, seed) for one in (explanation, torch.zeros_like(explanation))
        )
        shares.append(missed / everything if everything > 0 else 0.0)
        if progress:
            progress((i + 1) / len(pixels))
    return np.array(shares)


def square_infidelity(
    score: Score, p: torch.Tensor, c: torch.Tensor, explanation: torch.Tensor, window: int, samples: int, batch: int, seed: int
) -> float:
    """Captum's normalised infidelity of one map, in squared logits; what it perturbs is the share of each pixel that is kept."""
    generator = torch.Generator().manual_seed(seed)

    def paint(kept: torch.Tensor) -> torch.Tensor:
        return score(baseline(p) + kept * (p - baseline(p)), c.expand(len(kept), -1))

    def perturb(kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        squares = draw_squares(len(kept), window, generator).to(kept)
        return squares, kept - squares

    options = {"n_perturb_samples": samples, "max_examples_per_batch": batch, "normalize": True}
    return infidelity(paint, perturb, torch.ones_like(explanation), explanation, **options).item()


def draw_squares(n: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Masks (n, 1, 32, 32) with one random square of ones each."""
    corner = torch.randint(0, SIDE - side + 1, (2, n, 1), generator=generator)
    inside = (torch.arange(SIDE) >= corner) & (torch.arange(SIDE) < corner + side)  # (2, n, 32): rows, columns
    return (inside[0, :, :, None] & inside[1, :, None, :])[:, None].float()


def measure_sensitivity(
    model: Classifier,
    images: torch.Tensor,
    target: Classes,
    method: str,
    image_size: int,
    minus: Classes | None = None,
    radius: float = 0.02,
    samples: int = 10,
    batch: int = BATCH,
    seed: int = 0,
    progress: Progress | None = None,
    **parameters: float,
) -> np.ndarray:
    """Largest relative change (N,) of a method's map while pixels move by up to `radius`: Captum's max-sensitivity (Yeh et al. 2019).

    Above 1 a map changes by more than its own size under noise nobody sees. Takes `samples` + 1 times as long as
    `attribute`. Raises UserError.
    """
    pixels = to_pixels(model, images)
    contrast = make_contrast(target, minus, len(pixels), pixels.device)
    generator, done, total = torch.Generator().manual_seed(seed), 0, len(pixels) * (samples + 1)

    def perturb(pixels: torch.Tensor) -> torch.Tensor:
        return pixels + radius * (2 * torch.rand(pixels.shape, generator=generator).to(pixels) - 1)

    def explanation(pixels: torch.Tensor | tuple[torch.Tensor], additional_forward_args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        nonlocal done
        pixels = pixels[0] if isinstance(pixels, tuple) else pixels
        step = part_of(progress, done / total, len(pixels) / total)
        done += len(pixels)
        maps = explain(model, pixels, additional_forward_args[0], method, image_size, batch, step, parameters)
        return (whole(maps),)  # in a tuple, since Captum first gives the pixels in one

    return sensitivity_max(explanation, pixels, perturb, n_perturb_samples=samples, additional_forward_args=(contrast,)).cpu().numpy()


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
def trace_curves(
    model: Classifier,
    images: torch.Tensor,
    maps: np.ndarray,
    target: Classes,
    image_size: int,
    minus: Classes | None = None,
    steps: int = 32,
    batch: int = 50,
    progress: Progress | None = None,
) -> Curves:
    """Deletion and insertion curves (Petsiuk et al. 2018) of maps (N, 32, 32); a pixel taken away has the baseline's colour.

    With `minus`, the probability is of the target against that class alone. Raises UserError.
    """
    pixels = to_pixels(model, images)
    contrast = make_contrast(target, minus, len(pixels), pixels.device)
    score, curves = Score(model, image_size), []
    order = np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable")
    rank = torch.from_numpy(np.argsort(order, axis=1)).reshape(-1, 1, 1, SIDE, SIDE).to(pixels.device)  # 0: most important
    fraction = np.linspace(0, 1, steps + 1)
    first = rank < torch.from_numpy(fraction * SIDE**2).to(pixels).reshape(-1, 1, 1, 1)  # (N, S, 1, 32, 32)
    for i, (p, c) in enumerate(in_batches(1, pixels, contrast)):
        ground, involved = baseline(p), (c != 0) | (c >= 0).all()  # without `minus`, all classes
        painted = torch.cat([torch.where(first[i], ground, p), torch.where(first[i], p, ground)])  # (2S, 3, 32, 32)
        logits = torch.cat([score.logits(one) for (one,) in in_batches(batch, painted)])
        curves.append(logits.masked_fill(~involved, -torch.inf).softmax(1)[:, c[0] > 0].reshape(2, -1))
        if progress:
            progress((i + 1) / len(pixels))
    deletion, insertion = torch.stack(curves, dim=1).cpu().numpy()
    return Curves(fraction, deletion, insertion)
