"""From a checkpoint as it lies on disk to predictions, embeddings and shipped weights. Nothing else computes predictions."""

import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from tqdm import tqdm

from core import results
from core.config import Recipe, UserError
from core.data import Cifar10, to_input
from core.models import Classifier, build_model, count_costs, load_weights
from core.runtime import World

BATCH_SIZE = 250


@torch.inference_mode()
def predict(
    model: Classifier, images: torch.Tensor, image_size: int, world: World, dtype: torch.dtype = torch.float32, label: str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images (N, 3, 32, 32) -> float32 logits (N, 10) and penultimate features (N, D), on the images' device.

    Processes share the images; each gets the whole result, in order. `label` names a progress bar.
    """
    model.eval()
    padded = -(-len(images) // world.size) * world.size  # every process must take equally many
    order = torch.arange(padded, device=images.device) % len(images)
    outputs = []
    batches = order[world.rank :: world.size].split(BATCH_SIZE)
    for batch in tqdm(batches, label, leave=False, disable=label is None or not world.is_main):
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            hidden, logits = model.forward_penultimate(to_input(images[batch], image_size))
        outputs.append(torch.cat([logits.float(), hidden.float()], dim=1))  # (B, 10 + D)
    rows = world.gather_rows(torch.cat(outputs))[: len(images)]
    return rows[:, :10], rows[:, 10:]


def score(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> tuple[float, float]:
    """Mean cross-entropy (with the training's label smoothing, so that curves compare) and accuracy."""
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return loss.item(), (logits.argmax(1) == labels).float().mean().item()


def embed(hidden: np.ndarray) -> np.ndarray:
    """Penultimate features (N, D) -> (N, 2): PCA to 50 components, then t-SNE (van der Maaten & Hinton 2008)."""
    components = PCA(min(50, *hidden.shape), random_state=0).fit_transform(hidden)
    return TSNE(init="pca", random_state=0, n_jobs=-1).fit_transform(components)


def load_checkpoint_model(checkpoint: dict) -> Classifier:
    """The model of a checkpoint read by train.load_checkpoint, with its weights."""
    recipe = Recipe.from_dict(checkpoint["run"]["recipe"])
    model = build_model(checkpoint["model_name"], "none", recipe.hidden, recipe.dropout)
    model.load_state_dict(checkpoint["model"])
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
    images = data.test.images[torch.from_numpy(shipped.index).to(world.device)]
    logits, _ = predict(classifier, images, run.recipe.image_size, world, label=f"{model}: check")
    return float((logits.argmax(1).cpu().numpy() == shipped.logits.argmax(1)).mean())


def write_model(folder: Path, checkpoint: dict, data: Cifar10, world: World) -> dict[str, int]:
    """Write one model's folder by the results contract; return its parameters and MACs for run.json."""
    recipe, name = Recipe.from_dict(checkpoint["run"]["recipe"]), checkpoint["model_name"]
    model = load_checkpoint_model(checkpoint).to(world.device)
    splits, hidden = {}, None
    for split_name in ("val", "test"):
        split = getattr(data, split_name).first(recipe.images_per_split)
        logits, hidden = predict(model, split.images, recipe.image_size, world, label=f"{name}: {split_name} predictions")
        splits[split_name] = tuple(t.cpu().numpy() for t in (split.index, split.labels, logits))
    if world.is_main:
        results.write_history(folder / "history.csv", checkpoint["history"])
        results.write_predictions(folder / "predictions.parquet", splits)
        state = {key: value.cpu().numpy() for key, value in model.state_dict().items()}
        results.write_weights(folder / "weights.safetensors", state, {key for key, _ in model.named_parameters()})
        tqdm.write(f"{name}: embedding {len(hidden):,} test images (PCA, t-SNE)")
        results.write_embedding(folder / "embedding.parquet", splits["test"][0], embed(hidden.cpu().numpy()))
    return count_costs(model, recipe.image_size)


def write_results(run: Path, checkpoints: list[dict], data: Cifar10, world: World) -> None:
    """Write all models' folders and run.json aside, then publish them as `run`. Raises UserError."""
    staged = run.with_name(f".{run.name}.partial")
    if world.is_main:
        shutil.rmtree(staged, ignore_errors=True)
    costs = {c["model_name"]: write_model(staged / c["model_name"], c, data, world) for c in checkpoints}
    if world.is_main:
        results.write_run(staged / "run.json", checkpoints[0]["run"] | {"models": costs})
        results.publish(staged, run)
    world.barrier()
