"""Training speed on this machine, for benchmark.py: the project's steps beside ready-made batches and two loops a user would otherwise run.

Each model is measured in a process of its own, so that the peak memory is that of its training.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import count, islice, repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from core.config import Recipe, UserError
from core.data import MEAN, STD, Cifar10, load_cifar10, open_cifar10, to_input, train_batches
from core.models import build_model, count_costs
from core.runtime import autocast_dtype, open_world, synchronize
from core.train import build_optimizer, train_step

BLOCK = 5  # steps timed together: the kinds take turns, so that a busy neighbour slows all of them
WARM_UP = 5  # steps
WORKERS = min(16, os.cpu_count() or 1)  # of a DataLoader
PREFETCH = 2  # batches a worker keeps ready; torch's default

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]
Examples = Dataset[tuple[torch.Tensor, int]]


@dataclass(frozen=True)
class Kind:
    """One way to train: a step and where its batches come from."""

    step: Callable[[torch.Tensor, torch.Tensor], object]  # what it returns is not used
    batches: Batches
    workers: int = 0  # of its DataLoader, which work on while others are timed


def real_batches(data: Cifar10, recipe: Recipe) -> Batches:
    """The project's own input pipeline, epoch after epoch."""
    for epoch in count():
        for images, labels in train_batches(data.train, recipe.batch_size, recipe.crop_padding, recipe.jitter, epoch):
            yield to_input(images, recipe.image_size), labels


def loader_batches(dataset: Examples, recipe: Recipe, device: torch.device, memory_format: torch.memory_format) -> Batches:
    """A DataLoader over `dataset`, epoch after epoch."""
    pinned = device.type == "cuda"
    while True:
        for images, labels in DataLoader(
            dataset, recipe.batch_size, shuffle=True, drop_last=True, num_workers=WORKERS, prefetch_factor=PREFETCH, pin_memory=pinned
        ):
            yield images.to(device, non_blocking=True, memory_format=memory_format), labels.to(device, non_blocking=True)


def usual_dataset(folder: Path | None, recipe: Recipe) -> Examples:
    """What most scripts do: PIL images transformed one by one."""
    dataset = open_cifar10(folder)
    dataset.transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=recipe.crop_padding, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(recipe.jitter, recipe.jitter, recipe.jitter),
            transforms.Resize(recipe.image_size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return dataset


def reference_dataset(folder: Path | None, recipe: Recipe) -> Examples:
    """As torchvision's reference scripts do today: transforms.v2 on uint8 tensors."""
    dataset = open_cifar10(folder)
    dataset.transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomCrop(32, padding=recipe.crop_padding, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(recipe.jitter, recipe.jitter, recipe.jitter),
            v2.Resize(recipe.image_size, antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return dataset


def reference_step(model: nn.Module, recipe: Recipe, dtype: torch.dtype) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """The step of torchvision's reference scripts: NCHW, SGD with momentum, no clipping."""
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr_backbone, momentum=0.9, weight_decay=1e-4)

    def step(x: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(model(x), labels, label_smoothing=recipe.label_smoothing)
        loss.backward()
        optimizer.step()

    return step


def time_steps(kind: Kind, steps: int, device: torch.device) -> float:
    """Seconds of one step, input included, as the mean of `steps` of them, or of one batch a worker where that is more."""
    for _ in islice(kind.batches, kind.workers * PREFETCH):
        pass  # made while other kinds had their turn
    for _ in range(kind.workers):
        kind.step(*next(kind.batches))  # until as many batches are on their way as in a long training
    steps = max(steps, kind.workers)
    synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        kind.step(*next(kind.batches))
    synchronize(device)
    return (time.perf_counter() - start) / steps


def matmul_rate(device: torch.device, size: int = 8192, repeats: int = 20) -> float:
    """Floating point operations a second of a square bfloat16 matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = Kind(torch.matmul, repeat((a, b)))
    time_steps(product, repeats, device)
    return 2 * size**3 / time_steps(product, repeats, device)


def peak_memory() -> float:
    """The most memory this process has held so far, in GiB; not on Windows."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def measure_training(name: str, recipe: Recipe, steps: int, start_weights: str, folder: Path | None) -> dict[str, float]:
    """Speeds of one model's fine-tuning, multiples of them, and peak memory; in a process of its own."""
    with open_world() as world:
        device, dtype = world.device, autocast_dtype(world.device, recipe.bfloat16)
        data = load_cifar10(folder, device)
        model = build_model(name, start_weights, **recipe.network).to(device).train()
        model.freeze(False, recipe.frozen_stages)
        macs = count_costs(model, recipe.image_size)["macs"]
        optimizer = build_optimizer(model, recipe)
        if recipe.compile:
            model.compile()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

        def step(x: torch.Tensor, labels: torch.Tensor) -> None:
            train_step(model, optimizer, x, labels, recipe, dtype)

        real = Kind(step, real_batches(data, recipe))
        ready = Kind(step, repeat(next(real.batches)))
        for kind in (real, ready):
            time_steps(kind, WARM_UP, device)
        measured = {"peak_memory_gib": peak_memory()} if sys.platform != "win32" else {}  # before the loops that it is compared with
        if device.type == "cuda":
            measured["peak_gpu_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        plain = build_model(name, start_weights, recipe.hidden, recipe.dropout).to(device).to(memory_format=torch.contiguous_format).train()
        plain.freeze(False, recipe.frozen_stages)
        loaders = (
            (usual_dataset(folder, recipe), torch.channels_last, step),
            (
                reference_dataset(folder, recipe),
                torch.contiguous_format,
                reference_step(plain, recipe, dtype),
            ),
        )
        kinds = [
            *(real, ready),
            *(Kind(one, loader_batches(dataset, recipe, device, layout), WORKERS) for dataset, layout, one in loaders),
        ]
        for kind in kinds[2:]:
            time_steps(kind, WARM_UP, device)
        seconds = np.array([[time_steps(kind, BLOCK, device) for kind in kinds] for _ in range(-(-steps // BLOCK))])
        speeds = (recipe.batch_size / np.median(seconds, axis=0)).tolist()
        names = ("images_per_second", "images_per_second_ready_made", "images_per_second_usual", "images_per_second_reference")
        measured |= dict(zip(names, speeds, strict=True))
        ratios = np.median(seconds / seconds[:, :1], axis=0).tolist()
        measured |= {"share_of_ready_made": ratios[1], "times_usual": ratios[2], "times_reference": ratios[3]}
        if device.type == "cuda" and not recipe.frozen_stages:  # which have no backward pass
            achieved = 3 * 2 * macs * speeds[0]  # the backward pass costs twice the forward pass
            measured["share_of_matmul_rate"] = achieved / matmul_rate(device)
        return measured


def measure_all(recipe: Recipe, models: list[str], steps: int, start_weights: str, folder: Path | None) -> dict[str, dict[str, float]]:
    """measure_training of each model, one process after the other. Raises UserError."""
    measured = {}
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in models:
            try:
                measured[name] = pool.submit(measure_training, name, recipe, steps, start_weights, folder).result()
            except BrokenProcessPool:
                raise UserError(f"the process that measured {name} was killed, as for its memory: choose a smaller --recipe") from None
    return measured
