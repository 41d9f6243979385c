"""Device, precision, seeds and the record of the environment. Two processes are tested in test_train.py."""

import random
import re
from importlib.metadata import version

import numpy as np
import pytest
import torch

from core import runtime
from core.config import UserError
from core.runtime import autocast_dtype, describe_environment, open_world, seed_everything


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    rows = torch.arange(6.0).reshape(3, 2)
    with open_world("cpu") as world:
        assert (world.rank, world.size, world.is_main, world.device.type) == (0, 1, True, "cpu")
        assert torch.equal(world.gather_rows(rows), rows) and torch.equal(world.average(rows), rows)
        world.barrier()


def test_bfloat16_only_where_wanted_and_native(monkeypatch):
    cpu = torch.device("cpu")
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: {"avx512_bf16": native})
        assert autocast_dtype(cpu, True) == (torch.bfloat16 if native else torch.float32)
        assert autocast_dtype(cpu, False) == torch.float32


def test_one_seed_for_all_generators():
    def draw() -> tuple[float, float, float]:
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_everything(2**32 + 5)  # larger than NumPy takes
    first = draw()
    seed_everything(2**32 + 5)
    assert draw() == first
    seed_everything(6)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_the_record_names_versions_device_and_commit(world, tmp_path, monkeypatch):
    record = describe_environment(world)
    assert record["libraries"]["torch"] == version("torch")
    assert record["device"].startswith("CPU, ") and record["processes"] == 1
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    assert describe_environment(world)["code_commit"] == "unknown: not a git checkout"


def test_the_commit_tells_uncommitted_code(world, tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.py").write_text("a = 1\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        runtime.subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    clean = describe_environment(world)["code_commit"]
    assert len(clean) == 40
    (tmp_path / "core" / "a.py").write_text("a = 2\n")
    assert describe_environment(world)["code_commit"] == f"{clean}+uncommitted"


def test_a_checkout_of_another_user_is_read_all_the_same(tmp_path, monkeypatch):
    """Git's own switch for tests makes every checkout one of "dubious ownership"."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["commit", "-qm", "first", "--allow-empty"]):
        runtime.subprocess.run([*git, *command], check=True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    refused = runtime.subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert "dubious ownership" in refused.stderr
    assert re.fullmatch("[0-9a-f]{40}", runtime.describe_commit(tmp_path))


def test_what_git_says_is_told_truly(tmp_path, monkeypatch):
    runtime.subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    (tmp_path / "folder").mkdir()
    assert "ambiguous argument 'HEAD'" in runtime.describe_commit(tmp_path)  # there is no commit
    (tmp_path / ".git" / "config").write_text("[core")
    assert "bad config" in runtime.describe_commit(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert runtime.describe_commit(tmp_path) == "unknown: git is not installed"


def test_the_commit_of_a_folder_around_is_not_taken(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["commit", "-qm", "first", "--allow-empty"]):
        runtime.subprocess.run([*git, *command], check=True)
    (tmp_path / "folder").mkdir()
    assert runtime.describe_commit(tmp_path / "folder") == "unknown: not a git checkout of its own"


def test_an_unknown_device_fails_loudly():
    with pytest.raises(RuntimeError), open_world("toaster"):
        raise AssertionError("not reached")


def test_what_torchrun_cannot_have_meant_is_said_in_a_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match=r"WORLD_SIZE is 2, but torchrun did not start this .*unset it"), open_world("cpu"):
        raise AssertionError("not reached")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"there is no cuda:3: this machine has 1, .*--nproc-per-node 1"), open_world("cuda:3"):
        raise AssertionError("not reached")


def test_a_device_whose_memory_is_full_is_said_in_a_line(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match="the memory of cpu does not do"), open_world("cpu"):
        raise torch.OutOfMemoryError("CUDA out of memory")
