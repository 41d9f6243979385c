"""From a checkpoint as it lies on disk to predictions, embeddings and shipped weights. Nothing else computes predictions."""

import math
import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from core import results
from core.config import BASELINES, ENSEMBLE, MODELS, TRIO, Recipe, UserError
from core.data import Cifar10, Split, to_input
from core.metrics import ensemble_logits
from core.models import Classifier, build_model, count_costs, load_weights
from core.robustness import corrupt_images, list_conditions, pick_subset
from core.runtime import World, autocast_dtype, seed_everything, synchronize

BATCH_SIZE = 250
TRAIN_SAMPLE = 5_000  # images


@torch.inference_mode()
def extract_features(
    model: Classifier, images: torch.Tensor, image_size: int, world: World, dtype: torch.dtype = torch.float32, label: str | None = None
) -> torch.Tensor:
    """uint8 images (N, 3, 32, 32) -> float32 features of the backbones, side by side (N, D), on the images' device.

    Processes share the images; each gets the whole result, in order. `label` names a progress bar.
    """
    model.eval()
    padded = -(-len(images) // world.size) * world.size  # every process must take equally many
    order = torch.arange(padded, device=images.device) % len(images)
    outputs = []
    batches = order[world.rank :: world.size].split(BATCH_SIZE)
    for batch in tqdm(batches, label, leave=False, disable=label is None or not world.is_main):
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            outputs.append(model.forward_features(to_input(images[batch], image_size)).float())
    return world.gather_rows(torch.cat(outputs))[: len(images)]


@torch.inference_mode()
def apply_head(model: Classifier, features: torch.Tensor, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of the backbones (N, D) -> float32 logits (N, 10) and what the last layer sees (N, H)."""
    model.eval()
    with torch.autocast(features.device.type, dtype, enabled=dtype != torch.float32):
        hidden = model.head[:-1](features)
        logits = model.head[-1](hidden)
    return logits.float(), hidden.float()


def predict(
    model: Classifier, images: torch.Tensor, image_size: int, world: World, dtype: torch.dtype = torch.float32, label: str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images (N, 3, 32, 32) -> float32 logits (N, 10) and penultimate features (N, H); see extract_features."""
    return apply_head(model, extract_features(model, images, image_size, world, dtype, label), dtype)


@torch.inference_mode()
def apply_branch_heads(model: Classifier, features: torch.Tensor) -> dict[str, torch.Tensor]:
    """Classifier.forward_branch_heads in eval mode."""
    model.eval()
    return model.forward_branch_heads(features)


def score(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> tuple[float, float]:
    """Mean cross-entropy (with the training's label smoothing, so that curves compare) and accuracy."""
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return loss.item(), (logits.argmax(1) == labels).float().mean().item()


def reduce_features(features: np.ndarray) -> np.ndarray:
    """Features (N, D) -> their first 50 principal components (N, 50), fewer where there are not as many."""
    from sklearn.decomposition import PCA

    return PCA(min(len(results.COMPONENTS), *features.shape), random_state=0).fit_transform(features)


def embed(components: np.ndarray) -> np.ndarray:
    """Principal components (N, K) -> a map (N, 2) by t-SNE (van der Maaten & Hinton 2008)."""
    from sklearn.manifold import TSNE

    return TSNE(init="pca", random_state=0, n_jobs=-1).fit_transform(components)


def load_checkpoint_model(checkpoint: dict[str, Any]) -> Classifier:
    """The model of a checkpoint read by train.load_checkpoint, its parameters rounded to float16 as they are shipped.

    So predictions are those of the shipped weights; unrounded, 0.14 % of a MobileNetV2's test predictions were others.
    """
    recipe = Recipe.from_dict(checkpoint["run"]["recipe"])
    model = build_model(checkpoint["model_name"], "none", **recipe.network)
    model.load_state_dict(checkpoint["model"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return model


def load_shipped_model(run: results.Run, model: str) -> Classifier:
    """A run's model with the weights that lie in its folder: float32, eval mode, on the CPU. Raises UserError."""
    path = results.find_weights(run, model)
    classifier = build_model(model, "none", **run.recipe.network | {"branch_heads": False})
    try:
        load_weights(classifier, path)
    except UserError as error:
        raise UserError(f"{error}: run {results.rebuild_command(run.path)}") from None
    return classifier.eval()


def shipped_agreement(run: results.Run, model: str, data: Cifar10, world: World) -> float:
    """Share of the test images that the shipped weights put in the same class as the shipped predictions. Raises UserError."""
    shipped = results.load_predictions(run, model, "test", data.test.labels.cpu().numpy())
    classifier = load_shipped_model(run, model).to(world.device)
    images = data.test.images[torch.tensor(shipped.index, device=world.device)]
    logits, _ = predict(classifier, images, run.recipe.image_size, world, label=f"{model}: check")
    return float((logits.argmax(1).cpu().numpy() == shipped.logits.argmax(1)).mean())


@torch.inference_mode()
def measure_latency(model: Classifier, image_size: int, repeats: int = 50) -> float:
    """Milliseconds from one image (1, 3, S, S) to its logits in float32, the median of `repeats`."""
    model.eval()
    x = torch.zeros(1, 3, image_size, image_size, device=next(model.parameters()).device)
    seconds = []
    for _ in range(repeats):
        synchronize(x.device)
        start = time.perf_counter()
        model(x)
        synchronize(x.device)
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds))


def pick_splits(data: Cifar10, n: int | None) -> dict[str, Split]:
    """What is predicted: validation and test images, and a stratified sample of the training images; of each split's first n."""
    train = data.train.first(n)
    chosen = torch.from_numpy(pick_subset(train.labels.cpu().numpy(), min(TRAIN_SAMPLE, len(train)))).to(train.index.device)
    sample = Split(train.index[chosen], train.images[chosen], train.labels[chosen])
    return {"train": sample, "val": data.val.first(n), "test": data.test.first(n)}


def write_features(folder: Path, model: Classifier, index: np.ndarray, features: torch.Tensor, hidden: torch.Tensor) -> np.ndarray:
    """Write features.parquet and, where there are two backbones, each one's; return the components (N, 50) of the first."""
    components = reduce_features(hidden.cpu().numpy())
    results.write_features(folder / "features.parquet", index, components)
    if len(model.backbones) > 1:
        for name, part in model.split_features(features).items():
            results.write_features(folder / f"features_{name}.parquet", index, reduce_features(part.cpu().numpy()))
    return components


def write_model(folder: Path, checkpoint: dict[str, Any], data: Cifar10, world: World) -> dict[str, float]:
    """Write one model's folder by the results contract; return its parameters, MACs and latency for run.json."""
    recipe, name = Recipe.from_dict(checkpoint["run"]["recipe"]), checkpoint["model_name"]
    model = load_checkpoint_model(checkpoint).to(world.device)
    splits: dict[str, results.Rows] = {}
    branches: dict[str, dict[str, results.Rows]] = {}
    for split_name, split in pick_splits(data, recipe.images_per_split).items():
        features = extract_features(model, split.images, recipe.image_size, world, label=f"{name}: {split_name} predictions")
        logits, hidden = apply_head(model, features)
        keys = split.index.cpu().numpy(), split.labels.cpu().numpy()
        splits[split_name] = (*keys, logits.cpu().numpy())
        for branch, values in apply_branch_heads(model, features).items():
            branches.setdefault(branch, {})[split_name] = (*keys, values.cpu().numpy())
    model.branch_heads = torch.nn.ModuleDict()  # not shipped, nor counted among the costs
    if world.is_main:
        results.write_history(folder / "history.csv", checkpoint["history"])
        results.write_predictions(folder / "train_sample.parquet", {"train": splits.pop("train")})
        results.write_predictions(folder / "predictions.parquet", splits)
        for branch, own in branches.items():
            results.write_predictions(folder / f"branch_{branch}.parquet", {split_name: own[split_name] for split_name in splits})
        correct = {one: [row["correct"].numpy() for row in checkpoint["epoch_correct"] if row["split"] == one] for one in splits}
        results.write_epoch_correct(folder / "epoch_correct.csv", correct)
        predicted = [row["predicted"].numpy() for row in checkpoint["epoch_correct"] if row["split"] == "val" and "predicted" in row]
        if len(predicted) == recipe.epochs:  # checkpoints of earlier versions kept no classes
            results.write_epoch_predicted(folder / "epoch_predicted.csv", {"val": predicted})
        state = {key: value.cpu().numpy() for key, value in model.state_dict().items()}
        results.write_weights(folder / "weights.safetensors", state, {key for key, _ in model.named_parameters()})
        tqdm.write(f"{name}: embedding {len(hidden):,} test images (PCA, t-SNE)")
        components = write_features(folder, model, splits["test"][0], features, hidden)
        results.write_embedding(folder / "embedding.parquet", splits["test"][0], embed(components))
    world.barrier()  # beside other processes at work it would be measured wrongly
    latency = measure_latency(model, recipe.image_size) if world.is_main else math.nan
    world.barrier()
    return count_costs(model, recipe.image_size) | {"latency_ms": latency}


def write_from_weights(run: results.Run, data: Cifar10, world: World) -> None:
    """Write what a run's shipped weights give beyond its predictions: train_sample.parquet and features.parquet of every model,
    and linear_head.parquet of the ensemble: a linear classifier on both baselines' features, fine-tuned apart. Raises UserError.
    """
    recipe, predicted = run.recipe, results.fingerprint(run, run.models)
    dtype = autocast_dtype(world.device, recipe.bfloat16)
    splits, of_baselines = pick_splits(data, recipe.images_per_split), {}
    train = data.train.first(recipe.images_per_split)
    for name in run.models:
        model = load_shipped_model(run, name).to(world.device)
        parts = {
            split: extract_features(model, one.images, recipe.image_size, world, label=f"{name}: {split}") for split, one in splits.items()
        }
        logits, _ = apply_head(model, parts["train"])
        if world.is_main:
            index, labels, values = (t.cpu().numpy() for t in (splits["train"].index, splits["train"].labels, logits))
            of_test, (_, hidden) = splits["test"].index.cpu().numpy(), apply_head(model, parts["test"])
            with results.still_of(run, predicted):
                results.write_predictions(run.path / name / "train_sample.parquet", {"train": (index, labels, values)})
                write_features(run.path / name, model, of_test, parts["test"], hidden)
        if run.has_baselines and name in BASELINES:  # as the heads saw them in training, but for the augmentation
            parts["train"] = extract_features(model, train.images, recipe.image_size, world, dtype, f"{name}: all of train")
            of_baselines[name] = {split: values.cpu().numpy() for split, values in parts.items()}
    if run.has_baselines and world.is_main:
        splits["train"] = train
        truth = {split: one.labels.cpu().numpy() for split, one in splits.items()}
        tqdm.write(f"fitting a linear classifier to both baselines' features of {len(train):,} images")
        fitted = fit_probe({split: np.hstack([of_baselines[name][split] for name in BASELINES]) for split in splits}, truth)
        tables = {split: (splits[split].index.cpu().numpy(), truth[split], values) for split, values in fitted.items()}
        with results.still_of(run, predicted):
            results.write_predictions(run.path / ENSEMBLE / "linear_head.parquet", tables)


def fit_probe(
    features: dict[str, np.ndarray], labels: dict[str, np.ndarray], strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
) -> dict[str, np.ndarray]:
    """Logits (N, 10) for `val` and `test` of a linear classifier on the features (N, D) of `train`.

    Standardised features, multinomial logistic regression (scikit-learn), its C the one of `strengths` best on validation.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features["train"])
    scaled = {split: scaler.transform(values) for split, values in features.items()}
    fits = [LogisticRegression(C=strength, max_iter=300).fit(scaled["train"], labels["train"]) for strength in strengths]
    best = max(fits, key=lambda fit: fit.score(scaled["val"], labels["val"]))
    return {split: best.decision_function(scaled[split]).astype(np.float32) for split in ("val", "test")}


def write_probes(run: results.Run, start_weights: str, data: Cifar10, world: World) -> None:
    """Write probe.parquet of the baselines and the fusion: the control without fine-tuning. Raises UserError.

    Its features are those of the model's backbones with their start weights, side by side for the fusion, computed in the
    recipe's precision, as the frozen phase's heads see them. Where the start was random, those of the fusion are the baselines',
    which are not the ones its own training drew.
    """
    recipe, dtype = run.recipe, autocast_dtype(world.device, run.recipe.bfloat16)
    splits = {split: getattr(data, split).first(recipe.images_per_split) for split in ("train", "val", "test")}
    labels = {split: one.labels.cpu().numpy() for split, one in splits.items()}
    features = {}
    probed = [model for model in run.models if model in TRIO]
    for name in dict.fromkeys(backbone for model in probed for backbone in MODELS[model].backbones):
        seed_everything(run.record["seed"])  # as train.fit does: random start weights are those that this network's training began with
        model = build_model(name, start_weights, **recipe.network).to(world.device)
        for split, one in splits.items():
            values = extract_features(model, one.images, recipe.image_size, world, dtype, f"{name}: {split} features")
            features[name, split] = values.cpu().numpy()
    for name in probed if world.is_main else ():
        of = MODELS[name].backbones
        tqdm.write(f"{name}: fitting a linear classifier to {len(labels['train']):,} images")
        logits = fit_probe({split: np.hstack([features[one, split] for one in of]) for split in splits}, labels)
        tables = {split: (splits[split].index.cpu().numpy(), labels[split], logits[split]) for split in logits}
        with results.one_at_a_time(run.path):  # nobody publishes meanwhile
            results.write_predictions(run.path / name / "probe.parquet", tables)


def measure_robustness(
    models: dict[str, Classifier], images: np.ndarray, labels: np.ndarray, n: int, image_size: int, world: World
) -> dict[str, np.ndarray]:
    """Which of a subset of n test images each model predicts correctly under every condition: {model: bool (41, n)}.

    Images are uint8 (N, 32, 32, 3), labels (N,). With both baselines comes their `ensemble`.
    """
    index = pick_subset(labels, n)
    correct: dict[str, list[np.ndarray]] = {}
    for corruption, severity in tqdm(list_conditions(), "conditions", disable=not world.is_main, leave=False):
        corrupted = torch.from_numpy(corrupt_images(images[index], index, corruption, severity)).permute(0, 3, 1, 2).to(world.device)
        logits = {name: predict(model, corrupted, image_size, world)[0].cpu().numpy() for name, model in models.items()}
        if set(BASELINES) <= set(logits):
            logits[ENSEMBLE] = ensemble_logits(*(logits[name] for name in BASELINES))
        for name, values in logits.items():
            correct.setdefault(name, []).append(values.argmax(axis=1) == labels[index])
    return {name: np.stack(rows) for name, rows in correct.items()}


def write_results(run: Path, checkpoints: list[dict[str, Any]], data: Cifar10, world: World) -> None:
    """Write all models' folders and run.json aside, then publish them as `run`. Raises UserError."""
    staged = results.name_staged(run, [c["model_name"] for c in checkpoints])
    with results.one_at_a_time(staged, wait=False) if world.is_main else nullcontext():
        if world.is_main:
            shutil.rmtree(staged, ignore_errors=True)
        costs = {c["model_name"]: write_model(staged / c["model_name"], c, data, world) for c in checkpoints}
        if world.is_main:
            starts = {name: start for c in checkpoints for name, start in c["run"]["start_weights"].items()}
            first = checkpoints[0]["run"]
            for c in checkpoints:  # another commit or machine may have trained it
                costs[c["model_name"]] |= {key: c["run"][key] for key in results.PROVENANCE if c["run"][key] != first[key]}
            results.write_run(staged / "run.json", first | {"start_weights": starts, "models": costs})
            for line in results.publish(staged, run):
                tqdm.write(line)
    world.barrier()
