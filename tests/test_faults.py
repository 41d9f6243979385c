"""A training that is killed, however and wherever, goes on from its last checkpoint and ends in the same bits."""

import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import redirect_stderr
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from core import results
from core.config import RECIPES, ROOT
from core.train import load_checkpoint
from tests.core.test_train import assert_same_training
from tests.test_scripts import command, training

KILLS = int(os.environ.get("KILLS", 2))
MODEL = "fusion"
RECIPE = replace(RECIPES["smoke"], image_size=48, image_sizes=(32, 40, 48), frozen_stages=2)  # as cpu-224 is, in small
STEPS = RECIPE.images_per_split // RECIPE.batch_size  # of an epoch


def train(folder: Path, path: Path, last_step: int | None = None) -> None:
    """Train in this process as scripts/train.py does, a checkpoint after every second step; kill it in step `last_step` of all."""
    from torchvision.datasets import CIFAR10

    from core import train as core_train
    from core.data import load_cifar10
    from core.runtime import open_world
    from core.train import describe_run, fit, train_step
    from tests.fake_cifar import expected_files

    for attribute, value in expected_files(folder).items():
        setattr(CIFAR10, attribute, value)
    core_train.SAVE_EVERY, core_train.READ_LOSS_EVERY = 0, 2
    steps = count(1)

    def step_or_die(*arguments):
        if next(steps) == last_step:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(*arguments)

    core_train.train_step = step_or_die
    with Path(os.devnull).open("w", encoding="utf-8") as bars, redirect_stderr(bars), open_world("cpu") as world:
        data = load_cifar10(folder, world.device)
        fit(MODEL, RECIPE, "none", data, describe_run(RECIPE, 0, "none", data, world), world, path)


@pytest.fixture(scope="module")
def start(fake_cifar):
    """Starts a training in a process of its own that need not import torch anew."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core.train", "core.data", "torchvision.datasets", "tests.fake_cifar"])

    def start(path: Path, last_step: int | None = None) -> multiprocessing.Process:
        process = context.Process(target=train, args=(fake_cifar, path, last_step))
        process.start()
        return process

    return start


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The checkpoint of a training that nothing stopped, and the seconds it took."""
    path, begun = tmp_path_factory.mktemp("whole") / f"{MODEL}.pt", time.perf_counter()
    start(path).join()
    return path, time.perf_counter() - begun


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_killed_within_an_epoch_it_goes_on_there_and_ends_in_the_same_bits(epoch, start, whole, tmp_path):
    path = tmp_path / f"{MODEL}.pt"
    process = start(path, (epoch - 1) * STEPS + 4)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = load_checkpoint(path)
    assert len(left["history"]) == epoch - 1 and left["progress"]["step"] == 2
    process = start(path)
    process.join()
    assert process.exitcode == 0
    assert_same_training(path, whole[0])


def test_killed_at_any_moment_it_ends_in_the_same_bits(start, whole, tmp_path):
    """Every other kill comes at a random moment, the rest while a checkpoint is being written."""
    reference, seconds = whole
    checkpoints = STEPS // 2 * RECIPE.epochs + RECIPE.epochs  # and one more after each epoch's evaluation
    moments, places, turn = random.Random(0), [], 0
    while len(places) < KILLS:
        turn += 1
        path = tmp_path / str(turn) / f"{MODEL}.pt"
        aside = path.with_name(f".{path.name}.partial")
        end, saves, written = time.perf_counter() + seconds * moments.random(), moments.randrange(checkpoints), set()
        process = start(path)
        while process.is_alive() and not (aside.exists() and len(written) >= saves if turn % 2 else time.perf_counter() > end):
            written |= {path.stat().st_ino} if path.exists() else set()
            time.sleep(0.0005)
        process.kill()
        process.join()
        if process.exitcode == 0:
            continue  # it was done before
        assert process.exitcode == -signal.SIGKILL
        left = load_checkpoint(path) if path.exists() else {"history": [], "progress": {"step": 0}}  # what is there is whole
        places.append((len(left["history"]), left["progress"]["step"]))
        process = start(path)
        process.join()
        assert process.exitcode == 0
        assert_same_training(path, reference)
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert KILLS < 10 or len(set(places)) > 1
    print(places)


def test_without_either_of_its_processes_it_ends_and_goes_on_with_any_number(fake_cifar, data, tmp_path):
    arguments = training(fake_cifar, tmp_path, "mobilenet_v2")
    path = tmp_path / "checkpoints" / "run" / "mobilenet_v2.pt"
    for lost in (0, 1):
        resume = ["--resume"] if path.exists() else []
        launcher = subprocess.Popen(command(fake_cifar, *arguments, *resume, processes=2), cwd=ROOT, stderr=subprocess.PIPE, text=True)
        told = ""
        while "mobilenet_v2 2/3:" not in told:  # the bar of the second epoch
            character = launcher.stderr.read(1)
            assert character, told
            told += character
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text(encoding="utf-8").split()
        os.kill(int(children[lost]), signal.SIGKILL)
        told += launcher.communicate()[1]
        assert launcher.returncode == 1
        assert "--resume" in told and f"rank      : {lost} (local_rank: {lost})\n  exitcode  : -9" in told
        assert len(load_checkpoint(path)["history"]) in (1, 2) and not (tmp_path / "results").exists()

    for processes in (1, 2):
        folder = tmp_path / str(processes)
        shutil.copytree(tmp_path / "checkpoints", folder / "checkpoints")
        more = training(fake_cifar, folder, "mobilenet_v2", "--resume")
        subprocess.run(command(fake_cifar, *more, processes=processes), cwd=ROOT, check=True, capture_output=True)
        run = results.load_run(folder / "results" / "run")
        assert run.record["processes"] == 2  # of the checkpoint; the history's rows are of both
        for split, images in (("val", data.val.first(200)), ("test", data.test.first(200))):
            found = results.load_predictions(run, "mobilenet_v2", split)
            assert found.index.tolist() == images.index.tolist() and found.labels.tolist() == images.labels.tolist()


def meet_and_part(rank: int, port: int, folder: Path) -> None:
    """What one of two processes does: the second leaves without a word, the first waits for it."""
    from core.config import UserError
    from core.runtime import open_world

    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    try:
        with open_world("cpu") as world:
            world.barrier()
            if rank == 1:
                os._exit(0)
            world.average(torch.zeros(1))
    except UserError as error:
        (folder / "told").write_text(str(error))


def test_a_process_left_alone_says_so_in_a_line(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(meet_and_part, (port, tmp_path), nprocs=2)
    assert (tmp_path / "told").read_text().startswith("another process was lost: start the same command again (train.py: with --resume)")
