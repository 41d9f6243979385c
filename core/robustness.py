"""Corrupted test images: eight ways a photograph goes wrong, each in five severities, and how they are summed up. No torch here.

After Hendrycks & Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019, with
their strengths for 32x32 images where the corruption is theirs. Haze is their fog with a simpler cloud; rotation is not theirs.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageFilter

SEVERITIES = (1, 2, 3, 4, 5)
CLEAN = ("none", 0)  # the condition to compare with: no corruption, severity 0


def add_noise(image: Image.Image, deviation: float, generator: np.random.Generator) -> Image.Image:
    noisy = np.asarray(image) / 255 + deviation * generator.standard_normal((image.height, image.width, 3))
    return to_image(noisy)


def blur(image: Image.Image, radius: float, _: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius))


def brighten(image: Image.Image, amount: float, _: np.random.Generator) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    value = value.point(lambda level: min(255, level + round(255 * amount)))
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def flatten_contrast(image: Image.Image, factor: float, _: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def compress(image: Image.Image, quality: int, _: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def pixelate(image: Image.Image, share: float, _: np.random.Generator) -> Image.Image:
    small = (int(image.width * share), int(image.height * share))
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)


def add_haze(image: Image.Image, strength: tuple[float, float], generator: np.random.Generator) -> Image.Image:
    """A bright cloud, `strength` = (how much, how smooth): random grids of 2, 4, 8 … cells, each finer one weaker."""
    much, smooth = strength
    cloud = np.zeros((image.height, image.width))
    for octave in range(5):
        grid = Image.fromarray(generator.random((2 ** (octave + 1),) * 2, dtype=np.float32))
        cloud += np.asarray(grid.resize(image.size, Image.Resampling.BICUBIC)) / smooth**octave
    cloud = (cloud - cloud.min()) / (cloud.max() - cloud.min())
    clear = np.asarray(image) / 255
    return to_image((clear + much * cloud[..., None]) * clear.max() / (clear.max() + much))


def rotate(image: Image.Image, degrees: float, generator: np.random.Generator) -> Image.Image:
    """To either side; the corners show the mirrored surroundings, not black."""
    margin = image.width // 2
    padded = Image.fromarray(np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="reflect"))
    turned = padded.rotate(degrees * generator.choice((-1, 1)), Image.Resampling.BILINEAR)
    return turned.crop((margin, margin, margin + image.width, margin + image.height))


def to_image(values: np.ndarray) -> Image.Image:
    """Values (H, W, 3), 0 to 1 and cut off there, as an image."""
    return Image.fromarray(np.round(255 * np.clip(values, 0, 1)).astype(np.uint8))


Strength = TypeVar("Strength")  # what a corruption takes: a number, or several


@dataclass(frozen=True)
class Corruption(Generic[Strength]):
    label: str
    apply: Callable[[Image.Image, Strength, np.random.Generator], Image.Image]
    strengths: tuple[Strength, ...]  # one a severity
    means: str  # what a strength is
    cifar10c: str  # the same corruption's name in CIFAR-10-C, whose strengths these are; empty where it has none
    differs: str = ""  # how it is made otherwise than there


CORRUPTIONS: dict[str, Corruption[Any]] = {
    "gaussian_noise": Corruption("Noise", add_noise, (0.04, 0.06, 0.08, 0.09, 0.10), "standard deviation, of 1", "gaussian_noise"),
    "gaussian_blur": Corruption(
        "Blur", blur, (0.4, 0.6, 0.7, 0.8, 1.0), "standard deviation in pixels", "gaussian_blur", "Pillow's blur, stronger in severity 1"
    ),
    "brightness": Corruption("Brightness", brighten, (0.05, 0.1, 0.15, 0.2, 0.3), "added to the HSV value, of 1", "brightness"),
    "contrast": Corruption(
        "Low contrast", flatten_contrast, (0.75, 0.5, 0.4, 0.3, 0.15), "factor", "contrast", "around the grey mean, not each channel's"
    ),
    "jpeg": Corruption("JPEG", compress, (80, 65, 58, 50, 40), "quality, of 100", "jpeg_compression"),
    "pixelate": Corruption("Pixelation", pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), "share of the pixels a side", "pixelate"),
    "haze": Corruption(
        "Haze",
        add_haze,
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "how much, how smooth",
        "fog",
        "a cloud of random grids, not of midpoints displaced",
    ),
    "rotation": Corruption("Rotation", rotate, (5, 10, 15, 20, 30), "degrees to either side", "", "no part of CIFAR-10-C"),
}


def describe_corruptions() -> pd.DataFrame:
    """Each corruption beside CIFAR-10-C's: label, cifar10c (its name there), strengths (severity 1 to 5), means, differs."""
    rows = [
        {
            **{"label": kind.label, "cifar10c": kind.cifar10c, "strengths": " · ".join(map(str, kind.strengths))},
            **{"means": kind.means, "differs": kind.differs},
        }
        for kind in CORRUPTIONS.values()
    ]
    return pd.DataFrame(rows)


def list_conditions() -> list[tuple[str, int]]:
    """CLEAN, then every corruption in every severity: 41 (corruption, severity) pairs."""
    return [CLEAN, *((name, severity) for name in CORRUPTIONS for severity in SEVERITIES)]


def group_conditions(correct: np.ndarray) -> np.ndarray:
    """Correct predictions (41, N) under list_conditions -> wrong ones (corruptions, severities, N), CLEAN left out."""
    return ~correct[1:].reshape(len(CORRUPTIONS), len(SEVERITIES), -1)


def by_severity(conditions: pd.DataFrame) -> pd.DataFrame:
    """Rows of core.summaries.robustness, averaged over the corruptions: model, severity (0: clean), accuracy."""
    return conditions.groupby(["model", "severity"], as_index=False, sort=False)["accuracy"].mean()


def by_corruption(conditions: pd.DataFrame) -> pd.DataFrame:
    """Rows of core.summaries.robustness, averaged over the severities, the clean condition aside: model, corruption, accuracy, label."""
    corrupted = conditions[conditions["severity"] > 0]
    kinds = corrupted.groupby(["model", "corruption"], as_index=False, sort=False)["accuracy"].mean()
    return kinds.assign(label=[CORRUPTIONS[name].label for name in kinds["corruption"]])


def corrupt_images(images: np.ndarray, index: np.ndarray, corruption: str, severity: int) -> np.ndarray:
    """uint8 images (N, 32, 32, 3) -> the same, corrupted. What is random depends on the image's `index` and the condition alone."""
    if (corruption, severity) == CLEAN:
        return images
    kind, position = CORRUPTIONS[corruption], list(CORRUPTIONS).index(corruption)
    corrupted = np.empty_like(images)
    for i, (image, number) in enumerate(zip(images, index, strict=True)):
        generator = np.random.default_rng((int(number), position, severity))
        corrupted[i] = kind.apply(Image.fromarray(image), kind.strengths[severity - 1], generator)
    return corrupted


def pick_subset(labels: np.ndarray, n: int) -> np.ndarray:
    """Sorted positions (n,) of images with equal class shares, always the same ones; a smaller subset is part of a larger."""
    order = np.random.default_rng(0).permutation(len(labels))
    turn = pd.Series(order).groupby(labels[order]).cumcount()  # how many of its class came before
    return np.sort(order[np.argsort(turn, kind="stable")[:n]])
