"""From a checkpoint to the files of a run: the same numbers as a plain forward pass of that checkpoint."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from core import evaluate as core_evaluate
from core import results
from core.config import BASELINES, RECIPES, TRIO, UserError
from core.data import Split, to_input
from core.evaluate import (
    embed,
    fit_probe,
    load_checkpoint_model,
    load_shipped_model,
    pick_splits,
    predict,
    reduce_features,
    score,
    shipped_agreement,
    write_model,
    write_results,
)
from core.models import build_model, count_costs
from core.train import describe_run, fit, load_checkpoint


def checkpoint_of(run: Path, model: str) -> dict:
    return load_checkpoint(run.parent.parent / "checkpoints" / run.name / f"{model}.pt")


@torch.no_grad()
def test_predictions_equal_a_plain_forward_pass_in_order(data, world):
    torch.manual_seed(0)
    model = build_model("mobilenet_v2").train()
    model(to_input(data.test.images[:32], 32))  # statistics under which features do not vanish
    logits, hidden = predict(model, data.test.images, 32, world)  # 300 images: more than one batch
    assert not model.training and logits.shape == (300, 10) and hidden.shape == (300, 1280)
    assert logits.dtype == hidden.dtype == torch.float32
    for i in (0, 249, 250, 299):
        expected = model(to_input(data.test.images[i : i + 1], 32))
        torch.testing.assert_close(logits[i : i + 1], expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(model.head[-1](hidden), logits, atol=1e-4, rtol=1e-3)


def test_score_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    loss, accuracy = score(logits, torch.tensor([0, 1, 0]), label_smoothing=0.0)
    log_sum = np.log(np.exp(2) + 1)
    assert loss == pytest.approx(((log_sum - 2) + np.log(2) + log_sum) / 3, rel=1e-6)
    assert accuracy == pytest.approx(1 / 3)
    smoothed, _ = score(logits[:1], torch.tensor([0]), label_smoothing=0.1)
    assert smoothed == pytest.approx(0.95 * (log_sum - 2) + 0.05 * log_sum, rel=1e-6)


def test_an_embedding_keeps_clusters_apart_and_repeats_itself():
    generator = np.random.default_rng(0)
    labels = np.arange(120) % 3
    hidden = (generator.standard_normal((120, 64)) + 8 * np.eye(64)[labels]).astype(np.float32)
    components = reduce_features(hidden)
    values = np.linalg.svd(hidden - hidden.mean(0), compute_uv=False)[:50]  # the spread along each principal axis
    np.testing.assert_allclose(np.linalg.norm(components, axis=0), values, rtol=1e-3)
    xy = embed(components)
    assert xy.shape == (120, 2) and np.isfinite(xy).all()
    assert KNeighborsClassifier(3).fit(xy, labels).score(xy, labels) == 1
    assert np.array_equal(embed(components), xy)


@pytest.mark.parametrize("name", TRIO)
@torch.no_grad()
def test_a_run_holds_what_its_checkpoint_predicts(name, trained, data):
    checkpoint = checkpoint_of(trained, name)
    model = build_model(name, **RECIPES["smoke"].network).eval()
    parameters = {key for key, _ in model.named_parameters()}
    model.load_state_dict({key: value.half() if key in parameters else value for key, value in checkpoint["model"].items()})
    run = results.load_run(trained)
    for split_name, split in (("val", data.val.first(200)), ("test", data.test.first(200))):
        predictions = results.load_predictions(run, name, split_name)
        assert np.array_equal(predictions.index, split.index) and np.array_equal(predictions.labels, split.labels)
        expected = model(to_input(split.images, 32))
        np.testing.assert_allclose(predictions.logits, expected, atol=1e-4, rtol=1e-3)
        features = model.forward_features(to_input(split.images, 32))
        for branch, own in (model.forward_branch_heads(features) if name == "fusion" else {}).items():
            kept = results.load_predictions(run, name, split_name, name=f"branch_{branch}")
            np.testing.assert_allclose(kept.logits, own, atol=1e-4, rtol=1e-3)
    history = results.load_history(run, name)
    assert history.to_dict("records") == [pytest.approx(row) for row in checkpoint["history"]]
    predictions = results.load_predictions(run, name, "val")
    assert history["val_accuracy"].iloc[-1] == pytest.approx((predictions.logits.argmax(1) == predictions.labels).mean(), abs=0.011)
    assert len(results.load_embedding(run, name)) == 200
    classes, correct = results.load_epoch_predicted(run, name)["val"], results.load_epoch_correct(run, name)["val"]
    assert classes.shape == (3, 200) and np.array_equal(classes == predictions.labels, correct)
    assert correct.mean(axis=1) == pytest.approx(history["val_accuracy"])
    costs = run.record["models"][name]
    assert costs.pop("latency_ms") > 0 and costs == count_costs(model, 32)


def test_branch_heads_of_their_own_leave_their_logits_and_no_weights(data, world, tmp_path):
    """Without a shortcut they are no part of the fused logits, so a run is shipped without them."""
    recipe = replace(RECIPES["smoke"], shortcut=False, frozen_epochs=0, finetune_epochs=1)
    path = tmp_path / "fusion.pt"
    fit("fusion", recipe, "none", data, describe_run(recipe, 0, "none", data, world), world, path)
    checkpoint = load_checkpoint(path)
    assert any(key.startswith("branch_heads.") for key in checkpoint["model"])
    write_results(tmp_path / "run", [checkpoint], data, world)
    run = results.load_run(tmp_path / "run")
    assert not any(key.startswith("branch_heads.") for key in load_file(results.find_weights(run, "fusion")))
    assert shipped_agreement(run, "fusion", data, world) == 1
    shipped, trained_model = load_shipped_model(run, "fusion"), load_checkpoint_model(checkpoint)
    assert run.record["models"]["fusion"]["parameters"] == sum(p.numel() for p in shipped.parameters())
    images = data.test.first(200).images
    heads = trained_model.eval().forward_branch_heads(trained_model.forward_features(to_input(images, 32)))
    for branch, own in heads.items():
        kept = results.load_predictions(run, "fusion", "test", name=f"branch_{branch}")
        np.testing.assert_allclose(kept.logits, own.detach(), atol=1e-4, rtol=1e-3)


def test_a_checkpoint_that_kept_no_classes_of_an_epoch_gives_no_file_of_them(trained, data, world, tmp_path, monkeypatch):
    monkeypatch.setattr(core_evaluate, "embed", lambda components: components[:, :2])  # the slow part
    checkpoint = checkpoint_of(trained, "resnet18")
    del checkpoint["epoch_correct"][0]["predicted"]  # its first epoch was trained by an earlier version
    write_model(tmp_path, checkpoint, data, world)
    assert (tmp_path / "epoch_correct.csv").read_bytes() == (trained / "resnet18" / "epoch_correct.csv").read_bytes()
    assert not (tmp_path / "epoch_predicted.csv").exists()


def test_the_record_tells_how_the_run_was_made(trained):
    run = results.load_run(trained)
    assert run.models == list(TRIO) and run.recipe == RECIPES["smoke"] and run.has_weights
    assert run.record["seed"] == 0 and run.record["precision"] == "float32" and run.record["processes"] == 1
    assert run.record["start_weights"]["resnet18"]["name"] == "random"
    assert set(run.record["data_md5"]) == {"data_batch_1", "data_batch_2", "test_batch"}


def test_the_record_tells_the_start_weights_of_models_trained_one_by_one(trained, data, world, tmp_path, monkeypatch):
    monkeypatch.setattr(core_evaluate, "write_model", lambda *_: {})
    checkpoints = [checkpoint_of(trained, name) for name in BASELINES]
    for checkpoint, name in zip(checkpoints, BASELINES, strict=True):
        checkpoint["run"]["start_weights"] = {name: {"name": f"{name}, made up", "file": None, "sha256": None}}
    write_results(tmp_path / "run", checkpoints, data, world)
    starts = results.load_run(tmp_path / "run").record["start_weights"]
    assert {name: start["name"] for name, start in starts.items()} == {name: f"{name}, made up" for name in BASELINES}


def test_the_record_tells_which_commit_and_machine_trained_each_model_and_in_which_precision(trained, data, world, tmp_path, monkeypatch):
    monkeypatch.setattr(core_evaluate, "write_model", lambda *_: {"macs": 1})
    checkpoints = [checkpoint_of(trained, name) for name in TRIO]
    for checkpoint, device in zip(checkpoints, ("one", "another", "one"), strict=True):
        precision = {"one": "bfloat16", "another": "float32"}[device]
        checkpoint["run"] |= {"device": device, "code_commit": f"commit of {device}", "precision": precision}
    write_results(tmp_path / "run", checkpoints, data, world)
    run = results.load_run(tmp_path / "run")
    assert run.device == "one; MobileNetV2: another" and run.code == "commit of one; MobileNetV2: commit of another"
    assert run.precision == "bfloat16; MobileNetV2: float32"
    assert run.record["models"] == {
        **{name: {"macs": 1} for name in ("resnet18", "fusion")},
        "mobilenet_v2": {"macs": 1, "device": "another", "code_commit": "commit of another", "precision": "float32"},
    }


@pytest.mark.parametrize("name", TRIO)
def test_shipped_weights_are_the_checkpoints_in_half_precision(name, trained, data, world):
    run = results.load_run(trained)
    model = load_shipped_model(run, name)
    assert not model.training and {p.dtype for p in model.parameters()} == {torch.float32}
    original = checkpoint_of(trained, name)["model"]
    for key, value in model.named_parameters():
        assert torch.equal(value, original[key].half().float()), key
    for key, value in model.named_buffers():
        assert torch.equal(value, original[key]), key
    assert shipped_agreement(run, name, data, world) == 1


def test_agreement_counts_images(trained, data, world, tmp_path):
    """A quarter of the shipped predictions are made to answer otherwise."""
    run = results.load_run(shutil.copytree(trained, tmp_path / "run"))
    splits = {}
    for split in ("val", "test"):
        p = results.load_predictions(run, "resnet18", split)
        splits[split] = (p.index, p.labels, p.logits.copy())
    before = shipped_agreement(run, "resnet18", data, world)
    splits["test"][2][:50] = -splits["test"][2][:50]
    results.write_predictions(run.path / "resnet18" / "predictions.parquet", splits)
    assert shipped_agreement(run, "resnet18", data, world) == pytest.approx(before - 0.25, abs=0.011)


def test_missing_and_damaged_weights_name_the_command(trained, tmp_path):
    run = results.load_run(shutil.copytree(trained, tmp_path / "results" / "run"))
    path = results.find_weights(run, "resnet18")
    with path.open("r+b") as file:
        file.truncate(10_000)
    with pytest.raises(UserError, match=r"weights\.safetensors cannot be read as weights .*: run python .*results/run"):
        load_shipped_model(run, "resnet18")
    path.unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors is missing: run python .*results/run"):
        load_shipped_model(run, "resnet18")
    assert not run.has_weights


def test_a_probe_is_scikit_learns_logistic_regression_and_chosen_on_validation():
    generator = np.random.default_rng(0)
    labels = {split: np.arange(n) % 10 for split, n in (("train", 400), ("val", 100), ("test", 100))}
    centres = generator.standard_normal((10, 20))
    features = {split: centres[one] + 1.5 * generator.standard_normal((len(one), 20)) for split, one in labels.items()}
    logits = fit_probe(features, labels, (1e-6, 1.0))
    mean, deviation = features["train"].mean(0), features["train"].std(0)
    scaled = {split: (one - mean) / deviation for split, one in features.items()}
    fits = [LogisticRegression(C=c, max_iter=300).fit(scaled["train"], labels["train"]) for c in (1e-6, 1.0)]
    best = max(fits, key=lambda fit: fit.score(scaled["val"], labels["val"]))
    np.testing.assert_allclose(logits["test"], best.decision_function(scaled["test"]), rtol=1e-4, atol=1e-4)
    assert (logits["test"].argmax(1) == labels["test"]).mean() > 0.5


def test_the_script_writes_probes_of_a_runs_own_start_weights(trained, script, fake_cifar, tmp_path):
    run = results.load_run(shutil.copytree(trained, tmp_path / "run"))
    arguments = ["evaluate.py", run.path, "--probe", "--data", fake_cifar, "--start-weights"]
    finished = script(*arguments, "none")
    assert finished.code == 0, finished.error
    for model in TRIO:
        probe, predictions = (results.load_predictions(run, model, "test", name=name) for name in ("probe", "predictions"))
        assert np.array_equal(probe.index, predictions.index) and np.array_equal(probe.labels, predictions.labels)
        assert not np.array_equal(probe.logits, predictions.logits)
    finished = script(*arguments, tmp_path)
    assert finished.code == 2 and "resnet18.safetensors is missing" in finished.error
    other = {name: {"name": "torchvision IMAGENET1K_V1", "file": "x.pth", "sha256": None} for name in BASELINES}
    results.write_run(run.path / "run.json", run.record | {"start_weights": other})
    finished = script(*arguments, "none")
    told = "ResNet18 from torchvision IMAGENET1K_V1; MobileNetV2 from torchvision IMAGENET1K_V1"
    assert finished.error == f"error: --start-weights none: {run.path} started from other weights ({told}): pass --start-weights imagenet\n"

    shutil.copytree(run.path / "resnet18", run.path / "resnet34")  # a control has a start of its own, and no probe
    (run.path / "resnet34" / "probe.parquet").unlink()
    start = {"resnet34": {"name": "another", "file": None, "sha256": None}}
    record = run.record | {"models": run.record["models"] | {"resnet34": {}}, "start_weights": run.record["start_weights"] | start}
    results.write_run(run.path / "run.json", record)
    finished = script(*arguments, "none")
    assert finished.out.splitlines()[-1] == f"wrote {run.path}: probe.parquet of {', '.join(TRIO)}", finished.error
    assert not (run.path / "resnet34" / "probe.parquet").exists()

    for model in ("mobilenet_v2", "fusion"):  # what one network alone did not start from, its record does not tell
        shutil.rmtree(run.path / model)
    one = {"models": {"resnet18": {}}, "start_weights": {"resnet18": {"name": "random", "file": None, "sha256": None}}}
    results.write_run(run.path / "run.json", run.record | one)
    finished = script(*arguments, "none")
    assert finished.out.splitlines()[-1] == f"wrote {run.path}: probe.parquet of resnet18", finished.error
    results.write_run(run.path / "run.json", run.record | one | {"models": {"resnet34": {}}})
    assert "has none of resnet18, mobilenet_v2, fusion, which alone are probed" in script(*arguments, "none").error


@torch.no_grad()
def test_shipped_weights_give_what_the_checkpoint_gave(trained, data, script, fake_cifar, tmp_path):
    """train_sample and features were written with the predictions; --features writes the same from the weights alone."""
    run = results.load_run(shutil.copytree(trained, tmp_path / "results" / "run"))
    written = {}
    for model in TRIO:
        for path in (run.path / model).glob("[tf]*.parquet"):
            written[path] = pd.read_parquet(path)
            path.unlink()
    assert len(written) == 2 * len(TRIO) + len(BASELINES)
    with pytest.raises(UserError, match=r"train_sample\.parquet .*: run python scripts/evaluate\.py .*results/run --features"):
        results.load_predictions(run, "fusion", "train", name="train_sample")
    finished = script("evaluate.py", run.path, "--features", "--data", fake_cifar)
    assert finished.code == 0, finished.error
    for path, frame in written.items():
        pd.testing.assert_frame_equal(pd.read_parquet(path), frame, atol=1e-2, rtol=1e-2)

    sample = results.load_predictions(run, "fusion", "train", name="train_sample")
    train = data.train.first(200)
    assert np.array_equal(sample.index, train.index) and np.array_equal(sample.labels, train.labels)  # of few all are taken
    model = load_shipped_model(run, "fusion")
    np.testing.assert_allclose(sample.logits, model(to_input(train.images, 32)), atol=1e-4, rtol=1e-3)
    branch = model.backbones["mobilenet_v2"](to_input(data.test.images[:200], 32)).numpy()
    components = results.load_features(run, "fusion", "mobilenet_v2")
    kept, whole = (np.linalg.norm(one[:100, None] - one[None, 100:], axis=2) for one in (components, branch))
    assert np.corrcoef(kept.ravel(), whole.ravel())[0, 1] > 0.95  # distances between images are kept
    head = results.load_predictions(run, "ensemble", "test", name="linear_head")
    assert np.array_equal(head.index, np.arange(200)) and head.logits.shape == (200, 10)


def test_the_training_sample_is_even_and_always_the_same(data):
    sample = pick_splits(data, None)["train"]
    assert len(sample) == len(data.train) and len(pick_splits(data, 150)["train"]) == 150
    some = replace(data, train=Split(*(torch.cat([getattr(data.train, name)] * 20) for name in ("index", "images", "labels"))))
    sample, again = (pick_splits(some, None)["train"] for _ in range(2))
    assert torch.equal(torch.bincount(sample.labels), torch.full((10,), 500)) and torch.equal(sample.index, again.index)
