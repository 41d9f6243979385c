"""From a staged folder to the run that readers see: nothing is lost that still belongs there, nothing stays that became untrue."""

import filecmp
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from core.config import BASELINES, ENSEMBLE, MODELS, Recipe, UserError
from core.results.files import command, one_at_a_time, read_text, replace
from core.results.run import (
    Run,
    check_files,
    check_same_run,
    explain_command,
    fingerprint,
    rebuild_command,
    tell_starts,
    write_run,
)
from core.results.schema import LOGITS, read_record, read_table

PROVENANCE = ("precision", "code_commit", "libraries", "device", "processes")  # what may be another where a model is added later
TOLERANCE = 0.01  # of a logit: the same weights on another machine differ by less


def name_staged(run: Path, models: Iterable[str]) -> Path:
    """Where models of a run are written before they are published: a place of their own, so that others may be on their way too."""
    return run.with_name(f".{run.name}.{'-'.join(models)}.partial")


def remake_commands(run: Path, model: str) -> dict[str, str]:
    """The files of a model that other weights make untrue, and the commands that make them anew."""
    return {
        **{"robustness.csv": command("robustness.py", run), "attributions.npz": explain_command(run, model)},
        **dict.fromkeys(("train_sample.parquet", "features.parquet", "linear_head.parquet"), rebuild_command(run, "--features")),
        **{f"features_{baseline}.parquet": rebuild_command(run, "--features") for baseline in BASELINES},
        **dict.fromkeys(("epoch_correct.csv", "epoch_predicted.csv"), rebuild_command(run)),
        **dict.fromkeys(("weights.safetensors", "embedding.parquet", "history.csv"), rebuild_command(run)),
        **{f"branch_{baseline}.parquet": rebuild_command(run) for baseline in BASELINES},
    }


@contextmanager
def still_of(run: Run, predicted: dict[str, bytes]) -> Iterator[None]:
    """Hold `run` while what its models gave is written into it: nobody publishes meanwhile.

    `predicted`: run.fingerprint of them, taken when their weights were read. Raises UserError where they were trained anew since then.
    """
    with one_at_a_time(run.path):
        if fingerprint(run, predicted) != predicted:
            raise UserError(f"{run.path} was trained anew meanwhile, so what was computed is not of its weights: run this once more")
        yield


def publish(staged: Path, run: Path) -> list[str]:
    """Rename a staged run into place; into a run that exists, its models one by one, then its run.json.

    What else lies in the run is kept, but for files that are of other weights than the new ones. Returns a line for each command
    that makes such files anew. Raises UserError; the run then holds the models it held.
    """
    try:
        with one_at_a_time(run):
            if run.exists():
                return _add(staged, run)
            staged.rename(run)
            return []
    except (OSError, UserError) as error:
        raise UserError(f"{run} could not be written ({error}); the whole result lies in {staged}") from None


def _add(staged: Path, run: Path) -> list[str]:
    """publish into a run that exists. Raises OSError, UserError."""
    added = read_record(staged / "run.json", rebuild_command(run))
    record, lines = _merge_records(run, added)
    removed: defaultdict[str, list[str]] = defaultdict(list)  # command -> the files it makes anew
    undo: list[tuple[Path, Path]] = []
    changed = [model for model in added["models"] if _carry_over(run, staged, model, removed)]
    try:
        for model in added["models"]:
            old, new, aside = run / model, staged / model, staged / f".{model}.old"
            if old.exists():
                replace(old, aside)
                undo.append((aside, old))
            replace(new, old)
            undo.append((old, new))
        write_run(run / "run.json", record)
    except BaseException:  # a signal to stop too
        for source, target in reversed(undo):
            with suppress(OSError):  # the first error is the one to tell
                source.rename(target)
        raise
    if set(changed) & set(BASELINES):
        _remove_untrue(run, ENSEMBLE, run / ENSEMBLE, removed)
    shutil.rmtree(staged, ignore_errors=True)
    return lines + [f"removed, since they were of other weights: {', '.join(files)}; again with: {how}" for how, files in removed.items()]


def _merge_records(run: Path, record: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The record of `run` with the staged models' added, and a line where its own was damaged. Raises UserError if it is of another run."""
    check_files(run)
    try:
        existing = read_record(run / "run.json", rebuild_command(run))
    except UserError:  # damaged: this is its repair
        if _tells_of_another(run / "run.json", record):
            raise
        kept = [model for model in MODELS if model not in record["models"] and (run / model / "predictions.parquet").is_file()]
        line = f"{run / 'run.json'} was damaged and is written anew, without a note"
        line += f"; what {', '.join(kept)} cost is not known any more: run {rebuild_command(run)}" if kept else ""
        return record | {"models": {model: {} for model in kept} | record["models"]}, [line]
    check_same_run(run / "run.json", existing, record)
    others = {key: existing[key] for key in PROVENANCE if existing[key] != record[key]}  # of the models that stay
    merged = {"models": {model: others | entry for model, entry in existing["models"].items()} | record["models"]}
    merged["start_weights"] = existing["start_weights"] | tell_starts(record)
    return existing | record | merged, []


def _tells_of_another(path: Path, record: dict[str, Any]) -> bool:
    """Is a record that cannot be used still of another seed than `record`, or of a version that has more settings?"""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        told = json.loads(read_text(path))
        return told.get("seed", record["seed"]) != record["seed"] or bool(told["recipe"].keys() - {one.name for one in fields(Recipe)})
    return False


def _carry_over(run: Path, staged: Path, model: str, removed: dict[str, list[str]]) -> bool:
    """Copy into the staged model what the run's has besides; is the staged one of other weights, or new?

    Then files that are of the old weights stay behind, and are noted in `removed` by the command that makes them anew.
    """
    old, new, untrue = run / model, staged / model, remake_commands(run, model)
    changed = not (old.exists() and _same_weights(old, new))
    for path in sorted(old.rglob("*")):
        place = path.relative_to(old)
        if path.is_dir() or (new / place).exists() or path.name.endswith((".partial", ".lock")):
            continue
        if changed and place.as_posix() in untrue:
            removed[untrue[place.name]].append(f"{model}/{place.name}")
        else:
            (new / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, new / place)
    return changed


def _remove_untrue(run: Path, model: str, folder: Path, removed: dict[str, list[str]]) -> None:
    for name, how in remake_commands(run, model).items():
        if (folder / name).exists():
            (folder / name).unlink()
            removed[how].append(f"{model}/{name}")


def _same_weights(old: Path, new: Path) -> bool:
    """Are two folders of one model of the same weights? Then the files agree, or what was predicted with them does."""
    before, after = (folder / "weights.safetensors" for folder in (old, new))
    if before.is_file() and after.is_file() and filecmp.cmp(before, after, shallow=False):
        return True
    try:
        a, b = (read_table(folder / "predictions.parquet", "").sort_values(["split", "index"]) for folder in (old, new))
    except UserError:  # damaged: nobody can tell
        return False
    same_images = len(a) == len(b) and all(np.array_equal(a[name], b[name]) for name in ("split", "index"))
    return same_images and np.allclose(a[list(LOGITS)], b[list(LOGITS)], rtol=0, atol=TOLERANCE)
