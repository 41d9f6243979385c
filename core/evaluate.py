"""From a checkpoint as it lies on disk to predictions, embeddings and shipped weights. Nothing else computes predictions."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from core import results
from core.config import BASELINES, Recipe, UserError
from core.data import Cifar10, to_input
from core.metrics import ensemble_logits
from core.models import Classifier, build_model, count_costs, load_weights
from core.robustness import corrupt_images, list_conditions, pick_subset
from core.runtime import World, synchronize

BATCH_SIZE = 250


@torch.inference_mode()
def predict(
    model: Classifier, images: torch.Tensor, image_size: int, world: World, dtype: torch.dtype = torch.float32, label: str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images (N, 3, 32, 32) -> float32 logits (N, 10) and penultimate features (N, D), on the images' device.

    Processes share the images; each gets the whole result, in order. `label` names a progress bar.
    """
    rows = run_batches(model, lambda x: torch.cat(model.forward_penultimate(x)[::-1], dim=1), images, image_size, world, dtype, label)
    return rows[:, :10], rows[:, 10:]


@torch.inference_mode()
def predict_branches(model: Classifier, images: torch.Tensor, image_size: int, world: World, label: str) -> dict[str, torch.Tensor]:
    """uint8 images (N, 3, 32, 32) -> each branch head's float32 logits (N, 10), as predict() does."""

    def compute(x: torch.Tensor) -> torch.Tensor:
        return torch.cat(list(model(x, branches=True)[1:]), dim=1)  # (1 + branch heads, B, 10) -> (B, 10 * branch heads)

    rows = run_batches(model, compute, images, image_size, world, label=label)
    return dict(zip(model.branch_heads, rows.split(10, dim=1), strict=True))


def run_batches(
    model: Classifier,
    compute: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    image_size: int,
    world: World,
    dtype: torch.dtype = torch.float32,
    label: str | None = None,
) -> torch.Tensor:
    """`compute` of the model's inputs (B, 3, S, S) -> (B, D), over all images: float32 (N, D), shared out as predict() says."""
    model.eval()
    padded = -(-len(images) // world.size) * world.size  # every process must take equally many
    order = torch.arange(padded, device=images.device) % len(images)
    outputs = []
    for batch in tqdm(order[world.rank :: world.size].split(BATCH_SIZE), label, leave=False, disable=label is None or not world.is_main):
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            outputs.append(compute(to_input(images[batch], image_size)).float())
    return world.gather_rows(torch.cat(outputs))[: len(images)]


def score(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> tuple[float, float]:
    """Mean cross-entropy (with the training's label smoothing, so that curves compare) and accuracy."""
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return loss.item(), (logits.argmax(1) == labels).float().mean().item()


def embed(hidden: np.ndarray) -> np.ndarray:
    """Penultimate features (N, D) -> (N, 2): PCA to 50 components, then t-SNE (van der Maaten & Hinton 2008)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    components = PCA(min(50, *hidden.shape), random_state=0).fit_transform(hidden)
    return TSNE(init="pca", random_state=0, n_jobs=-1).fit_transform(components)


def load_checkpoint_model(checkpoint: dict) -> Classifier:
    """The model of a checkpoint read by train.load_checkpoint, its parameters rounded to float16 as they are shipped.

    So predictions are those of the shipped weights; unrounded, 0.14 % of a MobileNetV2's test answers were others.
    """
    recipe = Recipe.from_dict(checkpoint["run"]["recipe"])
    model = build_model(checkpoint["model_name"], "none", recipe.hidden, recipe.dropout, recipe.branch_loss > 0)
    model.load_state_dict(checkpoint["model"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return model


def load_shipped_model(run: results.Run, model: str) -> Classifier:
    """A run's model with the weights that lie in its folder: float32, eval mode, on the CPU. Raises UserError."""
    path = results.find_weights(run, model)
    classifier = build_model(model, "none", run.recipe.hidden, run.recipe.dropout)
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


def write_model(folder: Path, checkpoint: dict, data: Cifar10, world: World) -> dict[str, float]:
    """Write one model's folder by the results contract; return its parameters, MACs and latency for run.json."""
    recipe, name = Recipe.from_dict(checkpoint["run"]["recipe"]), checkpoint["model_name"]
    model = load_checkpoint_model(checkpoint).to(world.device)
    splits, branches, hidden = {}, {branch: {} for branch in model.branch_heads}, None
    for split_name in ("val", "test"):
        split = getattr(data, split_name).first(recipe.images_per_split)
        logits, hidden = predict(model, split.images, recipe.image_size, world, label=f"{name}: {split_name} predictions")
        keys = split.index.cpu().numpy(), split.labels.cpu().numpy()
        splits[split_name] = (*keys, logits.cpu().numpy())
        if branches:
            own = predict_branches(model, split.images, recipe.image_size, world, f"{name}: {split_name} predictions of the branch heads")
            for branch, values in own.items():
                branches[branch][split_name] = (*keys, values.cpu().numpy())
    model.branch_heads = torch.nn.ModuleDict()  # not shipped, nor counted among the costs
    if world.is_main:
        results.write_history(folder / "history.csv", checkpoint["history"])
        results.write_predictions(folder / "predictions.parquet", splits)
        for branch, own in branches.items():
            results.write_predictions(folder / f"branch_{branch}.parquet", own)
        correct = {one: [row["correct"].numpy() for row in checkpoint["epoch_correct"] if row["split"] == one] for one in splits}
        results.write_epoch_correct(folder / "epoch_correct.csv", correct)
        state = {key: value.cpu().numpy() for key, value in model.state_dict().items()}
        results.write_weights(folder / "weights.safetensors", state, {key for key, _ in model.named_parameters()})
        tqdm.write(f"{name}: embedding {len(hidden):,} test images (PCA, t-SNE)")
        results.write_embedding(folder / "embedding.parquet", splits["test"][0], embed(hidden.cpu().numpy()))
    return count_costs(model, recipe.image_size) | {"latency_ms": measure_latency(model, recipe.image_size)}


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
    """Write probe.parquet of every model of a run: the control without fine-tuning. Raises UserError.

    Its features are those of the model's backbones with their start weights, side by side for the fusion.
    """
    recipe = run.recipe
    splits = {split: getattr(data, split).first(recipe.images_per_split) for split in ("train", "val", "test")}
    labels = {split: one.labels.cpu().numpy() for split, one in splits.items()}
    features = {}
    for name in BASELINES:
        model = build_model(name, start_weights).to(world.device)
        for split, one in splits.items():
            _, hidden = predict(model, one.images, recipe.image_size, world, label=f"{name}: {split} features")
            features[name, split] = hidden.cpu().numpy()
    for name in run.models if world.is_main else ():
        of = [name] if name in BASELINES else BASELINES
        tqdm.write(f"{name}: fitting a linear classifier to {len(labels['train']):,} images")
        logits = fit_probe({split: np.hstack([features[one, split] for one in of]) for split in splits}, labels)
        tables = {split: (splits[split].index.cpu().numpy(), labels[split], logits[split]) for split in logits}
        results.write_predictions(run.path / name / "probe.parquet", tables)


def measure_robustness(models: dict[str, Classifier], images: np.ndarray, labels: np.ndarray, n: int, image_size: int, world: World):
    """Which of a subset of n test images each model answers right under every condition: {model: bool (41, n)}.

    Images are uint8 (N, 32, 32, 3), labels (N,). With both baselines comes their `ensemble`.
    """
    index = pick_subset(labels, n)
    correct = {}
    for corruption, severity in tqdm(list_conditions(), "conditions", disable=not world.is_main, leave=False):
        corrupted = torch.from_numpy(corrupt_images(images[index], index, corruption, severity)).permute(0, 3, 1, 2).to(world.device)
        logits = {name: predict(model, corrupted, image_size, world)[0].cpu().numpy() for name, model in models.items()}
        if set(BASELINES) <= set(logits):
            logits["ensemble"] = ensemble_logits(*(logits[name] for name in BASELINES))
        for name, values in logits.items():
            correct.setdefault(name, []).append(values.argmax(axis=1) == labels[index])
    return {name: np.stack(rows) for name, rows in correct.items()}


def write_results(run: Path, checkpoints: list[dict], data: Cifar10, world: World) -> None:
    """Write all models' folders and run.json aside, then publish them as `run`. Raises UserError."""
    staged = run.with_name(f".{run.name}.partial")
    if world.is_main:
        shutil.rmtree(staged, ignore_errors=True)
    costs = {c["model_name"]: write_model(staged / c["model_name"], c, data, world) for c in checkpoints}
    if world.is_main:
        results.write_run(staged / "run.json", checkpoints[0]["run"] | {"models": costs})
        for line in results.publish(staged, run):
            tqdm.write(line)
    world.barrier()
