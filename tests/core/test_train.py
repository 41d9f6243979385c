"""The schedule and the step by hand, exact resumption, and gradients shared by two processes."""

import math
import os
import socket
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from core import results
from core import train as core_train
from core.config import RECIPES, Recipe, UserError
from core.evaluate import predict
from core.models import build_model
from core.runtime import World, open_world
from core.train import describe_run, fit, learning_rates, load_checkpoint, train_step

RECIPE = RECIPES["smoke"]


# --- schedule and step ------------------------------------------------------------------------------------------------


def test_learning_rates_by_hand():
    """1 + 3 epochs of 10 steps, a tenth of the 40 steps warm-up: 4 steps for the head from 0, for the backbones from 10."""
    recipe = Recipe("by hand", 32, frozen_epochs=1, finetune_epochs=3, batch_size=1, lr_head=0.8, lr_backbone=0.4, warmup_fraction=0.1)
    rates = [learning_rates(step, 10, replace(recipe, lr_baseline_head=1.6)) for step in range(40)]
    head, baseline, backbone = ([one[part] for one in rates] for part in ("head", "baseline_head", "backbone"))
    assert baseline == pytest.approx([2 * rate for rate in head])
    assert head[0] == pytest.approx(0.8 * 1 / 4)
    assert head[1] == pytest.approx(0.8 * 2 / 4 * (1 + math.cos(math.pi / 40)) / 2)
    assert head[10] == pytest.approx(0.8 * (1 + math.sqrt(0.5)) / 2)  # cos(45°)
    assert head[20] == pytest.approx(0.8 / 2)
    assert backbone[:10] == [0] * 10
    assert backbone[10] == pytest.approx(0.4 * 1 / 4 * (1 + math.sqrt(0.5)) / 2)
    assert backbone[13:] == pytest.approx([rate / 2 for rate in head[13:]])  # warmed up: the same cosine
    assert all(later < earlier for earlier, later in pairwise(head[3:]))
    assert head[39] == pytest.approx(0.8 * (1 - math.cos(math.pi / 40)) / 2)


def test_a_step_by_hand():
    """Two classes' worth of known logits: the smoothed loss, the clipped gradient and plain SGD's update."""
    recipe = replace(RECIPE, label_smoothing=0.1, clip_norm=0.5, branch_loss=0.0, shortcut=False)
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    x, labels = torch.tensor([[3.0]]), torch.tensor([1])
    loss, right = train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), x, labels, recipe, torch.float32)
    assert loss.item() == pytest.approx(math.log(2))
    assert right.item() == 0  # of equal logits the first wins
    # d loss / d logits = (0.5, 0.5) - (0.05, 0.95), times x = (1.35, -1.35), of norm 1.35 * sqrt(2), clipped to 0.5
    assert model.weight.flatten().tolist() == pytest.approx([-0.5 / math.sqrt(2), 0.5 / math.sqrt(2)], rel=1e-4)
    assert model.weight.grad is None  # ready for the next step


class Heads(nn.Module):
    """A fused head and two branch heads, linear on one number, as a Classifier answers."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(3, 2, 1))

    def forward(self, x: torch.Tensor, branches: bool = False) -> torch.Tensor:
        logits = torch.einsum("hci,ni->hnc", self.weights, x)
        return logits if branches else logits[0]


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_branch_losses_are_added_with_their_weight(weight):
    recipe = replace(RECIPE, label_smoothing=0.1, clip_norm=100.0, branch_loss=weight)
    model = Heads()
    x, labels = torch.tensor([[3.0]]), torch.tensor([1])
    loss, _ = train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), x, labels, recipe, torch.float32)
    assert loss.item() == pytest.approx(math.log(2))  # the fused head's alone
    assert model.weights[:, 1, 0].tolist() == pytest.approx([1.35, 1.35 * weight, 1.35 * weight])
    assert model.weights[:, 0, 0].tolist() == pytest.approx([-1.35, -1.35 * weight, -1.35 * weight])


def test_a_step_in_bfloat16_computes_in_it(monkeypatch):
    seen = []
    model = nn.Linear(1, 2, bias=False)
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    recipe = replace(RECIPE, branch_loss=0.0, shortcut=False)
    x, labels = torch.tensor([[3.0]]), torch.tensor([1])
    for dtype in (torch.bfloat16, torch.float32):
        loss, _ = train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), x, labels, recipe, dtype)
        assert loss.dtype == model.weight.dtype == torch.float32
    assert seen == [torch.bfloat16, torch.float32]


def test_training_follows_its_recipe(data, world, tmp_path, monkeypatch):
    """Augmentation, draws, rates by part and what is frozen, at every step."""
    recipe = replace(RECIPE, frozen_stages=2, crop_padding=3, jitter=0.3, lr_backbone=1e-4, lr_head=3e-3)
    drawn, steps, batches, step_of = [], [], core_train.train_batches, core_train.train_step
    monkeypatch.setattr(core_train, "train_batches", lambda split, *rest: drawn.append(rest) or batches(split, *rest))

    def watch(model: nn.Module, optimizer: torch.optim.Optimizer, *rest):
        rates = {group["part"]: group["lr"] for group in optimizer.param_groups}
        steps.append((rates, {name for name, one in model.named_parameters() if one.requires_grad}))
        return step_of(model, optimizer, *rest)

    monkeypatch.setattr(core_train, "train_step", watch)
    path = tmp_path / "resnet18.pt"
    fit("resnet18", recipe, "none", data, describe_run(recipe, 5, "none", data, world, ["resnet18"]), world, path)
    assert drawn == [(recipe.batch_size, 3, 0.3, core_train.draw_seed(5, epoch), 0, 1, 0) for epoch in range(3)]
    a_epoch = 200 // recipe.batch_size
    due = [learning_rates(step, a_epoch, recipe) for step in range(3 * a_epoch)]
    assert [rates for rates, _ in steps] == [{part: one[part] for part in ("baseline_head", "backbone")} for one in due]
    names = {name for name, _ in build_model("resnet18", **recipe.network).named_parameters()}
    heads = {name for name in names if name.startswith("head.")}
    first = tuple(f"backbones.resnet18.{part}." for part in ("conv1", "bn1", "layer1"))
    tuned = {name for name in names if not name.startswith(first)}
    assert [trained for _, trained in steps] == [heads] * a_epoch + [tuned] * 2 * a_epoch
    history = load_checkpoint(path)["history"]
    for epoch, row in enumerate(history):
        mean = [sum(one[part] for one in due[epoch * a_epoch : (epoch + 1) * a_epoch]) / a_epoch for part in ("baseline_head", "backbone")]
        assert [row["lr_head"], row["lr_backbone"]] == pytest.approx(mean)


def test_each_epoch_trains_and_evaluates_at_its_size(data, world, tmp_path, monkeypatch):
    recipe = replace(RECIPE, image_size=48, image_sizes=(32, 40, 48))
    trained, evaluated, enlarge, evaluate = set(), [], core_train.to_input, core_train.predict
    monkeypatch.setattr(core_train, "to_input", lambda images, size: trained.add(size) or enlarge(images, size))
    monkeypatch.setattr(
        core_train, "predict", lambda model, images, size, *rest: evaluated.append(size) or evaluate(model, images, size, *rest)
    )
    path = tmp_path / "mobilenet_v2.pt"
    fit("mobilenet_v2", recipe, "none", data, describe_run(recipe, 0, "none", data, world, ["mobilenet_v2"]), world, path)
    assert trained == {32, 40, 48} and evaluated == [32, 32, 40, 40, 48, 48]  # validation and test images
    assert [row["image_size"] for row in load_checkpoint(path)["history"]] == [32, 40, 48]


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(data, world) -> dict:
    return describe_run(RECIPE, 0, "none", data, world)


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Make train_epoch raise KeyboardInterrupt once `epochs` epochs are done."""
    train_epoch = core_train.train_epoch

    def train_epoch_or_stop(model, optimizer, split, recipe, seed, epoch, *rest):
        if epoch == epochs:
            raise KeyboardInterrupt
        return train_epoch(model, optimizer, split, recipe, seed, epoch, *rest)

    monkeypatch.setattr(core_train, "train_epoch", train_epoch_or_stop)


def test_killed_within_an_epoch_it_resumes_there_and_ends_in_the_same_bits(trained, data, run, world, tmp_path, monkeypatch):
    """A checkpoint after step 4 of 6 of the second epoch; what comes after it is not trained twice."""
    path, steps = tmp_path / "mobilenet_v2.pt", []

    def step_or_stop(*arguments):
        steps.append(1)
        if len(steps) == 12:
            raise KeyboardInterrupt
        return train_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(core_train, "SAVE_EVERY", 0)
        patch.setattr(core_train, "READ_LOSS_EVERY", 2)
        patch.setattr(core_train, "train_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            fit("mobilenet_v2", RECIPE, "none", data, run, world, path)
    left = load_checkpoint(path)
    assert len(left["history"]) == 1 and left["progress"]["step"] == 4 and left["progress"]["seconds"] > 0
    with monkeypatch.context() as patch:
        patch.setattr(core_train, "train_step", lambda *arguments: steps.append(1) or train_step(*arguments))
        steps.clear()
        fit("mobilenet_v2", RECIPE, "none", data, run, world, path)
    assert len(steps) == 2 + 6
    assert_same_training(path, checkpoint_of(trained, "mobilenet_v2"))


def test_killed_while_an_epoch_is_evaluated_it_trains_none_of_it_again(trained, data, run, world, tmp_path, monkeypatch):
    path, steps, predicted = tmp_path / "mobilenet_v2.pt", [], []

    def predict_or_stop(*arguments):
        predicted.append(1)
        if len(predicted) == 4:  # the test images of the second epoch
            raise KeyboardInterrupt
        return predict(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(core_train, "predict", predict_or_stop)
        with pytest.raises(KeyboardInterrupt):
            fit("mobilenet_v2", RECIPE, "none", data, run, world, path)
    left = load_checkpoint(path)
    assert len(left["history"]) == 1 and left["progress"]["step"] == 6
    with monkeypatch.context() as patch:
        patch.setattr(core_train, "train_step", lambda *arguments: steps.append(1) or train_step(*arguments))
        fit("mobilenet_v2", RECIPE, "none", data, run, world, path)
    assert len(steps) == 6
    assert_same_training(path, checkpoint_of(trained, "mobilenet_v2"))


@pytest.mark.parametrize("epochs", [1, 2])  # at the end of the frozen phase, and within the fine-tuning
def test_a_resumed_training_ends_in_the_same_bits(epochs, trained, data, run, world, tmp_path, monkeypatch):
    path = tmp_path / "mobilenet_v2.pt"
    with monkeypatch.context() as patch:
        stop_after(patch, epochs)
        with pytest.raises(KeyboardInterrupt):
            fit("mobilenet_v2", RECIPE, "none", data, run, world, path)
    assert len(load_checkpoint(path)["history"]) == epochs
    fit("mobilenet_v2", RECIPE, "none", data, run, world, path)
    assert_same_training(path, checkpoint_of(trained, "mobilenet_v2"))


def test_a_training_that_another_commit_resumed_names_both(data, run, world, tmp_path, monkeypatch):
    path = tmp_path / "mobilenet_v2.pt"
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            fit("mobilenet_v2", RECIPE, "none", data, run, world, path)
    later = run | {"code_commit": "another"}
    for _ in range(2):  # what is whole is not trained by whoever looks at it
        fit("mobilenet_v2", RECIPE, "none", data, later, world, path)
        assert load_checkpoint(path)["run"]["code_commit"] == f"{run['code_commit']}, then another"
        later |= {"code_commit": "a third"}


def assert_same_training(path: Path, other: Path) -> None:
    """Two checkpoints of the same weights, optimizer state, correct images and history but for times."""
    resumed, whole = load_checkpoint(path), load_checkpoint(other)
    assert resumed["model"].keys() == whole["model"].keys()
    assert [key for key in whole["model"] if not torch.equal(resumed["model"][key], whole["model"][key])] == []
    for resumed_state, whole_state in zip(resumed["optimizer"]["state"].values(), whole["optimizer"]["state"].values(), strict=True):
        assert all(torch.equal(resumed_state[key], whole_state[key]) for key in whole_state)
    for resumed_epoch, whole_epoch in zip(resumed["epoch_correct"], whole["epoch_correct"], strict=True):
        assert all(torch.equal(resumed_epoch[key], whole_epoch[key]) for key in ("correct", "predicted"))
    for resumed_row, whole_row in zip(resumed["history"], whole["history"], strict=True):
        times = {key: whole_row[key] for key in ("images_per_second", "time_seconds")}
        assert resumed_row | times == whole_row


def checkpoint_of(run: Path, model: str) -> Path:
    return run.parent.parent / "checkpoints" / run.name / f"{model}.pt"


def test_a_whole_training_is_left_alone(trained, data, run, world, tmp_path):
    path = tmp_path / "resnet18.pt"
    path.write_bytes(checkpoint_of(trained, "resnet18").read_bytes())
    fit("resnet18", RECIPE, "none", data, run, world, path)
    assert path.read_bytes() == checkpoint_of(trained, "resnet18").read_bytes()


def test_history_rows_tell_the_two_phases(trained):
    for model in ("resnet18", "mobilenet_v2", "fusion"):
        rows = load_checkpoint(checkpoint_of(trained, model))["history"]
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        assert [row["phase"] for row in rows] == ["frozen", "finetune", "finetune"]
        assert rows[0]["lr_backbone"] == 0 < rows[1]["lr_backbone"]
        assert set(rows[0]) == {*results.HISTORY_COLUMNS, "image_size"} and {row["image_size"] for row in rows} == {32}
        steps, part = 200 // RECIPE.batch_size, "head" if model == "fusion" else "baseline_head"
        assert rows[0]["lr_head"] == pytest.approx(sum(learning_rates(s, steps, RECIPE)[part] for s in range(steps)) / steps)


def test_training_learns(trained):
    rows = load_checkpoint(checkpoint_of(trained, "resnet18"))["history"]
    assert rows[-1]["train_accuracy"] > rows[0]["train_accuracy"] + 0.2


def test_a_loss_that_is_not_a_number_keeps_the_last_checkpoint(data, run, world, tmp_path, monkeypatch):
    def diverge(model, *rest):
        loss, right = train_step(model, *rest)
        return (loss if model.frozen else loss * math.nan), right

    monkeypatch.setattr(core_train, "train_step", diverge)
    path = tmp_path / "mobilenet_v2.pt"
    with pytest.raises(UserError, match=r"mobilenet_v2 2/3: the loss became nan: lower the recipe's rates in core/config.py"):
        fit("mobilenet_v2", RECIPE, "none", data, run, world, path)
    checkpoint = load_checkpoint(path)
    assert len(checkpoint["history"]) == 1
    assert all(value.isfinite().all() for value in checkpoint["model"].values())
    assert [p.name for p in tmp_path.iterdir()] == ["mobilenet_v2.pt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "another seed"),
        ({"recipe": asdict(replace(RECIPE, name="other", dropout=0.5))}, "another recipe"),
        ({"recipe": asdict(replace(RECIPE, image_sizes=(32, 48, 32)))}, r"another recipe, whose image_sizes is None, not \(32, 48, 32\)"),
        ({"start_weights": {"resnet18": {"name": "other"}}}, "another start weights"),
        ({"data_md5": {}}, "another data md5"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change, message, trained, data, run, world, tmp_path):
    path = tmp_path / "resnet18.pt"
    before = checkpoint_of(trained, "resnet18").read_bytes()
    path.write_bytes(before)
    with pytest.raises(UserError, match=rf"resnet18\.pt is of {message}: give it the same, or another run folder"):
        fit("resnet18", RECIPE, "none", data, run | change, world, path)
    assert path.read_bytes() == before


def test_a_training_is_not_finished_in_another_precision_but_a_whole_one_counts(trained, data, run, world, tmp_path):
    path = tmp_path / "resnet18.pt"
    whole, elsewhere = load_checkpoint(checkpoint_of(trained, "resnet18")), run | {"precision": "bfloat16"}
    torch.save(whole, path)
    fit("resnet18", RECIPE, "none", data, elsewhere, world, path)
    torch.save(whole | {"history": whole["history"][:1]}, path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"resnet18\.pt was begun in float32, and this device trains in bfloat16: finish it where"):
        fit("resnet18", RECIPE, "none", data, elsewhere, world, path)
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(trained, data, run, world, tmp_path):
    path = tmp_path / "mobilenet_v2.pt"
    path.write_bytes(checkpoint_of(trained, "resnet18").read_bytes())
    with pytest.raises(UserError, match=r"mobilenet_v2\.pt is of resnet18, not of mobilenet_v2: put that one's in its place, or delete it"):
        fit("mobilenet_v2", RECIPES["smoke"], "none", data, run, world, path)


def test_a_checkpoint_that_another_process_trains_is_left_to_it(trained, data, run, world, tmp_path):
    path = tmp_path / "resnet18.pt"
    with (
        results.one_at_a_time(path),
        pytest.raises(UserError, match=r"another process is at work on .*resnet18\.pt: let it end, or stop it"),
    ):
        fit("resnet18", RECIPE, "none", data, run, world, path)
    assert not list(tmp_path.iterdir())


def test_checkpoints_that_cannot_be_read_are_named(trained, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"none\.pt does not exist: train it with python scripts/train\.py"):
        load_checkpoint(tmp_path / "none.pt")
    content = checkpoint_of(trained, "mobilenet_v2").read_bytes()
    for kept in (0, 100, len(content) - 1_000):
        (tmp_path / "cut.pt").write_bytes(content[:kept])
        with pytest.raises(UserError, match=r"cut\.pt cannot be read .*: delete it and train again"):
            load_checkpoint(tmp_path / "cut.pt")
    with monkeypatch.context() as patch:
        with pytest.raises(RuntimeError) as too_much:
            torch.empty(2**50)  # torch has an error of its own for that
        for error in (MemoryError, too_much.value):
            patch.setattr(torch, "load", Mock(side_effect=error))
            with pytest.raises(UserError, match=r"cut\.pt cannot be read now \(out of memory\): it may be whole"):
                load_checkpoint(tmp_path / "cut.pt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt is not a checkpoint"):
        load_checkpoint(tmp_path / "other.pt")


# --- two processes ----------------------------------------------------------------------------------------------------


def test_processes_that_cannot_share_a_batch_are_refused(data, run, tmp_path):
    with pytest.raises(UserError, match="3 processes cannot share a batch of 32: choose a divisor"):
        fit("resnet18", RECIPE, "none", data, run, World(0, 3, torch.device("cpu")), tmp_path / "resnet18.pt")


def example() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = build_model("mobilenet_v2", "none", dropout=0.0).train()
    return model, torch.randn(8, 3, 32, 32), torch.arange(8)


class Keep(torch.optim.Optimizer):
    """Updates nothing and keeps the gradients it is given."""

    def __init__(self, model: nn.Module):
        super().__init__(model.parameters(), {})
        self.model = model

    def step(self) -> None:
        self.gradients = {name: p.grad.clone() for name, p in self.model.named_parameters()}


def one_step(rank: int, port: int, folder: Path) -> None:
    """What one of two processes does: a training step on its rows, as fit() would, and a gather."""
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    model, x, labels = example()
    with open_world("cpu") as world:
        optimizer = Keep(model)
        shared = nn.parallel.DistributedDataParallel(model)
        train_step(shared, optimizer, x[rank::2], labels[rank::2], replace(RECIPE, clip_norm=math.inf), torch.float32)
        rows, mean = world.gather_rows(x[rank::2]), world.average(torch.tensor([float(rank)]))
        torch.save({"gradients": optimizer.gradients, "rows": rows, "mean": mean}, folder / f"{rank}.pt")


def test_two_processes_average_their_gradients(request, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun gives each process: another order of summation is another rounding
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    mp.spawn(one_step, (port, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    halves = []
    for rank in (0, 1):
        model, x, labels = example()
        optimizer = Keep(model)
        train_step(model, optimizer, x[rank::2], labels[rank::2], replace(RECIPE, clip_norm=math.inf), torch.float32)
        halves.append(optimizer.gradients)
    for name, gradient in first["gradients"].items():
        mean = (halves[0][name] + halves[1][name]) / 2
        assert (gradient - mean).norm() <= 1e-3 * mean.norm() + 1e-5, name
        assert torch.equal(gradient, second["gradients"][name])
    for result in (first, second):
        assert torch.equal(result["rows"], x)  # gathered in order
        assert result["mean"].item() == 0.5
