"""Training speed on this machine, for benchmark.py: the project's steps, the same steps on ready-made batches, a usual pipeline's."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, repeat
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision import transforms

from core.config import Recipe
from core.data import MEAN, STD, Cifar10, load_cifar10, open_cifar10, to_input, train_batches
from core.models import build_model, count_costs
from core.runtime import autocast_dtype, open_world, synchronize
from core.train import build_optimizer, train_step

BLOCK = 5  # steps timed together: the two kinds take turns, so that a busy neighbour slows both
WARM_UP = 5  # steps


def real_batches(data: Cifar10, recipe: Recipe) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The project's own input pipeline, epoch after epoch."""
    for epoch in count():
        for images, labels in train_batches(data.train, recipe.batch_size, recipe.crop_padding, recipe.jitter, epoch):
            yield to_input(images, recipe.image_size), labels


def usual_batches(folder: Path | None, recipe: Recipe, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What most scripts do: PIL images transformed one by one in two worker processes."""
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
    options = {"num_workers": 2, "shuffle": True, "drop_last": True, "pin_memory": device.type == "cuda"}
    while True:
        for images, labels in DataLoader(dataset, recipe.batch_size, **options):
            images = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            yield images, labels.to(device, non_blocking=True)


def time_steps(step: Callable, batches: Iterator, steps: int, device: torch.device) -> float:
    """Seconds of one step, input included, as the mean of `steps` of them."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        step(*next(batches))
    synchronize(device)
    return (time.perf_counter() - start) / steps


def matmul_rate(device: torch.device, size: int = 8192, repeats: int = 20) -> float:
    """Floating point operations a second of a square bfloat16 matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    batches = repeat((a, b))
    time_steps(torch.matmul, batches, repeats, device)
    return 2 * size**3 / time_steps(torch.matmul, batches, repeats, device)


def peak_memory() -> float:
    """The most memory this process has held so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def measure_training(
    name: str, recipe: Recipe, steps: int, start_weights: str, folder: Path | None, data: Cifar10, device: torch.device
) -> dict:
    """Speeds of one model's fine-tuning, shares and multiples of them, and peak memory."""
    model = build_model(name, start_weights, recipe.hidden, recipe.dropout, recipe.branch_loss > 0).to(device).train()
    macs = count_costs(model, recipe.image_size)["macs"]
    optimizer = build_optimizer(model, recipe)
    dtype = autocast_dtype(device, recipe.bfloat16)
    if recipe.compile:
        model.compile()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step(x: torch.Tensor, labels: torch.Tensor) -> None:
        train_step(model, optimizer, x, labels, recipe, dtype)

    real = real_batches(data, recipe)
    ready = repeat(next(real))
    time_steps(step, real, WARM_UP, device)
    seconds = np.array([[time_steps(step, kind, BLOCK, device) for kind in (real, ready)] for _ in range(-(-steps // BLOCK))])
    measured = {
        "images_per_second": recipe.batch_size / float(np.median(seconds[:, 0])),
        "images_per_second_ready_made": recipe.batch_size / float(np.median(seconds[:, 1])),
        "share_of_ready_made": float(np.median(seconds[:, 1] / seconds[:, 0])),
        "peak_memory_gib": peak_memory(),
    }
    if device.type == "cuda":
        measured["peak_gpu_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        achieved = 3 * 2 * macs * measured["images_per_second"]  # the backward pass costs twice the forward pass
        measured["share_of_matmul_rate"] = achieved / matmul_rate(device)
    usual = usual_batches(folder, recipe, device)
    time_steps(step, usual, WARM_UP, device)
    measured["images_per_second_usual"] = recipe.batch_size / time_steps(step, usual, steps, device)
    measured["times_usual"] = measured["images_per_second"] / measured["images_per_second_usual"]
    return measured


def measure_all(recipe: Recipe, models: list[str], steps: int, start_weights: str, folder: Path | None) -> dict[str, dict]:
    """measure_training of each model."""
    with open_world() as world:
        data = load_cifar10(folder, world.device)
        return {name: measure_training(name, recipe, steps, start_weights, folder, data, world.device) for name in models}
