"""A whole run from made-up logits, written through core.results: what a reader of results needs, without any training.

The predictions resemble real ones: models agree on which images are hard, and they take cats for dogs, not for ships.
"""

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from core import results
from core.config import BASELINES, CLASSES, RECIPES, TRIO
from core.robustness import list_conditions

CONFUSED_WITH = {  # class: the classes it is taken for, with how often; any other is as likely as the last
    "airplane": ("ship", 4, "bird", 3, "truck", 1),
    "automobile": ("truck", 8, "ship", 1),
    "bird": ("deer", 3, "frog", 3, "airplane", 2, "dog", 2, "cat", 2),
    "cat": ("dog", 9, "frog", 2, "deer", 2, "bird", 2),
    "deer": ("horse", 3, "bird", 3, "cat", 2, "frog", 1),
    "dog": ("cat", 9, "horse", 2, "bird", 1),
    "frog": ("bird", 3, "cat", 3, "deer", 1),
    "horse": ("deer", 3, "dog", 3, "cat", 1),
    "ship": ("airplane", 5, "automobile", 2, "truck", 1),
    "truck": ("automobile", 8, "airplane", 1, "ship", 1),
}
EASE = np.array([0.1, 0.6, -0.5, -1.1, 0.0, -0.7, 0.4, 0.3, 0.4, 0.3])  # a class's margin over the mean, in logits
STRENGTH = {"resnet18": 3.9, "mobilenet_v2": 3.8, "fusion": 4.2}  # mean margin of the right class, in logits
COSTS = {
    "resnet18": {"parameters": 11_181_642, "macs": 333_108_224, "latency_ms": 5.1},
    "mobilenet_v2": {"parameters": 2_236_682, "macs": 55_021_952, "latency_ms": 7.2},
    "fusion": {"parameters": 14_327_114, "macs": 389_034_880, "latency_ms": 12.6},
}
SPEED = {"resnet18": 220.0, "mobilenet_v2": 260.0, "fusion": 110.0}  # training images a second


def confuser_shares() -> np.ndarray:
    """(10, 10): the share of each class (column) among what a class (row) is taken for."""
    shares = np.full((10, 10), 0.3)
    for name, pairs in CONFUSED_WITH.items():
        for other, weight in zip(pairs[::2], pairs[1::2], strict=True):
            shares[CLASSES.index(name), CLASSES.index(other)] = weight
    np.fill_diagonal(shares, 0)
    return shares / shares.sum(axis=1, keepdims=True)


def make_logits(labels: np.ndarray, models: tuple[str, ...], seed: int) -> dict[str, np.ndarray]:
    """Each model's float32 logits (N, 10) for labels (N,): about 93 to 95 % right."""
    generator = np.random.default_rng(seed)
    rows, n = np.arange(len(labels)), len(labels)
    shared = 2.0 * generator.standard_normal(n)  # how easy an image is for any model
    shares = confuser_shares()
    confuser = np.array([generator.choice(10, p=shares[label]) for label in labels])
    logits = {}
    for model in TRIO:  # always all, so that a model's logits do not depend on which others are asked for
        own = 1.5 * generator.standard_normal(n)
        values = 0.7 * generator.standard_normal((n, 10)) - 1
        values[rows, labels] = 4.5
        values[rows, confuser] = 4.5 - (STRENGTH[model] + EASE[labels] + shared + own)
        logits[model] = values.astype(np.float32)
    return {model: logits[model] for model in models}


def make_history(model: str, recipe, loss: float, accuracy: float) -> list[dict]:
    """history.csv's rows: curves that end at the given validation loss and accuracy."""
    rows, images = [], recipe.images_per_split or 44_928
    for epoch in range(1, recipe.epochs + 1):
        frozen, left = epoch <= recipe.frozen_epochs, (recipe.epochs - epoch) / recipe.epochs  # left: 0.8 ... 0
        rows.append(
            {
                "epoch": epoch,
                "phase": "frozen" if frozen else "finetune",
                "lr_head": (recipe.lr_head if model == "fusion" else recipe.lr_baseline_head) * left,
                "lr_backbone": 0.0 if frozen else recipe.lr_backbone * left,
                "train_loss": loss - 0.03 + 0.5 * left + 0.3 * frozen,
                "train_accuracy": accuracy + 0.012 - 0.1 * left - 0.1 * frozen,
                "val_loss": loss + 0.3 * left + 0.2 * frozen,
                "val_accuracy": accuracy - 0.05 * left - 0.12 * frozen,
                "images_per_second": SPEED[model] * (3 if frozen else 1),
                "time_seconds": images / SPEED[model] / (3 if frozen else 1),
                "image_size": recipe.training_sizes[epoch - 1],
            }
        )
    return rows


@cache
def encode_test_images(n: int) -> tuple[np.ndarray, dict[str, bytes]]:
    """Labels (n,) and the content of both files: kept, since a second goes into encoding 10,000 images."""
    generator = np.random.default_rng(0)
    labels = np.arange(n) % 10
    generator.shuffle(labels)
    patterns = generator.integers(0, 256, (50, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)  # (50, 32, 32, 3)
    twins = np.sort(generator.choice(n, min(n, 20), replace=False))
    pairs = {"index": twins, "train_index": generator.integers(0, 50_000, len(twins)), "similarity": np.linspace(0.99, 0.9, len(twins))}
    pairs = pd.DataFrame(pairs | {"kind": np.where(np.arange(len(twins)) % 3, "near", "exact")})
    with TemporaryDirectory() as folder:
        results.write_test_images(Path(folder) / "test_images.parquet", patterns[labels * 5 + np.arange(n) % 5], labels)
        results.write_near_duplicates(Path(folder) / "near_duplicates.parquet", pairs)
        return labels, {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def make_test_images(results_folder: Path, n: int = 10_000) -> np.ndarray:
    """Write test_images.parquet with made-up labels and one of 50 patterns an image, and near_duplicates.parquet of 20 of them.

    Returns the labels (n,).
    """
    labels, files = encode_test_images(n)
    results_folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (results_folder / name).write_bytes(content)
    return labels.copy()


def write_optional_tables(folder: Path, model: str, splits: dict, epochs: int, seed: int) -> None:
    """Write what a run may add for a model: train_sample, features, epoch_correct, epoch_predicted, and the fusion's branches.

    `splits` are those of predictions.parquet: {split: (index, labels, logits)}.
    """
    generator = np.random.default_rng((seed, list(STRENGTH).index(model)))
    index, labels, _ = splits["test"]
    sample = np.sort(np.random.default_rng(seed).choice(50_000, min(5_000, len(index)), replace=False))  # the same for every model
    of_sample = generator.permutation(np.arange(len(sample)) % 10)
    sampled = make_logits(of_sample, (model,), seed + 100)[model]
    sampled[np.arange(len(sample)), of_sample] += 1.5  # better known than test images
    results.write_predictions(folder / "train_sample.parquet", {"train": (sample, of_sample, sampled)})
    centres = 4 * generator.standard_normal((10, 50)) / np.sqrt(1 + np.arange(50))
    components = centres[labels] + generator.standard_normal((len(labels), 50)) / np.sqrt(1 + np.arange(50))
    results.write_features(folder / "features.parquet", index, components[:, : len(labels)])
    correct = {}
    for split, (_, truth, values) in splits.items():
        left, luck = 1 - np.arange(1, epochs + 1)[:, None] / epochs, generator.random(len(truth))
        correct[split] = np.where(values.argmax(axis=1) == truth, luck > 0.2 * left, luck < 0.1 * left)
    results.write_epoch_correct(folder / "epoch_correct.csv", correct)
    (_, truth, values), bits = splits["val"], correct["val"]
    second = np.where(np.arange(10) == truth[:, None], -np.inf, values).argmax(axis=1)  # the likeliest other class
    results.write_epoch_predicted(folder / "epoch_predicted.csv", {"val": np.where(bits, truth, second)})
    for i, branch in enumerate(BASELINES if model == "fusion" else ()):
        heads = {}
        for split, (*keys, values) in splits.items():
            heads[split] = (*keys, (0.7 + 0.1 * i) * values + generator.standard_normal(values.shape))
        results.write_predictions(folder / f"branch_{branch}.parquet", heads)


def make_run(
    results_folder: Path,
    name: str,
    n_test: int = 10_000,
    seed: int = 0,
    models: tuple[str, ...] = TRIO,
    labels: np.ndarray | None = None,
    image_sizes: tuple[int, ...] | None = None,
) -> Path:
    """Write the run `name` with `models`, and made-up test images where the folder has none; return its folder.

    With fewer than 10,000 test images the recipe says so (images_per_split), and validation has half as many.
    `labels` are the test labels (n,); by default those of test_images.parquet.
    `image_sizes`: pixels a side in each of its five epochs; by default 96 in all.
    """
    if labels is None:
        path = results_folder / "test_images.parquet"
        labels = results.load_test_images(results_folder).labels if path.exists() else make_test_images(results_folder)
    recipe, n_val = replace(RECIPES["cpu-96"], image_sizes=image_sizes), 5_000
    if n_test < 10_000:
        recipe, n_val = replace(recipe, images_per_split=n_test, batch_size=min(128, n_test)), min(n_test, 5_000)
    generator = np.random.default_rng(0)  # all seeds share the split
    val_index = np.sort(generator.permutation(50_000)[:n_val])
    val_labels = generator.permutation(np.arange(n_val) % 10)
    test_labels = labels[:n_test]
    all_labels = np.concatenate([val_labels, test_labels])
    run = results_folder / name
    for model, logits in make_logits(all_labels, models, seed).items():
        val, test = logits[:n_val], logits[n_val:]
        splits = {"val": (val_index, val_labels, val), "test": (np.arange(n_test), test_labels, test)}
        results.write_predictions(run / model / "predictions.parquet", splits)
        log_probabilities = val - np.log(np.exp(val).sum(axis=1, keepdims=True))
        smooth = recipe.label_smoothing
        loss = -((1 - smooth) * log_probabilities[np.arange(n_val), val_labels] + smooth * log_probabilities.mean(axis=1)).mean()
        history = make_history(model, recipe, float(loss), float((val.argmax(axis=1) == val_labels).mean()))
        results.write_history(run / model / "history.csv", history)
        angle = 2 * np.pi * (0.7 * test_labels + 0.3 * test.argmax(axis=1)) / 10  # a blob a class; wrong predictions between two
        xy = 40 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 4 * generator.standard_normal((n_test, 2))
        results.write_embedding(run / model / "embedding.parquet", np.arange(n_test), xy.astype(np.float32))
        results.write_predictions(run / model / "probe.parquet", {split: (*keys, 0.6 * one) for split, (*keys, one) in splits.items()})
        write_optional_tables(run / model, model, splits, recipe.epochs, seed)
    severity = np.array([severity for _, severity in list_conditions()])[:, None]  # (41, 1)
    for model in (*models, *(["ensemble"] if set(BASELINES) <= set(models) else [])):
        ease = generator.standard_normal((1, min(200, n_test)))  # the same images are hard in every condition
        results.write_robustness(run / model / "robustness.csv", ease > 0.35 * severity - 1.6)
    weights = {backbone: {"name": "made up", "file": None, "sha256": None} for backbone in ("resnet18", "mobilenet_v2")}
    record = {
        "recipe": asdict(recipe),
        "seed": seed,
        "start_weights": weights,
        "precision": "bfloat16",
        "data_md5": {},
        "code_commit": "none: made-up predictions, not a training",
        "libraries": {"python": "3.12.0"},
        "device": "made up",
        "processes": 1,
        "models": {model: COSTS[model] for model in models},
    }
    results.write_run(run / "run.json", record)
    return run


def ship_weights(run: Path) -> None:
    """Let a made-up run ship weights: random ones of small networks for 32 px."""
    import torch

    from core.models import build_model

    record = results.load_run(run).record
    record["recipe"] |= {"image_size": 32, "hidden": 16}
    results.write_run(run / "run.json", record)
    for i, model in enumerate(TRIO):
        torch.manual_seed(i)
        built = build_model(model, "none", 16, 0.0)
        state = {key: value.numpy() for key, value in built.state_dict().items()}
        results.write_weights(run / model / "weights.safetensors", state, {key for key, _ in built.named_parameters()})
