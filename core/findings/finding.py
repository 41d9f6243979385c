"""A claim, what came out of its test, and the verdicts and words that all claims share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from core import results
from core.config import BASELINES, ENSEMBLE, RECIPES, ROOT, TRIO, UserError, label
from core.results import Run

if TYPE_CHECKING:
    from core.findings.evidence import Evidence

ALPHA = 0.05
SEPARATELY = (
    "Each is tested two-sided at 5 %, without a correction across claims: many rest on the same predictions and some restate one "
    "comparison, so their counts are no score."
)
SHARES = ("points", "%")  # units of what is stored as a share
SUPPORTED, OPEN, CONTRADICTED, UNTESTED = "supported", "not distinguishable", "contradicted", "untested"
FROM_WORST = (CONTRADICTED, OPEN, SUPPORTED, UNTESTED)
BETTER, OTHER = "better", "other"  # the baseline with the higher accuracy on validation, and the other one
EITHER = "either"  # each of the two: the less favourable result counts


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a test gave. Accuracies and their differences in `numbers` are shares."""

    verdict: str  # supported | not distinguishable | contradicted | untested
    details: str  # the numbers, in sentences; of an untested claim what is missing and the command
    statement: str = ""  # what came out, in words anyone understands, going no further than the verdict; no full stop
    numbers: dict[str, float] = field(default_factory=dict)
    test: str = ""
    p: float | None = None
    effect: float | None = None  # the claim's quantity: above `neutral` it speaks for the claim, below against it
    interval: tuple[float, float] | None = None  # 95 %, of the effect
    unit: str = "points"  # of effect, interval and neutral: "points" and "%" are shares, anything else is as it stands
    neutral: float = 0.0
    n: int = 0  # images, or seeds
    of: str = ""  # the run it was tested on, where that is another than the one it is claimed of

    def __post_init__(self) -> None:
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in self.numbers.items()}
        object.__setattr__(self, "numbers", plain)
        object.__setattr__(self, "effect", None if self.effect is None else float(self.effect))

    def extend(self, remark: str, numbers: dict[str, float]) -> "Result":
        """The same with more to say."""
        return replace(self, details=self.details + remark, numbers=self.numbers | numbers)


@dataclass(frozen=True, kw_only=True)
class Finding(Result):
    """The result of one claim about one run."""

    id: str
    kind: str  # what is compared: claims of one kind are shown by the same chart
    against: str | None  # the model that fusion is compared with
    claim: str  # what is tested, always in fusion's favour

    @property
    def text(self) -> str:
        return f"{self.statement}. {self.details}".strip()

    @property
    def seeds(self) -> dict[str, float]:
        """Seed -> the effect in that training alone, where several were made."""
        found = {key.removeprefix("seed_"): value for key, value in self.numbers.items() if key.startswith("seed_")}
        return found if len(found) > 1 else {}


@dataclass(frozen=True)
class Need:
    """Files of a run that a claim rests on and a run may lack, and the command that makes them: of {run}, the folder, from {start}."""

    files: tuple[str, ...]  # relative to the run's folder
    command: str
    by_weights: bool = False  # the command reads the run's own weights


@dataclass(frozen=True)
class Claim:
    """A row of the table: what is claimed, against whom, what it needs, how it is tested."""

    id: str
    kind: str
    claim: str  # {other} stands for the model it is against
    evaluate: Callable[["Evidence", Any], Result]  # of the model it is against; a UserError says why it cannot be tested
    against: str | None = None  # a model, BETTER, OTHER or EITHER
    needs: tuple[Need, ...] = ()

    def test(self, evidence: "Evidence") -> Finding:
        """Never raises for what a run may lack: the claim is then untested, and says why."""
        sides: dict[str | None, list[str | None]]
        sides = {BETTER: [evidence.better], OTHER: [evidence.other], EITHER: [evidence.better, evidence.other]}
        against, *rest = sides.get(self.against, [self.against])
        claim = self.claim.format(other="either baseline" if rest else name(against) if against else "")
        try:
            for need in self.needs:
                check_need(need, evidence)
            found = {model: self.evaluate(evidence, model) for model in (against, *rest)}
            against = min(found, key=lambda model: rank_result(found[model]))
            result = found.pop(against)
            for model, one in found.items():
                effect = show_effect(one)
                result = result.extend(f" Against {name(model or '')}: {one.verdict}{effect and f' ({effect})'}.", {})
        except UserError as error:
            result = Result(details=str(error).replace(f"{ROOT}/", "") + ".", verdict=UNTESTED)
        values = {f.name: getattr(result, f.name) for f in fields(Result)}
        if result.verdict == UNTESTED:
            values["statement"] = f"Not tested: {claim[0].lower()}{claim[1:]}"
        return Finding(id=self.id, kind=self.kind, against=against, claim=claim, **values)


def rank_result(result: Result) -> tuple[int, float]:
    """Sorts results from the least favourable to the most."""
    return FROM_WORST.index(result.verdict), result.effect or 0


def check_need(need: Need, evidence: "Evidence") -> None:
    """Raises UserError where a file is missing."""
    path = evidence.run.path
    for file in need.files:
        if not (path / file).exists():
            missing = path.parent / file.removeprefix("../") if file.startswith("../") else path / file
            if missing.is_relative_to(path):
                refuse = results.refuse_without_weights if need.by_weights else results.refuse_imported
                refuse(evidence.run, missing)
            more = need.command.format(run=results.quote(path), start=results.start_option(evidence.run.record))
            raise UserError(f"It needs {results.show_path(missing)}: run {more}{_explain_folder(more)}")


# --- words -----------------------------------------------------------------------------------------------------------


def name(model: str) -> str:
    """A model within a sentence."""
    return "the ensemble of the two" if model == ENSEMBLE else label(model)


def say_training(run: Run, seed: int, recipe: str = "", options: str = "") -> str:
    """How to come by another training from the run's start weights, of its recipe or another: the end of a sentence."""
    if run.imported:
        size = str(run.recipe.image_size)
        return f"run {results.command('import.py', 'RUN', '--seed', str(seed), '--image-size', size, '--logits', 'MODEL=FILE')}"
    recipe = recipe or run.recipe.name
    if recipe not in RECIPES or (recipe == run.recipe.name and not run.recipe.is_current):
        return f"train its settings, which no recipe has now, with seed {seed}"
    options += results.start_option(run.record)
    return f"run python scripts/train.py --recipe {recipe} --seed {seed}{options}{_explain_folder(options)}"


def _explain_folder(options: str) -> str:
    return " (FOLDER: where the start weights lie)" * options.endswith("FOLDER")


def say_next_training(evidence: "Evidence") -> str:
    """How to come by another seed of all three models: a run that lacks some of them goes before a new one.

    A seed whose folder another recipe's run has is none to train.
    """
    seeds = results.find_seeds(evidence.run, evidence.runs)
    for run in seeds:
        if missing := [model for model in TRIO if model not in run.models]:
            more = say_training(run, run.record["seed"], options=f" --model {' '.join(missing)} --out {results.quote(run.path)} --resume")
            return f"{run.name} lacks {' and '.join(map(label, missing))}: {more}"
    run, taken = evidence.run, {run.record["seed"] for run in seeds}
    at_random = results.starts_at_random(run.record)
    folders = (run.path.with_name(results.name_run(run.recipe, seed, at_random)) for seed in count())
    return say_training(
        run, next(seed for seed, folder in enumerate(folders) if seed not in taken and (run.imported or not folder.exists()))
    )


def say_precisions(runs: Sequence[Run], models: Iterable[str]) -> str:
    """In what these models of each run were trained, where it is not one for all: "seed 0 in bfloat16, seed 1 in float32"; of a run
    that mixes, "seed 2 in bfloat16 (Fusion) and float32 (ResNet18)". The ensemble stands for its baselines."""
    trained = [one for model in models for one in (BASELINES if model == ENSEMBLE else (model,))]
    if len({run.precision_of(model) for run in runs for model in trained}) == 1:
        return ""
    by_precision: dict[str, list[str]] = {}
    for run in runs:
        named: dict[str, list[str]] = {}
        for model in trained:
            named.setdefault(run.precision_of(model), []).append(label(model))
        each = [f"{precision} ({', '.join(names)})" if len(named) > 1 else precision for precision, names in named.items()]
        by_precision.setdefault(" and ".join(each), []).append(str(run.record["seed"]))
    return ", ".join(f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)} in {said}" for said, seeds in by_precision.items())


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def signed(share: float) -> str:
    """A difference, times 100, with a minus that is as wide as a plus."""
    return f"{100 * share:+.2f}".replace("-", "−")


def points(difference: float) -> str:
    return f"{signed(difference)} points"


def bracket(interval: tuple[float, float]) -> str:
    return f"[{signed(interval[0])}, {signed(interval[1])}]"


def show_effect(result: "Result | Finding") -> str:
    """An effect with its interval in its unit: "+0.02 points [−0.40, +0.43]"; nothing where there is none."""
    if result.effect is None:
        return ""
    factor, digits = (100, 1 if result.unit == "%" else 2) if result.unit in SHARES else (1, 0 if result.unit == "classes" else 3)
    sign = "" if result.unit == "AUC" else "+"
    interval = ", ".join(f"{factor * end:{sign}.{digits}f}" for end in result.interval or ())
    unit = "class" if result.unit == "classes" and abs(result.effect) == 1 else result.unit
    words = f"{factor * result.effect:{sign}.{digits}f} {unit}{interval and f' [{interval}]'}"
    return words.replace("-", "−")


def show_p(p: float) -> str:
    told = tell_p(p)
    return f"p {told}" if told.startswith("<") else f"p = {told}"


def tell_p(p: float) -> str:
    """A p under a head that says so: "< 0.001", "0.032"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def judge(difference: float, p: float) -> str:
    if p >= ALPHA or difference == 0:
        return OPEN
    return SUPPORTED if difference > 0 else CONTRADICTED


def judge_interval(interval: tuple[float, float], neutral: float = 0.0) -> str:
    """Verdict on "the quantity is above `neutral`"."""
    if interval[0] > neutral:
        return SUPPORTED
    return CONTRADICTED if interval[1] < neutral else OPEN


def choose(verdict: str, supported: str, unclear: str, contradicted: str) -> str:
    """The words that fit a verdict."""
    return {SUPPORTED: supported, OPEN: unclear, CONTRADICTED: contradicted}[verdict]
