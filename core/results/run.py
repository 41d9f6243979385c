"""A run: its folder, its record, the models it holds; which folders are runs, and which runs are seeds of one another."""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.config import BACKBONES, BASELINES, FUSION, MODELS, TRIO, Recipe, UserError, label
from core.results.files import LARGEST, RESULTS, MissingFile, command, read_text, show_path, stamp_file, write_text
from core.results.schema import UNKNOWN, read_record

IDENTITY = ("recipe", "seed", "start_weights", "data_md5")  # what two models of one run must share
IMPORTED = "imported"  # the recipe's name in a run that was trained elsewhere
SPLIT_SIZES = {"val": 5_000, "test": 10_000}


@dataclass(frozen=True)
class Run:
    """A run's folder, its record, and the models it holds."""

    path: Path
    record: dict[str, Any]  # run.json

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def models(self) -> list[str]:
        return [model for model in MODELS if model in self.record["models"]]

    @property
    def whole(self) -> bool:
        """Does it hold all three models that are compared?"""
        return set(TRIO) <= set(self.models)

    @property
    def has_baselines(self) -> bool:
        """Does it hold both, and with them their ensemble?"""
        return set(BASELINES) <= set(self.models)

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_dict(self.record["recipe"])

    @property
    def imported(self) -> bool:
        """Was it trained elsewhere? Then of its recipe only the images' size and number are known."""
        return bool(self.recipe.name == IMPORTED)

    @property
    def device(self) -> str:
        """What trained; of a model that another machine trained, that one too."""
        return self._tell("device")

    @property
    def code(self) -> str:
        """The commit that trained; of a model that another commit trained, that one too."""
        return self._tell("code_commit")

    @property
    def precision(self) -> str:
        """What it was trained in: bfloat16 or float32; of a model that a device of another kind trained, that one too."""
        return self._tell("precision")

    def precision_of(self, model: str) -> str:
        """What one of its models was trained in."""
        return self._tell_of("precision", model)

    def _tell_of(self, key: str, model: str) -> str:
        return str(self.record["models"][model].get(key, self.record[key]))

    def _tell(self, key: str) -> str:
        last = str(self.record[key])
        others = [f"; {label(model)}: {one}" for model in self.models if (one := self._tell_of(key, model)) != last]
        return last + "".join(others)

    @property
    def starts(self) -> dict[str, str]:
        """What each network started from, in words; without those that the record does not tell."""
        return {name: str(start["name"]) for name, start in tell_starts(self.record).items() if name in BACKBONES}

    def check_holds(self, models: Iterable[str]) -> None:
        """Raise UserError unless these models, as a command line names them, are the run's; "all" is whatever it holds."""
        for model in models:
            if model not in ("all", *self.models):
                raise UserError(f"{self.path} has no {model}: choose from {', '.join(self.models)}")

    @property
    def has_weights(self) -> bool:
        return all((self.path / model / "weights.safetensors").is_file() for model in self.models)


def rebuild_command(run: Path, *options: str) -> str:
    """The command that writes a run's files anew: from its checkpoints, or, of a run that was imported, from anyone's logits."""
    record = run / "run.json"
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):  # whatever else is wrong with the record
        if record.stat().st_size < 2**20 and json.loads(read_text(record))["recipe"]["name"] == IMPORTED:
            return command("import.py", run, "--logits", "MODEL=FILE")
    return command("evaluate.py", run, *options)


def explain_command(run: Path, model: str) -> str:
    """The command that writes a model's attributions anew."""
    return command("explain.py", run, "--model", model, "--errors", *(["--branches"] if model == FUSION.name else []))


def refuse_imported(run: Run, path: Path) -> None:
    """Raise MissingFile where a model's weights, or a file made with them, are missing of a run that was imported: no command makes it."""
    if run.imported and not path.exists():
        raise MissingFile(f"{show_path(path)} is needed, but an imported run has no weights: name a run that was trained here")


def refuse_without_weights(run: Run, path: Path) -> None:
    """Raise MissingFile where a file made with the models' weights is missing, and the weights are too."""
    refuse_imported(run, path)
    if not path.exists() and not run.has_weights:
        more = f"run {rebuild_command(run.path)} where its checkpoints are"
        raise MissingFile(f"{show_path(path)} is made with the models' weights, which {run.name} does not ship: {more}")


def split_size(run: Run, split: str) -> int:
    """How many images of `val` or `test` the run predicted."""
    return min(SPLIT_SIZES[split], run.recipe.images_per_split or SPLIT_SIZES[split])


# --- the record ------------------------------------------------------------------------------------------------------


def write_run(path: Path, record: dict[str, Any]) -> None:
    """run.json from a dict with RUN_KEYS. Raises UserError."""
    write_text(path, json.dumps(record, indent=2) + "\n")


def load_run(run: Path) -> Run:
    """Read run.json, and look at the run's files. Raises MissingFile, UserError."""
    check_files(run)
    return Run(run, read_record(run / "run.json", rebuild_command(run)))


def check_files(run: Path) -> None:
    """Raise UserError where a run's file is no file of its own, or larger than any that is written here."""
    for folder, folders, files in os.walk(run):  # which passes over what somebody renames meanwhile, as Path.rglob does not
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink() and not _stays_within(path, run.parent):
                raise UserError(f"{path} is a link that leaves {run.parent}, or leads in a circle: put the file itself there")
            if stamp_file(path)[2] > LARGEST:
                raise UserError(f"{path} is larger than {LARGEST >> 20} MiB, which no file of a run is: run {rebuild_command(run)}")


def _stays_within(link: Path, folder: Path) -> bool:
    try:
        return link.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # it leads to itself
        return False


def tell_starts(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The start weights that a record tells: read_record adds that others are unknown."""
    return {name: start for name, start in record["start_weights"].items() if start != UNKNOWN}


def _told_by_both(record: dict[str, Any], other: dict[str, Any]) -> list[dict[str, dict[str, Any]]]:
    """The start weights in either record of the networks that both tell of: a model added later may bring one of its own."""
    own, theirs = tell_starts(record), tell_starts(other)
    return [{name: of[name] for name in own.keys() & theirs.keys()} for of in (own, theirs)]


def check_same_run(path: Path, found: dict[str, Any], run: dict[str, Any]) -> None:
    """Raise UserError unless the record `found` in the file `path` is of the same run as the record `run`."""
    for key in IDENTITY:
        one, other = found[key], run[key]
        if key == "start_weights":
            one, other = _told_by_both(found, run)
        if key == "recipe":  # settings that an older record lacks have their defaults
            one, other = Recipe.from_dict(one), Recipe.from_dict(other)
        if one != other:
            what = _tell_settings(one, other) if key == "recipe" else ""
            raise UserError(f"{path} is of another {key.replace('_', ' ')}{what}: give it the same, or another run folder")


def _tell_settings(one: Recipe, other: Recipe) -> str:
    """In which settings two recipes of one name differ: it may have had others once, and that of imported runs has no settings else."""
    if one.name != other.name:
        return ""
    differ = [name for name in asdict(one) if getattr(one, name) != getattr(other, name)]
    return f", whose {', '.join(f'{name} is {getattr(one, name)}, not {getattr(other, name)}' for name in differ)}"


# --- many runs -------------------------------------------------------------------------------------------------------


def find_runs(results: Path = RESULTS) -> list[str]:
    """Names of the run folders: those with all their weights first, since the dashboard opens on the first, then those that hold all
    that is compared, then by name.

    A run has a run.json, or has lost it but holds a model's predictions; any other folder is none of ours.
    """
    if not results.is_dir():
        return []
    folders = [path for path in results.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] not in "._"]
    runs = [path for path in folders if (path / "run.json").is_file() or any(path.glob("*/predictions.parquet"))]

    def rank(run: Path) -> tuple[bool, bool, str]:
        shipped, predicted = (
            {file.parent.name for file in run.glob(f"*/{name}")} for name in ("weights.safetensors", "predictions.parquet")
        )
        return not shipped or not predicted <= shipped, not set(TRIO) <= predicted, run.name

    return [path.name for path in sorted(runs, key=rank)]


def fingerprint(run: Run, models: Iterable[str]) -> dict[str, bytes]:
    """Of those of `models` that the run holds, a hash of what each predicted: the same for a copy, whatever its folder is called."""
    hashes = {}
    for model in set(models) & set(run.models):
        path = run.path / model / "predictions.parquet"
        if not path.is_file():
            raise MissingFile(f"{path} is missing: run {rebuild_command(run.path)}")
        hashes[model] = _hash_file(path, stamp_file(path))
    return hashes


@lru_cache(maxsize=4096)
def _hash_file(path: Path, _stamp: tuple[int, int, int]) -> bytes:
    """Hashed again when its stamp says it changed."""
    return hashlib.sha256(path.read_bytes()).digest()


def start_alike(run: Run, other: Run) -> bool:
    """Did the networks that are fused start alike, as far as both runs tell? One that lacks a network tells nothing of it."""
    own, theirs = _told_by_both(run.record, other.record)
    return all(own[model] == theirs[model] for model in BASELINES if model in own)


def start_option(record: dict[str, Any]) -> str:
    """What makes scripts/train.py start as a run did, with a space before it; nothing where that was from torchvision's weights."""
    starts = record["start_weights"].values()
    if starts_at_random(record):
        return " --start-weights none"
    return " --start-weights FOLDER" * any(str(start.get("file")).endswith(".safetensors") for start in starts)


def starts_at_random(record: dict[str, Any]) -> bool:
    return any(start.get("name") == "random" for start in record["start_weights"].values())


def name_run(recipe: Recipe, seed: int, at_random: bool) -> str:
    """The folder of a training, below results/, where nobody names another."""
    return f"{'scratch' if at_random else 'imagenet'}-{recipe.variant}-seed{seed}"


def _find_alike(run: Run, runs: Iterable[Run]) -> list[Run]:
    """Those of `runs` that differ from `run` in the seed and branch losses at most, itself and its copies included."""
    return [other for other in runs if other.recipe.plain == run.recipe.plain and start_alike(run, other)]


def find_related(run: Run, runs: Iterable[Run]) -> list[Run]:
    """Those of `runs` that claims on `run` may speak of: its seeds, itself and its copies included, with branch losses and without;
    where it has no such control, also those of the run that stands in for it (find_loss_test).
    """
    runs = list(runs)
    alike, tested = _find_alike(run, runs), find_loss_test(run, runs)
    return alike if tested is None or tested is run or tested in alike else alike + _find_alike(tested, runs)


def find_control(run: Run, runs: Iterable[Run]) -> Run | None:
    """Of `runs` with a fusion the one that differs from `run` in having no branch losses alone; None where there is none, or `run` has
    none itself.
    """
    if not run.recipe.branch_loss:
        return None
    related = [other for other in _find_alike(run, runs) if FUSION.name in other.models]
    return next((other for other in related if not other.recipe.branch_loss and other.record["seed"] == run.record["seed"]), None)


def find_loss_test(run: Run, runs: Iterable[Run]) -> Run | None:
    """The run that tells what branch losses do for `run`: itself, or where it has no control the first of `runs` that has one."""
    if not run.recipe.branch_loss:
        return None
    fused = [other for other in (run, *runs) if FUSION.name in other.models]
    return next((other for other in fused if find_control(other, fused)), None)


def find_seeds(run: Run, runs: Iterable[Run]) -> list[Run]:
    """`run` and those of `runs` with other seeds, alike in recipe and start weights, by seed; one a seed, and no copies. Raises UserError.

    They may lack some of its models, not all, and may be trained in another precision. A copied folder is no second measurement, even
    with another seed written into its record: it predicted the same.
    """
    alike = [other for other in runs if other.recipe == run.recipe and start_alike(run, other)]
    return _keep_one_a_seed(run, alike, run.models)


def find_retrainings(run: Run, runs: Iterable[Run]) -> list[Run]:
    """Those of `runs` that trained the baselines as `run` did, with another seed, by seed; one a seed, and no copies. Raises UserError.

    Branch losses, which are a fusion's, make no difference to them.
    """
    alike = [other for other in _find_alike(run, runs) if other.has_baselines]
    return [one for one in _keep_one_a_seed(run, alike, BASELINES) if one is not run]


def _keep_one_a_seed(run: Run, alike: Iterable[Run], models: Iterable[str]) -> list[Run]:
    """`run` and those `alike` of other seeds that hold any of its `models` and predict anything else with them, by seed."""
    kept = {run.record["seed"]: run}
    seen = [fingerprint(run, models)]

    def is_copy(own: dict[str, bytes], of: dict[str, bytes]) -> bool:
        shared = own.keys() & of.keys()
        return bool(shared) and all(own[model] == of[model] for model in shared)

    for other in alike:
        if (seed := other.record["seed"]) not in kept:
            own = fingerprint(other, models)
            if own and not any(is_copy(own, one) for one in seen):
                kept[seed] = other
                seen.append(own)
    return [kept[seed] for seed in sorted(kept)]
