"""Training: the head on frozen backbones, then everything, under one cosine schedule.

Every epoch draws its shuffle, augmentation and dropout from (seed, epoch), and every epoch ends in a whole checkpoint,
so that a resumed training repeats the lost epoch exactly: on CPU the final weights are the same bit for bit.
"""

import math
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from core import results
from core.config import Recipe, UserError
from core.data import Cifar10, Split, to_input, train_batches
from core.evaluate import predict, score
from core.models import Classifier, build_model, describe_start_weights
from core.runtime import World, autocast_dtype, describe_environment, seed_everything, synchronize

READ_LOSS_EVERY = 20  # steps: reading a loss from a GPU makes the host wait


def learning_rates(step: int, steps_per_epoch: int, recipe: Recipe) -> tuple[float, float]:
    """Rates of head and backbones at a step: one cosine to zero over all steps, each group warmed up when it starts."""
    total, thaw = steps_per_epoch * recipe.epochs, steps_per_epoch * recipe.frozen_epochs
    warmup = max(1, round(recipe.warmup_fraction * total))
    cosine = (1 + math.cos(math.pi * step / total)) / 2
    head = recipe.lr_head * cosine * min(1, (step + 1) / warmup)
    backbone = recipe.lr_backbone * cosine * min(1, (step - thaw + 1) / warmup) if step >= thaw else 0.0
    return head, backbone


def build_optimizer(model: Classifier, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over four groups: head and backbones, each with weight decay on matrices and filters, none on the rest."""
    groups = []
    for part, module in (("head", model.head), ("backbone", model.backbones)):
        for decays in (True, False):
            parameters = [p for p in module.parameters() if (p.ndim > 1) == decays]
            groups.append({"params": parameters, "part": part, "weight_decay": recipe.weight_decay if decays else 0.0})
    return torch.optim.AdamW(groups, lr=recipe.lr_head, fused=True)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, labels: torch.Tensor, recipe: Recipe, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """One update on inputs (N, 3, H, W); returns the loss and the number of right answers, still on the device."""
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        logits = model(x)
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), (logits.argmax(1) == labels).sum()


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, split: Split, recipe: Recipe, seed: int, epoch: int, world: World, title: str
) -> dict[str, float]:
    """Train epoch number `epoch` (from 0); return the epoch's train columns of history.csv. Raises UserError on NaN."""
    steps = len(split) // recipe.batch_size
    images = steps * recipe.batch_size
    epoch_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    seed_everything(epoch_seed + world.rank)  # dropout
    dtype = autocast_dtype(world.device, recipe.bfloat16)
    totals = torch.zeros(2, device=world.device)  # loss, share of right answers
    rates = np.zeros(2)
    model.train()
    synchronize(world.device)
    start = time.perf_counter()
    batches = train_batches(split, recipe.batch_size, recipe.crop_padding, recipe.jitter, epoch_seed, world.rank, world.size)
    with tqdm(total=images, desc=title, unit="img", disable=not world.is_main, leave=False) as bar:
        for step, (augmented, labels) in enumerate(batches):
            head, backbone = learning_rates(epoch * steps + step, steps, recipe)
            rates += head, backbone
            for group in optimizer.param_groups:
                group["lr"] = head if group["part"] == "head" else backbone
            loss, right = train_step(model, optimizer, to_input(augmented, recipe.image_size), labels, recipe, dtype)
            totals += torch.stack([loss, right / len(labels)])
            if (step + 1) % READ_LOSS_EVERY == 0 or step + 1 == steps:
                mean_loss, mean_accuracy = (world.average(totals) / (step + 1)).tolist()
                if not math.isfinite(mean_loss):
                    raise UserError(f"{title}: the loss became {mean_loss}; the last checkpoint is kept: lower the learning rates")
                bar.set_postfix(loss=f"{mean_loss:.3f}", accuracy=f"{mean_accuracy:.1%}", refresh=False)
            bar.update(recipe.batch_size)
    synchronize(world.device)
    lr_head, lr_backbone = (rates / steps).tolist()
    return {
        **{"lr_head": lr_head, "lr_backbone": lr_backbone, "train_loss": mean_loss, "train_accuracy": mean_accuracy},
        "images_per_second": images / (time.perf_counter() - start),
    }


def describe_run(recipe: Recipe, seed: int, start_weights: str, data: Cifar10, world: World) -> dict:
    """run.json's content, but for the models."""
    return {
        "recipe": asdict(recipe),
        "seed": seed,
        "start_weights": describe_start_weights(start_weights),
        "precision": str(autocast_dtype(world.device, recipe.bfloat16)).removeprefix("torch."),
        "data_md5": data.md5,
        **describe_environment(world),
    }


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint onto the CPU. Raises UserError."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: train it with python scripts/train.py --help") from None
    except Exception as error:  # torch.load raises many kinds on damaged files
        raise UserError(f"{path} cannot be read ({str(error)[:200]}): delete it and train again") from None
    if not isinstance(checkpoint, dict) or not {"model_name", "run", "history", "model", "optimizer"} <= checkpoint.keys():
        raise UserError(f"{path} is not a checkpoint: delete it and train again")
    return checkpoint


def fit(model_name: str, recipe: Recipe, start_weights: str, data: Cifar10, run: dict, world: World, path: Path) -> None:
    """Train one model to the end of its recipe, leaving its checkpoint at `path` and going on from one that is there.

    `run` is describe_run's record: it decides the seed and identifies the checkpoint. Raises UserError if that is of another run.
    """
    if recipe.batch_size % world.size:
        raise UserError(f"{world.size} processes cannot share a batch of {recipe.batch_size}: choose a divisor")
    seed = run["seed"]
    seed_everything(seed)
    model = build_model(model_name, start_weights, recipe.hidden, recipe.dropout).to(world.device)
    optimizer = build_optimizer(model, recipe)
    history = []
    if path.exists():
        checkpoint = load_checkpoint(path)
        results.check_same_run(path, checkpoint["run"], run)
        history, run = checkpoint["history"], checkpoint["run"]
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
    train, val = data.train.first(recipe.images_per_split), data.val.first(recipe.images_per_split)
    if recipe.compile:
        model.compile()
    trained = model
    for epoch in range(len(history), recipe.epochs):
        frozen = epoch < recipe.frozen_epochs
        if trained is model or frozen != model.frozen:
            model.freeze(frozen)
            trained = DistributedDataParallel(model) if world.size > 1 else model
        start = time.perf_counter()
        title = f"{model_name} {epoch + 1}/{recipe.epochs}"
        row = {"epoch": epoch + 1, "phase": "frozen" if frozen else "finetune"}
        row |= train_epoch(trained, optimizer, train, recipe, seed, epoch, world, title)
        for buffer in model.buffers():  # BatchNorm statistics: between processes they differ by the last step
            if buffer.is_floating_point():
                buffer.copy_(world.average(buffer))
        logits, _ = predict(model, val.images, recipe.image_size, world, autocast_dtype(world.device, recipe.bfloat16))
        row["val_loss"], row["val_accuracy"] = score(logits, val.labels, recipe.label_smoothing)
        row["time_seconds"] = time.perf_counter() - start
        history.append(row)
        if world.is_main:
            checkpoint = {
                **{"model_name": model_name, "run": run, "history": history},
                **{"model": model.state_dict(), "optimizer": optimizer.state_dict()},
            }
            results.write_whole(path, partial(torch.save, checkpoint))
            tqdm.write(
                f"{title} {row['phase']}: train loss {row['train_loss']:.3f}, val loss {row['val_loss']:.3f}, "
                f"val accuracy {row['val_accuracy']:.2%}, {row['images_per_second']:,.0f} images/s"
            )
        world.barrier()
