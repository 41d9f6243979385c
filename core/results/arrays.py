"""What lies in a model's folder as arrays: weights.safetensors and attributions.npz. Each write stands beside its read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from core.config import BACKBONES, CLASSES, UserError
from core.explain import METHODS, WHOLE
from core.results.files import LARGEST, MissingFile, read_arrays, say_why, write_whole
from core.results.run import Run, explain_command, rebuild_command, refuse_imported, refuse_without_weights, split_size


def write_weights(path: Path, state: dict[str, np.ndarray], parameters: set[str]) -> None:
    """weights.safetensors: `parameters` as float16, all other values (BatchNorm statistics) as they are."""
    # safetensors writes memory as it lies: filters that torch keeps channels_last must be put in row order first
    ordered = {key: np.asarray(value, order="C") for key, value in state.items()}
    halved = {key: value.astype(np.float16) if key in parameters else value for key, value in ordered.items()}
    overflown = [key for key in halved if not np.isfinite(halved[key]).all()]
    if overflown:
        raise UserError(f"{path}: {overflown[0]} does not fit float16: the training diverged")
    write_whole(path, lambda aside: aside.write_bytes(safetensors.numpy.save(halved)))


def find_weights(run: Run, model: str) -> Path:
    """weights.safetensors of a model, which core.evaluate.load_shipped_model reads. Raises MissingFile where the run ships none."""
    path = run.path / model / "weights.safetensors"
    refuse_imported(run, path)
    if not path.is_file():
        raise MissingFile(f"{path} is missing: run {rebuild_command(run.path)}")
    return path


@dataclass(frozen=True)
class Attributions:
    """Maps of N test images, and what each branch of the fusion carries over all M test images."""

    index: np.ndarray  # (N,) int64, ascending
    target: np.ndarray  # (N,) int64, the class explained
    contrast: np.ndarray  # (N,) int64, the contrast class, whose logit is subtracted; -1 where none is (in the file: minus)
    maps: dict[str, dict[str, np.ndarray]]  # {method: {part: (N, 32, 32) float32}}
    branches: dict[str, dict[str, np.ndarray]]  # {"contribution": {branch: (M,)}, "ablated": {branch: logits (M, 10)}}, or empty
    record: dict[str, Any]  # image_size, and each method's parameters


def write_attributions(
    path: Path,
    rows: dict[str, np.ndarray],
    maps: dict[str, dict[str, np.ndarray]],
    branches: dict[str, dict[str, np.ndarray]],
    record: dict[str, Any],
) -> None:
    """attributions.npz: the arrays of Attributions, its maps as float16."""
    arrays = {**rows, "record": np.array(json.dumps(record))}
    for method, parts in maps.items():
        for part, values in parts.items():
            arrays[f"map/{method}/{part}"] = values.astype(np.float16)
            if not np.isfinite(arrays[f"map/{method}/{part}"]).all():
                raise UserError(f"{path}: {method} gave values that do not fit float16: the model is damaged")
    arrays |= {f"branch/{kind}/{branch}": values for kind, parts in branches.items() for branch, values in parts.items()}

    def write(aside: Path) -> None:
        with aside.open("wb") as file:  # NumPy would append .npz to a name
            np.savez_compressed(file, allow_pickle=False, **arrays)

    write_whole(path, write)


def load_attributions(run: Run, model: str) -> Attributions:
    """attributions.npz. Raises MissingFile, UserError."""
    path = run.path / model / "attributions.npz"
    repair = explain_command(run.path, model)
    refuse_without_weights(run, path)
    try:
        arrays = read_arrays(path, LARGEST)
        index, target, contrast = (_as_integers(name, arrays.pop(name)) for name in ("index", "target", "minus"))
        record = json.loads(str(arrays.pop("record")))
        if not isinstance(record, dict):
            raise ValueError("its record is not an object")
        found: dict[str, dict[str, dict[str, np.ndarray]]] = {"map": {}, "branch": {}}
        for key, values in arrays.items():
            kind, name, part = key.split("/")
            found[kind].setdefault(name, {})[part] = values.astype(np.float32)
    except FileNotFoundError as error:
        raise MissingFile(f"{path} cannot be read ({say_why(error)}): run {repair}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({say_why(error)}): run {repair}") from None
    parts_known = {WHOLE, *BACKBONES}
    if strange := [
        f"{name}/{part}" for name, parts in found["map"].items() for part in parts if name not in METHODS or part not in parts_known
    ]:
        raise UserError(f"{path} holds maps that this version does not know, {strange[0]}: run {repair}")
    total = split_size(run, "test")
    shapes = {"contribution": (total,), "ablated": (total, len(CLASSES))}
    expected = {name: (len(index), 32, 32) for name in found["map"]} | shapes
    for name, parts in {**found["map"], **found["branch"]}.items():
        for part, values in parts.items():
            if values.shape != expected.get(name) or not np.isfinite(values).all():
                raise UserError(f"{path}: {name} of {part} is not whole: run {repair}")
    kinds = set(found["branch"])
    if kinds and (kinds != set(shapes) or found["branch"]["contribution"].keys() != found["branch"]["ablated"].keys()):
        raise UserError(f"{path} lacks {', '.join(sorted(set(shapes) - kinds)) or 'a branch'}: run {repair}")
    if not ((np.diff(index) > 0).all() and index[0] >= 0 and index[-1] < total and len(index) == len(target) == len(contrast)):
        raise UserError(f"{path} does not hold test images in order: run {repair}")
    for name, values, least in (("target", target, 0), ("minus", contrast, -1)):
        if values.min() < least or values.max() >= len(CLASSES):
            raise UserError(f"{path}: {name} should hold classes, {least} to {len(CLASSES) - 1}: run {repair}")
    return Attributions(index, target, contrast, found["map"], found["branch"], record)


def _as_integers(name: str, values: np.ndarray) -> np.ndarray:
    """An array (N,) of whole numbers, N > 0, as int64. Raises ValueError."""
    if values.dtype.kind not in "iu" or values.ndim != 1 or not len(values):
        raise ValueError(f"{name} should hold a whole number an image, and is {values.dtype} of shape {values.shape}")
    return values.astype(np.int64)
