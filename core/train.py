"""Training: the head on frozen backbones, then both, under one cosine schedule.

Shuffle, augmentation and dropout are drawn from (seed, epoch, step), and a whole checkpoint is left after every ten minutes of
steps and every epoch, so that a resumed training repeats what was lost exactly: on CPU the final weights are the same bit for bit.
"""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from core import results
from core.config import TRIO, Recipe, UserError
from core.data import Cifar10, Split, to_input, train_batches
from core.evaluate import predict, score
from core.models import Classifier, build_model, describe_start_weights
from core.runtime import World, autocast_dtype, describe_environment, seed_everything, synchronize

READ_LOSS_EVERY = 20  # steps: reading a loss from a GPU makes the host wait
CHECKPOINT_KEYS = {"model_name", "run", "history", "epoch_correct", "progress", "model", "optimizer"}
SAVE_EVERY = 600  # seconds between checkpoints within an epoch


def learning_rates(step: int, steps_per_epoch: int, recipe: Recipe) -> dict[str, float]:
    """Rate of each part at a step: one cosine to zero over all steps, heads and backbones warmed up when they start."""
    total, unfreeze = steps_per_epoch * recipe.epochs, steps_per_epoch * recipe.frozen_epochs
    warmup = max(1, round(recipe.warmup_fraction * total))
    cosine = (1 + math.cos(math.pi * step / total)) / 2
    heads = cosine * min(1, (step + 1) / warmup)
    backbones = cosine * min(1, (step - unfreeze + 1) / warmup) if step >= unfreeze else 0.0
    return {"head": recipe.lr_head * heads, "baseline_head": recipe.lr_baseline_head * heads, "backbone": recipe.lr_backbone * backbones}


def build_optimizer(model: Classifier, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over heads and backbones, each with weight decay on matrices and filters, none on the rest."""
    parts: list[tuple[str, list[nn.Module]]]
    if model.shortcut:
        parts = [("head", [model.head[:-1]]), ("baseline_head", [model.head[-1]])]
    else:
        parts = [("head" if len(model.backbones) > 1 else "baseline_head", [model.head, model.branch_heads])]
    groups = []
    parts.append(("backbone", [model.backbones]))
    for part, modules in parts:
        for decays in (True, False):
            parameters = [p for module in modules for p in module.parameters() if (p.ndim > 1) == decays]
            groups.append({"params": parameters, "part": part, "weight_decay": recipe.weight_decay if decays else 0.0})
    return torch.optim.AdamW(groups, lr=recipe.lr_head, fused=True)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, labels: torch.Tensor, recipe: Recipe, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """One update on inputs (N, 3, H, W); returns the head's loss and its number of correct predictions, still on the device."""
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        logits = model(x, branches=True) if recipe.branch_loss else model(x)[None]  # (1 + branch heads, N, 10)
    losses = torch.stack([F.cross_entropy(one.float(), labels, label_smoothing=recipe.label_smoothing) for one in logits])
    (losses[0] + recipe.branch_loss * losses[1:].sum()).backward()
    nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return losses[0].detach(), (logits[0].argmax(1) == labels).sum()


@dataclass
class Progress:
    """How far an epoch has come: what a checkpoint within it holds besides the weights."""

    step: int = 0
    totals: tuple[float, float] = (0.0, 0.0)  # over the steps: loss, share of correct predictions
    rates: tuple[float, float] = (0.0, 0.0)  # over the steps: learning rates of the model's head and of its backbones
    seconds: float = 0.0


def draw_seed(*keys: int) -> int:
    """One number for torch's generators from (seed, epoch, ...), so that a draw depends on nothing else."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0])


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    split: Split,
    recipe: Recipe,
    seed: int,
    epoch: int,
    world: World,
    title: str,
    done: Progress,
    save: Callable[[Progress], None],
) -> dict[str, float]:
    """Train epoch number `epoch` (from 0) on from `done`; return the epoch's train columns of history.csv.

    `save` is called every SAVE_EVERY seconds and after the last step. Raises UserError on NaN.
    """
    steps, size = len(split) // recipe.batch_size, recipe.training_sizes[epoch]
    dtype = autocast_dtype(world.device, recipe.bfloat16)
    totals, rates = torch.tensor(done.totals, dtype=torch.float64, device=world.device), np.array(done.rates)
    model.train()
    synchronize(world.device)
    start = saved = time.perf_counter()
    shuffle = draw_seed(seed, epoch)
    batches = train_batches(split, recipe.batch_size, recipe.crop_padding, recipe.jitter, shuffle, world.rank, world.size, done.step)
    options = {"unit": "img", "disable": not world.is_main, "leave": False}
    with tqdm(total=steps * recipe.batch_size, initial=done.step * recipe.batch_size, desc=title, **options) as bar:
        for step, (augmented, labels) in enumerate(batches, done.step):
            torch.manual_seed(draw_seed(seed, epoch, step, world.rank))  # dropout
            due_rates = learning_rates(epoch * steps + step, steps, recipe)
            for group in optimizer.param_groups:
                group["lr"] = due_rates[group["part"]]
            rates += [optimizer.param_groups[i]["lr"] for i in (0, -1)]  # the first group is the head's, the last the backbones'
            loss, correct = train_step(model, optimizer, to_input(augmented, size), labels, recipe, dtype)
            totals += torch.stack([loss, correct / len(labels)])
            last = step + 1 == steps
            if (step + 1) % READ_LOSS_EVERY == 0 or last:
                averaged = world.average(totals)
                mean_loss, mean_accuracy = (averaged / (step + 1)).tolist()
                if not math.isfinite(mean_loss):
                    lower = "lower the recipe's rates in core/config.py, delete its checkpoints and train anew"
                    raise UserError(f"{title}: the loss became {mean_loss}: {lower}")
                bar.set_postfix(loss=f"{mean_loss:.3f}", accuracy=f"{mean_accuracy:.1%}", refresh=False)
                if last or time.perf_counter() - saved > SAVE_EVERY:  # the last: evaluation takes minutes, too
                    seconds = done.seconds + time.perf_counter() - start
                    save(Progress(step + 1, tuple(averaged.tolist()), tuple(rates.tolist()), seconds))
                    saved = time.perf_counter()
            bar.update(recipe.batch_size)
    synchronize(world.device)
    mean_loss, mean_accuracy = (world.average(totals) / steps).tolist()  # where it resumed after the last step, too
    lr_head, lr_backbone = (rates / steps).tolist()
    return {
        **{"lr_head": lr_head, "lr_backbone": lr_backbone, "train_loss": mean_loss, "train_accuracy": mean_accuracy},
        "images_per_second": steps * recipe.batch_size / (done.seconds + time.perf_counter() - start),
        "image_size": size,
    }


def describe_run(
    recipe: Recipe, seed: int, start_weights: str, data: Cifar10, world: World, models: Iterable[str] = TRIO
) -> dict[str, Any]:
    """run.json's content, but for the models' costs."""
    return {
        "recipe": asdict(recipe),
        "seed": seed,
        "start_weights": describe_start_weights(start_weights, models),
        "precision": str(autocast_dtype(world.device, recipe.bfloat16)).removeprefix("torch."),
        "data_md5": data.md5,
        **describe_environment(world),
    }


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises UserError."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: train it with python scripts/train.py --help") from None
    except Exception as error:  # torch.load raises many kinds on damaged files
        no_memory = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)  # torch's own word for it
        if no_memory or isinstance(error, OSError):
            why = "out of memory" if no_memory else error
            raise UserError(f"{path} cannot be read now ({why}): it may be whole, so mend that and try again") from None
        raise UserError(f"{path} cannot be read ({str(error)[:200]}): delete it and train again") from None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= CHECKPOINT_KEYS:
        raise UserError(f"{path} is not a checkpoint: delete it and train again")
    return checkpoint


def load_checkpoint_of(model_name: str, run: dict[str, Any], path: Path) -> dict[str, Any]:
    """Read a checkpoint that this model of this run can go on from. Raises UserError if it is another's."""
    checkpoint = load_checkpoint(path)
    if checkpoint["model_name"] != model_name:
        raise UserError(f"{path} is of {checkpoint['model_name']}, not of {model_name}: put that one's in its place, or delete it")
    results.check_same_run(path, checkpoint["run"], run)
    began, here = checkpoint["run"]["precision"], run["precision"]
    if len(checkpoint["history"]) < Recipe.from_dict(run["recipe"]).epochs and began != here:
        raise UserError(f"{path} was begun in {began}, and this device trains in {here}: finish it where it was begun, or delete it")
    return checkpoint


def fit(model_name: str, recipe: Recipe, start_weights: str, data: Cifar10, run: dict[str, Any], world: World, path: Path) -> None:
    """Train one model to the end of its recipe, leaving its checkpoint at `path` and going on from one that is there.

    `run` is describe_run's record: it decides the seed and identifies the checkpoint. Raises UserError if that is of another run.
    """
    if recipe.batch_size % world.size:
        raise UserError(f"{world.size} processes cannot share a batch of {recipe.batch_size}: choose a divisor")
    with results.one_at_a_time(path, wait=False) if world.is_main else nullcontext():
        _fit(model_name, recipe, start_weights, data, run, world, path)


def _fit(model_name: str, recipe: Recipe, start_weights: str, data: Cifar10, run: dict[str, Any], world: World, path: Path) -> None:
    seed = run["seed"]
    seed_everything(seed)
    model = build_model(model_name, start_weights, **recipe.network).to(world.device)
    optimizer = build_optimizer(model, recipe)
    history, epoch_correct, done = [], [], Progress()
    if path.exists():
        checkpoint = load_checkpoint_of(model_name, run, path)
        if len(checkpoint["history"]) < recipe.epochs:  # what goes on with it is told too
            for key in ("code_commit", "device"):
                began = checkpoint["run"][key]
                checkpoint["run"][key] = began if run[key] in began else f"{began}, then {run[key]}"
        history, epoch_correct, run = checkpoint["history"], checkpoint["epoch_correct"], checkpoint["run"]
        done = Progress(**checkpoint["progress"])
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])

    def save(progress: Progress) -> None:
        if world.is_main:
            checkpoint = {
                **{"model_name": model_name, "run": run, "history": history, "epoch_correct": epoch_correct},
                **{"progress": asdict(progress), "model": model.state_dict(), "optimizer": optimizer.state_dict()},
            }
            results.write_whole(path, partial(torch.save, checkpoint))

    train, val, test = (split.first(recipe.images_per_split) for split in (data.train, data.val, data.test))
    if recipe.compile:
        model.compile()
    trained: nn.Module = model  # as the processes share it
    for epoch in range(len(history), recipe.epochs):
        frozen = epoch < recipe.frozen_epochs
        if trained is model or frozen != model.frozen:
            model.freeze(frozen, recipe.frozen_stages)
            trained = DistributedDataParallel(model) if world.size > 1 else model
        title = f"{model_name} {epoch + 1}/{recipe.epochs}"
        row: dict[str, int | float | str] = {"epoch": epoch + 1, "phase": "frozen" if frozen else "finetune"}
        start = time.perf_counter() - done.seconds
        row |= train_epoch(trained, optimizer, train, recipe, seed, epoch, world, title, done, save)
        for buffer in model.buffers():  # BatchNorm statistics: between processes they differ by the last step
            if buffer.is_floating_point():
                buffer.copy_(world.average(buffer))
        dtype = autocast_dtype(world.device, recipe.bfloat16)
        size = recipe.training_sizes[epoch]  # BatchNorm's statistics are of images of this size
        logits, _ = predict(model, val.images, size, world, dtype)
        row["val_loss"], row["val_accuracy"] = score(logits, val.labels, recipe.label_smoothing)
        row["time_seconds"] = time.perf_counter() - start
        test_logits, _ = predict(model, test.images, size, world, dtype, f"{title}: test images, for the record")
        for name, split, values in (("val", val, logits), ("test", test, test_logits)):
            predicted = values.argmax(1)
            bits, classes = (predicted == split.labels).cpu(), predicted.to(torch.uint8).cpu()
            epoch_correct.append({"epoch": epoch + 1, "split": name, "correct": bits, "predicted": classes})
        history.append(row)
        done = Progress()
        save(done)
        if world.is_main:
            tqdm.write(
                f"{title} {row['phase']}: train loss {row['train_loss']:.3f}, val loss {row['val_loss']:.3f}, "
                f"val accuracy {row['val_accuracy']:.2%}, {row['images_per_second']:,.0f} images/s"
            )
        world.barrier()
