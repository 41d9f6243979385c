"""What is explained: a class's logit, or the difference of two, as a function F of the source pixels in [0, 1].

Normalisation and resize belong to F, so the chain rule itself sums an attribution over all a source pixel became: maps
come out as (32, 32) and keep their totals. The baseline, F(0), is an image of ImageNet's mean colour: zero once normalised.

Every call explains a private copy of the module tree that shares the weights: Captum hangs its hooks on modules, and on
shared ones two threads would read each other's. The caller's model keeps its mode, its hooks and its gradients.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from core.config import CLASSES, UserError
from core.data import MEAN, to_input
from core.models import Classifier
from core.results import TestImages

warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", module="captum")  # said at every call

SIDE = 32
BATCH = 5  # images a pass; bounds the memory that the backward pass needs

Classes = int | Sequence[int]  # one class for all images, or one an image
Progress = Callable[[float], None]  # told the share that is done; what it raises ends the computation


def part_of(progress: Progress | None, start: float, share: float) -> Progress | None:
    """The progress of a step that begins at `start` of the whole and is `share` of it."""
    return progress and (lambda fraction: progress(start + share * fraction))


@dataclass(frozen=True)
class Question:
    """Why does `model` give these pixels this score? Made by Question.about."""

    model: Classifier
    image_size: int  # of what the network sees
    pixels: torch.Tensor  # (N, 3, 32, 32) in [0, 1], on the model's device
    weights: torch.Tensor  # (N, 10): the score is the logits weighed by them
    batch: int = BATCH  # images that pass the model at once

    @classmethod
    def about(
        cls, model: Classifier, images: torch.Tensor, target: Classes, image_size: int, contrast: Classes | None = None, batch: int = BATCH
    ) -> "Question":
        """The target's logit, or how far it exceeds the contrast class's, for images (N, 3, 32, 32), uint8 or float in [0, 1].

        Raises UserError on another shape, and on classes that do not exist or are the same.
        """
        pixels = to_pixels(model, images)
        return cls(model, image_size, pixels, weigh_logits(target, contrast, len(pixels), pixels.device), batch)

    def rows(self, size: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Pixels and weights of at most `size` images at a time; by default, of `batch`."""
        size = size or self.batch
        return zip(self.pixels.split(size), self.weights.split(size), strict=True)


def share_weights(model: Classifier) -> Classifier:
    """A copy of the module tree in eval mode; its frozen parameters and its buffers are the model's own memory."""
    frozen = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, frozen | {id(b): b for b in model.buffers()}).eval()


class Score(nn.Module):
    """F: pixels in [0, 1] (N, 3, 32, 32) and weights of the logits (N, 10) -> scores (N,).

    Given the pixels once a backbone, each backbone sees its own. `expected` is the number of images that a whole computation
    puts through the model; `progress` is told the share of it that is done.
    """

    def __init__(self, model: Classifier, image_size: int, expected: float = 0, progress: Progress | None = None) -> None:
        super().__init__()
        self.model = share_weights(model)
        self.image_size = image_size
        self.expected, self.evaluated, self.progress = expected, 0, progress  # images

    def features(self, *pixels: torch.Tensor) -> list[torch.Tensor]:
        """Each backbone's features (N, its width)."""
        inputs = [to_input(one, self.image_size) for one in pixels]
        backbones = list(self.model.backbones.values())
        return [backbone(x) for backbone, x in zip(backbones, inputs * len(backbones) if len(inputs) == 1 else inputs, strict=True)]

    def logits(self, *pixels: torch.Tensor) -> torch.Tensor:
        return self.model.head(torch.cat(self.features(*pixels), dim=1))

    def forward(self, *pixels_and_weights: torch.Tensor) -> torch.Tensor:
        *pixels, weights = pixels_and_weights
        self.count(len(weights))
        return (self.logits(*pixels) * weights).sum(1)

    def count(self, images: int) -> None:
        """Note that so many images more went through the model."""
        self.evaluated += images
        if self.progress and self.expected:
            self.progress(min(1.0, self.evaluated / self.expected))


def weigh_logits(target: Classes, contrast: Classes | None, n: int, device: torch.device) -> torch.Tensor:
    """Weights (n, 10) of the logits: 1 for the target class, -1 for the contrast class where given. Raises UserError."""
    weights = torch.zeros(n, len(CLASSES), device=device)
    for name, value, weight in (("target", target, 1.0), ("contrast", contrast, -1.0)):
        if value is None:
            continue
        classes = np.asarray(value)
        if classes.dtype.kind not in "iu" or classes.shape not in ((), (n,)):
            raise UserError(f"{name} {value!r}: give one class position, or one for each of the {n} images")
        outside = classes[(classes < 0) | (classes >= len(CLASSES))]
        if outside.size:
            raise UserError(f"{name} {outside[0]} is not a class: they are 0 to {len(CLASSES) - 1}")
        weights[range(n), np.broadcast_to(classes, n).tolist()] += weight
    if (weights == 0).all(dim=1).any():
        raise UserError("target and contrast are the same class, so their difference is always 0: choose two")
    return weights


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
def score_change(question: Question, progress: Progress | None = None) -> np.ndarray:
    """F(x) - F(0), (N,) logits: what the maps of Integrated Gradients add up to."""
    score = Score(question.model, question.image_size, 2 * len(question.pixels), progress)
    return torch.cat([score(p, w) - score(baseline(p), w) for p, w in question.rows()]).cpu().numpy()


def in_batches(size: int, *tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Rows of all tensors, at most `size` at a time."""
    return zip(*(t.split(size) for t in tensors), strict=True)
