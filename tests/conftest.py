"""What many tests share: a made-up CIFAR-10, a way to run scripts on it, and one whole training of the smoke recipe."""

import io
import os
import runpy
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from core.config import ROOT

os.environ.pop("RESULTS_DIR", None)  # what a user has set is nothing to test on
if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: who works beside another shall not take all cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass(frozen=True)
class Finished:
    """How a script ended."""

    code: int
    out: str
    error: str


def run_script(name: str, *arguments: object) -> Finished:
    """Run scripts/`name` in this process, as the command line would."""
    out, error = io.StringIO(), io.StringIO()
    kept = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            for one, handler in kept.items():  # scripts/train.py sets others for its process
                signal.signal(one, handler)
    return Finished(code, out.getvalue(), error.getvalue())


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """No test may reach another machine: what connects anywhere but here fails."""
    connect = socket.socket.connect

    def stay_here(self: socket.socket, address: object) -> None:
        outside = isinstance(address, tuple) and address[0] not in ("localhost", "127.0.0.1", "::1")
        assert not outside, f"a test tried to reach {address}"
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", stay_here)
        yield


@pytest.fixture(scope="session")
def script() -> Callable[..., Finished]:
    return run_script


@pytest.fixture(scope="session")
def fake_cifar(tmp_path_factory: pytest.TempPathFactory):
    """A folder for --data, which torchvision takes for CIFAR-10 during the session."""
    from torchvision.datasets import CIFAR10

    from tests.fake_cifar import expected_files, write_fake_cifar

    folder = tmp_path_factory.mktemp("cifar")
    write_fake_cifar(folder)
    with pytest.MonkeyPatch.context() as patch:
        for attribute, value in expected_files(folder).items():
            patch.setattr(CIFAR10, attribute, value)
        yield folder


@pytest.fixture(scope="session")
def world():
    import torch

    from core.runtime import World

    return World(rank=0, size=1, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def data(fake_cifar: Path, world):
    from core.data import load_cifar10

    return load_cifar10(fake_cifar, world.device)


@pytest.fixture(scope="session")
def trained(fake_cifar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of all three models trained with the smoke recipe; their checkpoints lie in ../../checkpoints/run.

    Trained once, whichever of the processes that test comes first; no test changes it.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "trained"
    run = folder / "results" / "run"
    with FileLock(f"{folder}.lock"):
        if not run.exists():
            options = ["--recipe", "smoke", "--data", fake_cifar, "--start-weights", "none", "--checkpoints", folder / "checkpoints"]
            finished = run_script("train.py", *options, "--out", run)
            assert finished.code == 0, finished.error
            assert finished.out.splitlines()[-1] == f"wrote {run}: resnet18, mobilenet_v2, fusion"
    return run
