"""The machine side: device, precision, seeds, process group, and the record of all of them for run.json."""

import ctypes
import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from core.config import ROOT, UserError


@dataclass(frozen=True)
class World:
    """This process's place among the training processes: alone unless torchrun started it."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def average(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of `values` over the processes, the same on each."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.size
        return values

    def gather_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Undo the split `x[rank::size]`: (ceil(N/size), D) of every process -> (N, D) in order, on each.

        Every process passes equally many rows; the caller cuts the padding off.
        """
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)


@contextmanager
def open_world(place: str | None = None) -> Iterator[World]:
    """Yield this process's World; joins torchrun's process group (nccl on GPU, gloo on CPU) and leaves it at the end.

    Raises UserError where another process of the group is lost.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device(place or (f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda":
        if (device.index or 0) >= (gpus := torch.cuda.device_count()):
            raise UserError(f"there is no {device}: this machine has {gpus}, so start torchrun with --nproc-per-node {gpus} or fewer")
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False  # float32 is what predictions are said to be computed in
    else:
        keep_freed_memory()
    if size > 1:
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except ValueError as error:
            raise UserError(
                f"WORLD_SIZE is {size}, but torchrun did not start this ({error}): start it with torchrun, or unset it"
            ) from None
    try:
        yield World(rank, size, device)
    except torch.OutOfMemoryError:
        raise UserError(f"the memory of {device} does not do for this: let nothing else use it, or share the work with torchrun") from None
    except RuntimeError as error:  # of gloo, and as torch calls those of nccl
        if "gloo" not in str(error) and not isinstance(error, dist.DistError):
            raise
        raise UserError(
            "another process was lost: start the same command again (train.py: with --resume), with this or another number of processes"
        ) from error
    finally:
        if size > 1:
            dist.destroy_process_group()


def keep_freed_memory() -> None:
    """Let glibc keep freed activations instead of handing them back to the kernel at every step.

    Page faults cost MobileNetV2 a third of its CPU training speed (measured at 96 px). See mallopt(3);
    other C libraries lack these switches and are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_max = -1, -4
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)


def autocast_dtype(device: torch.device, wanted: bool) -> torch.dtype:
    """bfloat16 if the recipe wants it and the device has instructions for it, else float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu.get_capabilities().get("avx512_bf16", False)  # other processors name it otherwise, or lack it
    return torch.bfloat16 if wanted and native else torch.float32


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (CPU and GPU)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def synchronize(device: torch.device) -> None:
    """Wait for the device's queued work, so that a host clock measures it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_commit(folder: Path) -> str:
    """The commit of the checkout `folder`, with "+uncommitted" where its code was changed since; else "unknown: " and why.

    Git itself refuses a checkout that belongs to another user ("dubious ownership"). Its code runs here all the same, so that git
    may read it, too; no setting outside this call is changed.
    """

    def git(*arguments: str) -> str:
        words = ["git", "-c", f"safe.directory={folder.as_posix()}", "-C", str(folder), *arguments]
        english = os.environ | {"LC_ALL": "C", "LANGUAGE": ""}  # whatever its user speaks
        done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", check=True, env=english)
        return done.stdout.strip()

    try:
        commit, top = git("rev-parse", "HEAD", "--show-toplevel").split("\n")
        if Path(top).resolve() != folder.resolve():
            return "unknown: not a git checkout of its own"
        return commit + ("+uncommitted" if git("status", "--porcelain", "core", "scripts") else "")
    except FileNotFoundError:
        return "unknown: git is not installed"
    except subprocess.CalledProcessError as error:
        told = error.stderr.strip().split("\n")[0]
        return "unknown: not a git checkout" if "not a git repository" in told else f"unknown: git says {told!r}"


def describe_environment(world: World) -> dict[str, Any]:
    """What a result depends on besides recipe and seed: commit, versions, device, processes."""
    if world.device.type == "cuda":
        device = torch.cuda.get_device_name(world.device)
    else:
        device = f"CPU, {platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    packages = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "scikit-learn", "safetensors", "pillow")
    return {
        "code_commit": describe_commit(ROOT),
        "libraries": {"python": sys.version.split()[0], **{name: version(name) for name in packages}},
        "device": device,
        "processes": world.size,
    }
