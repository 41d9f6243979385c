"""The command lines on a made-up CIFAR-10: what they write, how they refuse bad input, and how they survive being killed."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import torch

from core import results, speed
from core.config import BASELINES, RECIPES, ROOT, TRIO, UserError, run_folder
from core.evaluate import load_shipped_model, predict, score
from core.train import load_checkpoint
from tests.fake_run import make_run


def command(fake_cifar: Path, *arguments: object, processes: int = 1) -> list[str]:
    """The command line of a script in processes of their own, on the made-up CIFAR-10."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes] if processes > 1 else []
    return [str(part) for part in (sys.executable, *launcher, ROOT / "tests" / "fake_cifar.py", fake_cifar, *arguments)]


def training(fake_cifar: Path, folder: Path, model: str, *more: object) -> list[object]:
    options = ["--recipe", "smoke", "--model", model, "--data", fake_cifar, "--start-weights", "none"]
    return ["scripts/train.py", *options, "--checkpoints", folder / "checkpoints", "--out", folder / "results" / "run", *more]


def checkpoint_of(run: Path, model: str) -> Path:
    return run.parent.parent / "checkpoints" / run.name / f"{model}.pt"


# --- training -------------------------------------------------------------------------------------------------------


def test_a_training_leaves_a_whole_run(trained):
    assert sorted(p.name for p in trained.parent.iterdir()) == ["run", "test_images.parquet"]
    assert sorted(p.name for p in trained.iterdir()) == sorted([*TRIO, "run.json"])
    for model in TRIO:
        files = ["embedding.parquet", "epoch_correct.csv", "epoch_predicted.csv", "features.parquet", "history.csv"]
        files += [f"{kind}_{branch}.parquet" for kind in ("branch", "features") for branch in BASELINES if model == "fusion"]
        files += ["predictions.parquet", "train_sample.parquet", "weights.safetensors"]
        assert sorted(p.name for p in (trained / model).iterdir()) == sorted(files)


def test_stopped_and_resumed_it_ends_in_the_same_bits(fake_cifar, trained, tmp_path):
    arguments = training(fake_cifar, tmp_path, "resnet18")
    process = subprocess.Popen(command(fake_cifar, *arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    told = ""
    while "resnet18 2/3:" not in told:  # the bar of the second epoch
        character = process.stderr.read(1)
        assert character, told
        told += character
    process.terminate()
    assert "stopped by SIGTERM: " in process.communicate()[1]
    assert process.returncode == 143
    assert len(load_checkpoint(checkpoint_of(tmp_path / "results" / "run", "resnet18"))["history"]) == 1
    assert not (tmp_path / "results").exists()

    subprocess.run(command(fake_cifar, *arguments, "--resume"), cwd=ROOT, check=True, capture_output=True)
    resumed, whole = (load_checkpoint(checkpoint_of(run, "resnet18"))["model"] for run in (tmp_path / "results" / "run", trained))
    assert [key for key in whole if not torch.equal(resumed[key], whole[key])] == []
    predictions = Path("resnet18", "predictions.parquet")
    assert (tmp_path / "results" / "run" / predictions).read_bytes() == (trained / predictions).read_bytes()


def test_two_trainings_write_the_same_files_but_for_times(fake_cifar, trained, script, tmp_path):
    again = tmp_path / "results" / "run"
    _, *arguments = training(fake_cifar, tmp_path, "all")
    assert script("train.py", *arguments).code == 0
    for name in sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file()):
        if name.name == "history.csv":
            times = ["images_per_second", "time_seconds"]
            assert pd.read_csv(again / name).drop(columns=times).equals(pd.read_csv(trained / name).drop(columns=times)), name
        elif name.suffix == ".json":
            records = [json.loads((run / name).read_text()) for run in (again, trained)]
            for record in records:
                for costs in record["models"].values():
                    del costs["latency_ms"]
            assert records[0] == records[1]
        else:
            assert (again / name).read_bytes() == (trained / name).read_bytes(), name


def test_two_processes_write_whole_files_in_order(fake_cifar, data, script, tmp_path):
    done = subprocess.run(
        command(fake_cifar, *training(fake_cifar, tmp_path, "mobilenet_v2"), processes=2), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"wrote {tmp_path / 'results' / 'run'}: mobilenet_v2"
    alone = tmp_path / "alone" / "run"
    options = ["--data", fake_cifar, "--checkpoints", tmp_path / "checkpoints"]
    assert script("evaluate.py", alone, *options).out.splitlines()[-1] == f"wrote {alone}: mobilenet_v2"

    shared, alone = results.load_run(tmp_path / "results" / "run"), results.load_run(alone)
    assert shared.record["processes"] == 2
    for split, images in (("val", data.val.first(200)), ("test", data.test.first(200))):
        a, b = (results.load_predictions(run, "mobilenet_v2", split) for run in (shared, alone))
        assert np.array_equal(a.index, images.index) and np.array_equal(a.labels, images.labels)
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-4, rtol=1e-3)
        assert (a.logits.argmax(1) == b.logits.argmax(1)).all()
    val = results.load_predictions(alone, "mobilenet_v2", "val")
    loss, accuracy = score(torch.tensor(val.logits), torch.tensor(val.labels), shared.recipe.label_smoothing)
    last = results.load_history(shared, "mobilenet_v2").iloc[-1]
    assert (last["val_loss"], last["val_accuracy"]) == (pytest.approx(loss, rel=1e-4), pytest.approx(accuracy))


# --- bad input ------------------------------------------------------------------------------------------------------


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--recipe", "cpu-97"], "argument --recipe: invalid choice: 'cpu-97'"),
        (["--model", "vgg"], "argument --model: invalid choice: 'vgg'"),
        (["--seed", "-1"], "error: --seed -1: choose 0 to 4,294,967,295"),
        (["--data", "nowhere"], "data_batch_1 is missing: --data must name the folder"),
        (["--start-weights", "nowhere"], "nowhere/resnet18.safetensors is missing: --start-weights takes imagenet, none, or a folder"),
    ],
)
def test_train_refuses_bad_options(change, message, fake_cifar, script, tmp_path):
    _, *arguments = training(fake_cifar, tmp_path, "resnet18", *change)
    finished = script("train.py", *arguments)
    assert finished.code == 2 and message in finished.error.splitlines()[-1]
    assert "Traceback" not in finished.error and files_below(tmp_path) == []


def test_train_refuses_a_truncated_batch_file(fake_cifar, script, tmp_path):
    copy = shutil.copytree(fake_cifar, tmp_path / "copy")
    with (copy / "cifar-10-batches-py" / "test_batch").open("r+b") as file:
        file.truncate(1_000)
    _, *arguments = training(copy, tmp_path / "out", "resnet18")
    finished = script("train.py", *arguments)
    assert (finished.code, finished.out) == (2, "")
    assert finished.error == f"error: {copy}/cifar-10-batches-py/test_batch is damaged (its md5 is not CIFAR-10's): fetch it again\n"
    assert not (tmp_path / "out").exists()


def test_train_refuses_what_exists_and_what_differs(fake_cifar, script, trained):
    """Neither the run nor its checkpoints are touched without --resume, nor by another seed or other start weights."""
    folder = trained.parent.parent

    def stamp() -> dict[str, int]:
        return {path: (folder / path).stat().st_mtime_ns for path in files_below(folder) if (folder / path).is_file()}

    before = stamp()

    def refusal(*change: object) -> str:
        _, *arguments = training(fake_cifar, folder, "resnet18", *change)
        finished = script("train.py", *arguments)
        assert finished.code == 2 and finished.error.count("\n") == 1
        return finished.error

    assert refusal() == f"error: {trained} exists: choose another --seed or --out, or continue it with --resume\n"
    elsewhere = folder / "elsewhere" / "run"
    assert refusal("--out", elsewhere) == (f"error: {checkpoint_of(trained, 'resnet18')} exists: continue it with --resume, or delete it\n")
    assert "resnet18.pt is of another seed" in refusal("--out", elsewhere, "--resume", "--seed", 1)
    assert "run.json is of another seed" in refusal("--resume", "--seed", 1)
    assert stamp() == before


def test_train_looks_at_all_checkpoints_before_it_trains(fake_cifar, script, trained, tmp_path):
    """One of another seed, of the model that would be trained last."""
    path = checkpoint_of(tmp_path / "results" / "run", "fusion")
    path.parent.mkdir(parents=True)
    shutil.copy(checkpoint_of(trained, "fusion"), path)
    _, *arguments = training(fake_cifar, tmp_path, "all", "--resume", "--seed", 1)
    finished = script("train.py", *arguments)
    assert finished.code == 2 and "fusion.pt is of another seed" in finished.error
    assert files_below(tmp_path) == ["checkpoints", "checkpoints/run", "checkpoints/run/fusion.pt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_sizes": (32, 32)}, "image_sizes names 2 sizes for 3 epochs"),
        ({"branch_loss": -1.0}, "branch_loss is -1.0: a weight is 0 or more"),
    ],
)
def test_a_recipe_that_cannot_be_is_named_before_anything_is_done(change, message, fake_cifar, script, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "smoke", replace(RECIPES["smoke"], **change))
    _, *arguments = training(fake_cifar, tmp_path, "all")
    for finished in (script("train.py", *arguments), script("benchmark.py", "train", "--recipe", "smoke")):
        assert finished.code == 2 and finished.error == f"error: recipe smoke: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_train_names_a_disk_that_takes_nothing(fake_cifar, script, tmp_path):
    (tmp_path / "checkpoints").write_text("a file, not a folder")
    _, *arguments = training(fake_cifar, tmp_path, "mobilenet_v2")
    finished = script("train.py", *arguments)
    assert finished.code == 2
    assert "checkpoints/run/mobilenet_v2.pt could not be written" in finished.error.splitlines()[-1]
    assert files_below(tmp_path) == ["checkpoints"]


# --- evaluation -----------------------------------------------------------------------------------------------------


def test_evaluate_repairs_a_run(fake_cifar, script, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "results" / "run")
    (run / "run.json").write_text("{")
    (run / "fusion" / "predictions.parquet").unlink()
    checkpoints = checkpoint_of(trained, "fusion").parent.parent
    finished = script("evaluate.py", run, "--model", "fusion", "--data", fake_cifar, "--checkpoints", checkpoints)
    said = f"{run}/run.json was damaged and is written anew, without a note; what resnet18, mobilenet_v2 cost is not known any more: "
    said = f"fusion: embedding 200 test images (PCA, t-SNE)\n{said}run python scripts/evaluate.py {run}\nwrote {run}: fusion\n"
    assert (finished.code, finished.out) == (0, said), finished.error
    repaired, original = (results.load_predictions(results.load_run(r), "fusion") for r in (run, trained))
    assert np.array_equal(repaired.logits, original.logits)


def test_evaluate_checks_shipped_weights(fake_cifar, script, trained, data, world, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    before = files_below(run)
    test = data.test.first(200)
    logits, _ = predict(load_shipped_model(results.load_run(run), "resnet18"), test.images, 32, world)

    def checked_with(change: np.ndarray):
        """Check against predictions that are those of the shipped weights, plus `change`."""
        splits = {"test": (test.index.numpy(), test.labels.numpy(), logits.numpy() + change)}
        results.write_predictions(run / "resnet18" / "predictions.parquet", splits)
        return script("evaluate.py", run, "--check", "--model", "resnet18", "--data", fake_cifar)

    agreeing = checked_with(np.float32(0))
    assert (agreeing.code, agreeing.out) == (
        0,
        f"checked {run}: shipped weights and predictions agree on 100.00% (resnet18) of the test images\n",
    )
    differing = checked_with(1e3 * np.eye(10, dtype=np.float32)[3])  # every image becomes a cat
    assert differing.code == 1
    assert differing.error.splitlines()[-1].startswith(f"error: {run}: shipped weights and predictions agree on ")
    assert differing.error.splitlines()[-1].endswith(" (resnet18): fewer than 99.9%")
    assert files_below(run) == before


def test_evaluate_refuses_what_is_not_there(fake_cifar, script, trained, tmp_path):
    def refusal(*arguments: object) -> str:
        finished = script("evaluate.py", *arguments, "--data", fake_cifar)
        assert finished.code == 2
        return finished.error.splitlines()[-1]

    assert refusal().endswith("error: name a run folder, or pass --images")
    assert "holds no checkpoints: train them (python scripts/train.py --help)" in refusal("results/none", "--checkpoints", tmp_path)
    assert "fusion.pt does not exist" in refusal("results/none", "--checkpoints", tmp_path, "--model", "fusion")
    assert "run.json cannot be read" in refusal(tmp_path / "none", "--check")
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "fusion" / "weights.safetensors").unlink()
    assert "fusion/weights.safetensors is missing" in refusal(run, "--check", "--model", "fusion")
    assert f"{run} has no resnet34: choose from resnet18, mobilenet_v2, fusion" in refusal(run, "--check", "--model", "resnet34")
    for task in ("--images", "--probe", "--features"):
        assert "--images, --probe and --features are of all models: leave out --model" in refusal(run, task, "--model", "fusion")
    (tmp_path / "misnamed" / "run").mkdir(parents=True)
    shutil.copy(checkpoint_of(trained, "resnet18"), tmp_path / "misnamed" / "run" / "fusion.pt")
    assert "fusion.pt is of resnet18: give it that name" in refusal(run, "--checkpoints", tmp_path / "misnamed")

    checkpoint = load_checkpoint(checkpoint_of(trained, "resnet18"))
    (tmp_path / "checkpoints" / "run").mkdir(parents=True)
    torch.save(checkpoint | {"history": checkpoint["history"][:2]}, tmp_path / "checkpoints" / "run" / "resnet18.pt")
    told = refusal(tmp_path / "new" / "run", "--checkpoints", tmp_path / "checkpoints")
    where = f"--out {tmp_path / 'new' / 'run'} --checkpoints {tmp_path / 'checkpoints'} --resume --data {fake_cifar} --start-weights none"
    more = f"python scripts/train.py --recipe smoke --seed 0 --model resnet18 {where}"
    assert told.endswith(f"resnet18.pt has 2 of 3 epochs: finish it with {more}")
    former = checkpoint["run"] | {"recipe": checkpoint["run"]["recipe"] | {"lr_head": 7e-4}}
    begun = checkpoint | {"history": checkpoint["history"][:2], "run": former}
    torch.save(begun, tmp_path / "checkpoints" / "run" / "resnet18.pt")
    told = refusal(tmp_path / "new" / "run", "--checkpoints", tmp_path / "checkpoints")
    assert told.endswith("has 2 of 3 epochs, by an earlier version of recipe smoke: train it anew")
    assert not (tmp_path / "new").exists()


def test_evaluate_writes_the_test_images_alone(fake_cifar, script, data, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    finished = script("evaluate.py", "--images", "--data", fake_cifar)
    assert (finished.code, finished.out) == (0, f"wrote {tmp_path / 'test_images.parquet'}: 300 images\n")
    monkeypatch.setitem(results.SPLIT_SIZES, "test", 300)
    made_run = make_run(tmp_path, "run", n_test=20, models=("resnet18",))
    refused = script("evaluate.py", made_run, "--images", "--data", fake_cifar)
    assert refused.code == 2 and f"{made_run} is a run, and the test images lie beside runs" in refused.error
    images = results.load_test_images(tmp_path)
    assert np.array_equal(images.labels, data.test.labels)
    assert np.array_equal(images.decode(299), data.test.images[299].permute(1, 2, 0))


def test_a_run_folder_has_a_name_wherever_one_stands(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained)
    assert run_folder(".").name == "run" and run_folder("..").name == "results" and run_folder("fusion/..") == trained
    assert run_folder("results/run") == Path("results/run") and run_folder(str(trained)) == trained


# --- benchmark ------------------------------------------------------------------------------------------------------


def test_benchmark_measures_training(fake_cifar, script, tmp_path, monkeypatch):
    """In this process, where torchvision takes the made-up images for CIFAR-10."""
    monkeypatch.setattr(speed, "ProcessPoolExecutor", lambda *args, **options: ThreadPoolExecutor(1))
    monkeypatch.setattr(speed, "WORKERS", 1)
    out = tmp_path / "benchmark.json"
    options = ["--recipe", "smoke", "--model", "mobilenet_v2", "--data", fake_cifar, "--steps", 2, "--out", out]
    finished = script("benchmark.py", "train", *options)
    assert finished.code == 0, finished.error
    assert (
        finished.out.splitlines()[-1] == f"wrote {out}: measured mobilenet_v2 with smoke: 5 steps of each kind"
    )  # they are timed in fives
    measured = json.loads(out.read_text())["mobilenet_v2"]
    assert 0.2 < measured["share_of_ready_made"] < 5  # the bar is for quiet machines
    assert measured["times_usual"] > 0 and measured["times_reference"] > 0
    assert 0.1 < measured["peak_memory_gib"] < 20
    assert script("benchmark.py", "train", "--recipe", "smoke", "--steps", 0).error == "error: --steps 0: choose 1 to 1,000,000\n"


def test_a_benchmark_that_is_killed_says_so(monkeypatch):
    pool = MagicMock()
    pool.return_value.__enter__.return_value.submit.return_value.result.side_effect = BrokenProcessPool
    monkeypatch.setattr(speed, "ProcessPoolExecutor", pool)
    with pytest.raises(UserError, match="the process that measured fusion was killed, as for its memory"):
        speed.measure_all(RECIPES["smoke"], ["fusion"], 5, "none", None)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it ended, and nobody has fetched its status
    with pytest.raises(UserError, match="the dashboard's server ended while it was measured"):
        runpy.run_path(str(ROOT / "scripts" / "benchmark.py"))["server_memory"](ended.pid)
    ended.wait()


def test_benchmark_lets_visitors_walk(tmp_path):
    out = tmp_path / "load.json"
    command = [sys.executable, "scripts/benchmark.py", "load", "--visitors", "2", "--minutes", "0.2", "--out", str(out)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # where a browser's test ran, a loop of asyncio still runs
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == f"wrote {out}: measured 2 visitors for 0.2 minutes; memory in MB"
    measured = json.loads(out.read_text())["value"]
    assert measured["errors"] == 0 and measured["pages"] >= 2
    assert 0 < measured["p50 (s)"] <= measured["p95 (s)"] and measured["memory most"] >= measured["memory least"] > 50


def test_batches_made_during_another_turn_are_not_timed():
    """Of 2 + 1 + 3 batches the 2 that lay ready are dropped, the next one and the 3 that are timed trained with."""
    seen = []
    kind = speed.Kind(lambda x, labels: seen.append((x, labels)), iter([(i, -i) for i in range(9)]), workers=1)
    assert speed.time_steps(kind, 3, torch.device("cpu")) > 0
    assert seen == [(2, -2), (3, -3), (4, -4), (5, -5)] and next(kind.batches) == (6, -6)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker")  # they sleep
def test_workers_that_keep_up_with_the_steps_cost_nothing(monkeypatch):
    """8 workers of 0.2 seconds a batch give 40 a second: steps of 0.04 seconds need never wait, right after a pause neither."""

    class Slow(torch.utils.data.Dataset):
        def __len__(self):
            return 1_000

        def __getitem__(self, index):
            time.sleep(0.2)
            return torch.zeros(1), 0

    monkeypatch.setattr(speed, "WORKERS", 8)
    recipe = replace(RECIPES["smoke"], batch_size=1)
    batches = speed.loader_batches(Slow(), recipe, torch.device("cpu"), torch.contiguous_format)
    kind = speed.Kind(lambda *_: time.sleep(0.04), batches, workers=8)
    speed.time_steps(kind, 5, torch.device("cpu"))
    time.sleep(1)
    assert speed.time_steps(kind, 5, torch.device("cpu")) < 0.06


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "scripts").glob("*.py")))
def test_help_shows_a_command_to_copy(name, script):
    finished = script(name, "--help")
    assert finished.code == 0 and f"python scripts/{name}" in finished.out


HUGE = 2**64
NUMBERS = {  # (script, numeric option): a command line that lacks only the number
    ("train.py", "--seed"): ["--recipe", "smoke"],
    ("robustness.py", "--images"): ["{run}"],
    ("explain.py", "--index"): ["{run}", "--model", "fusion"],
    ("explain.py", "--images"): ["{run}", "--model", "mobilenet_v2", "--errors"],
    ("import.py", "--seed"): ["{run}", "--logits", "fusion=a.csv"],
    ("import.py", "--image-size"): ["{run}", "--logits", "fusion=a.csv"],
    ("benchmark.py", "--steps"): ["train", "--recipe", "smoke"],
    ("benchmark.py", "--repeats"): ["dashboard"],
    ("benchmark.py", "--visitors"): ["dashboard"],
    ("benchmark.py", "--minutes"): ["load"],
}


def test_every_numeric_option_is_tried():
    found = {
        (path.name, option)
        for path in (ROOT / "scripts").glob("*.py")
        for option in re.findall(r'add_argument\(\s*"(--[\w-]+)",\s*type=(?:int|float)', path.read_text(encoding="utf-8"))
    }
    assert found == set(NUMBERS)


@pytest.mark.parametrize("value", [-1, HUGE, 10**30, "nan", "inf", "9" * 5_000])
@pytest.mark.parametrize(("name", "option"), NUMBERS)
def test_numbers_out_of_range_get_one_line(script, made_run, name, option, value):
    finished = script(name, *[word.format(run=made_run) for word in NUMBERS[name, option]], f"{option}={value}")
    *usage, line = finished.error.splitlines()
    assert finished.code == 2 and finished.out == ""
    assert re.fullmatch(
        rf"error: {option} .*: (choose|the run's test images are) .*|.*: error: argument {option}: invalid \w+ value: .*", line
    )
    assert not usage or (usage[0].startswith("usage: ") and "invalid" in line)


@pytest.fixture(scope="module")
def made_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("numbers") / "results", "run", n_test=200)
