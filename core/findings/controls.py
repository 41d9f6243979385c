"""Controls: is it fusing, or the branch losses, the size, or simply a second network? Each needs another training."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from core import combine, metrics, results
from core.config import BASELINES, ENSEMBLE, RECIPES, Recipe, UserError, label
from core.findings.accuracy import MARGIN, judge_margin
from core.findings.branches import correct_heads, load_heads
from core.findings.evidence import Evidence
from core.findings.finding import (
    ALPHA,
    OPEN,
    Result,
    bracket,
    choose,
    judge,
    name,
    percent,
    points,
    rank_result,
    say_next_training,
    say_precisions,
    say_training,
    show_effect,
    show_p,
)  # fmt: skip
from core.results import Run

MATCHED = "resnet34"  # one network that costs no less than the fusion


def compare_pair(first: np.ndarray, second: np.ndarray, names: tuple[str, str], remark: str = "") -> Result:
    """Two sets of predictions of the same images: `first` and `second` (N,) bool, correct?"""
    difference, interval = metrics.accuracy_difference(first, second)
    p = metrics.mcnemar(first, second)
    verdict, (one, other) = judge(difference, p), names
    smallest = metrics.smallest_difference(int((first != second).sum())) / len(first)
    statement = choose(
        verdict,
        f"{one} is more accurate than {other}",
        f"{one} and {other} are not distinguishable in accuracy",
        f"{one} is less accurate than {other}",
    )
    return Result(
        statement=statement,
        details=f"Correct on {percent(first.mean())} of the test images against {percent(second.mean())}: {points(difference)} "
        f"{bracket(interval)}, {show_p(p)}; a difference below {100 * smallest:.2f} points could not have been shown."
        f"{remark and f' {remark}'}",
        verdict=verdict,
        numbers={"first": first.mean(), "second": second.mean(), "difference": difference},
        test="exact McNemar; paired bootstrap",
        p=p,
        effect=difference,
        interval=interval,
        n=len(first),
    )


def test_correct(run: Run, model: str) -> np.ndarray:
    """(N,) bool of another run's model. Raises UserError."""
    predictions = results.load_predictions(run, model)
    return predictions.logits.argmax(axis=1) == predictions.labels


def find_loss_recipes(recipe: Recipe) -> tuple[str, str]:
    """Names of two recipes that differ in branch losses, with and without: this one's where it is of such a pair, else the first."""
    pairs = [(one, other) for one in RECIPES.values() for other in RECIPES.values() if one.plain == other.plain]
    pairs = [(one, other) for one, other in pairs if one.branch_loss and not other.branch_loss]
    one, other = next((pair for pair in pairs if pair[0].plain == recipe.plain), pairs[0])
    return one.name, other.name


def ask_for_losses(evidence: Evidence) -> str:
    """What is missing before branch losses can be tested on the run."""
    run = evidence.run
    if run.imported:
        return "Whether an imported run was trained with branch losses is not known"
    tested = next((one for one in evidence.runs if getattr(results.find_control(one, evidence.runs), "path", None) == run.path), None)
    if tested:
        return f"This run has no branch losses: it is the control of {tested.name}, of which the claim is tested"
    with_losses, without = find_loss_recipes(run.recipe)
    train = {recipe: say_training(run, run.record["seed"], recipe) for recipe in (with_losses, without)}
    if not run.recipe.branch_loss:
        return f"This run has no branch losses: it is the control of one that has them; {train[with_losses]}"
    missing = [command for recipe, command in train.items() if recipe != run.recipe.name]
    return f"It needs a training with branch losses and the same without: {' and '.join(missing)}"


def compare_losses(evidence: Evidence, _: str | None) -> Result:
    """Branch losses on against off: same seed, same start, same baselines; of the first run that has its control, this one before all."""
    run = evidence.run
    tested = results.find_loss_test(run, evidence.runs) if run.recipe.branch_loss else None
    if tested is None:
        raise UserError(ask_for_losses(evidence))
    fused = [one for one in evidence.runs if "fusion" in one.models]
    pairs = [(one, results.find_control(one, fused)) for one in results.find_seeds(tested, fused)]
    correct = {one.record["seed"]: (test_correct(one, "fusion"), test_correct(other, "fusion")) for one, other in pairs if other}
    differences = {seed: first.mean() - second.mean() for seed, (first, second) in correct.items()}
    listed = ", ".join(f"seed {seed} {points(value)}" for seed, value in differences.items())
    names = ("Fusion with branch losses", "fusion by plain concatenation")
    remarks = [f"By seed: {listed}."] if len(pairs) > 1 else []
    without = next(other for one, other in pairs if other and one.record["seed"] == tested.record["seed"])
    precisions = [one.precision_of("fusion") for one in (tested, without)]
    if precisions[0] != precisions[1]:
        remarks.append(f"Trained with them in {precisions[0]}, without in {precisions[1]}.")
    result = compare_pair(*correct[tested.record["seed"]], names, " ".join(remarks))
    result = result.extend("", {f"seed_{seed}": value for seed, value in differences.items()})
    if tested is run:
        return result
    how = ", whose fusion has no shortcut" if run.recipe.shortcut and not tested.recipe.shortcut else ""
    statement = f"On {tested.name}, {result.statement[0].lower()}{result.statement[1:]}"
    return replace(
        result,
        of=tested.name,
        statement=statement,
        details=f"Tested on {tested.name}, at {tested.recipe.size_in_words}{how}. {result.details}",
    )


def compare_with_head_mean(evidence: Evidence, _: str | None) -> Result:
    """What does the fused head add to the mean of its branches' own heads, which mixes no features?"""
    fused, mean = evidence.logits["fusion"].argmax(axis=1), np.mean(list(evidence.once(load_heads).values()), axis=0).argmax(axis=1)
    changed = int((fused != mean).sum())
    what = "The fusion is that mean plus what its MLP adds: the MLP" if evidence.run.recipe.shortcut else "The fused head"
    remark = f"{what} changes {changed:,} of {len(fused):,} predictions."
    names = ("Fusion", "the mean of its two heads' logits")
    result = compare_pair(fused == evidence.labels, mean == evidence.labels, names, remark).extend("", {"changed": changed})
    if changed:
        return result
    statement = "Fusion predicts what the mean of its two heads predicts, image by image: mixing features changes no prediction"
    return replace(result, statement=statement)


def compare_heads_alone(evidence: Evidence, _: str | None) -> Result:
    """Does training together starve the branches? Each branch's head against its network trained alone, within the margin."""
    heads = correct_heads(evidence)
    alone = {branch: evidence.correct(branch) for branch in BASELINES}
    p = dict(zip(BASELINES, metrics.holm(np.array([metrics.mcnemar(heads[one], alone[one]) for one in BASELINES])), strict=True))
    differences = {branch: metrics.accuracy_difference(heads[branch], alone[branch]) for branch in BASELINES}
    worst, verdict = judge_margin({branch: interval for branch, (_, interval) in differences.items()})
    statement = choose(
        verdict,
        f"Within the fusion each network stays as good as trained alone, or less than {100 * MARGIN:g} points below",
        "It is not shown whether each network stays as good within the fusion as alone",
        f"Training together starves a branch: its own head is more than {100 * MARGIN:g} points below its network alone",
    )
    if verdict == OPEN and p[worst] < ALPHA and differences[worst][0] < 0:
        statement = f"{name(worst)} is less accurate as a branch than alone; whether by more than {100 * MARGIN:g} points is open"
    listed = "; ".join(
        f"{name(branch)} {percent(heads[branch].mean())} as a branch, {percent(alone[branch].mean())} alone "
        f"({points(differences[branch][0])} {bracket(differences[branch][1])}, {show_p(p[branch])})"
        for branch in BASELINES
    )
    return Result(
        statement=statement,
        details=f"{listed}. {100 * MARGIN:g} points count as comparable.",
        verdict=verdict,
        numbers={f"{branch}_{kind}": of[branch].mean() for branch in BASELINES for kind, of in (("branch", heads), ("alone", alone))},
        test=f"paired bootstrap intervals against a margin of {100 * MARGIN:g} points; exact McNemar, Holm over 2 branches",
        p=float(p[worst]),
        effect=differences[worst][0],
        interval=differences[worst][1],
        neutral=-MARGIN,
        n=len(evidence.labels),
    )


def compare_matched(evidence: Evidence, other: str) -> Result:
    """One network that costs at least as much: does fusing two beat it?"""
    run = evidence.run
    if other not in run.models and run.imported:
        more = results.command("import.py", run.path, "--logits", f"{other}=FILE")
        raise UserError(f"This run holds no {label(other)}, a single network of at least the fusion's cost: run {more}")
    if other not in run.models:
        more = say_training(run, run.record["seed"], options=f" --model {other} --out {results.quote(run.path)} --resume")
        raise UserError(f"This run holds no {label(other)}, a single network of at least the fusion's cost: {more}")
    costs = {model: run.record["models"][model].get("macs") for model in ("fusion", other)}
    remark = f"Multiply-accumulates: {costs['fusion'] / 1e6:.0f} M against {costs[other] / 1e6:.0f} M." if all(costs.values()) else ""
    starts = run.record["start_weights"]
    alike = {starts[model]["name"].replace(str(starts[model]["file"]), "") for model in (*BASELINES, other) if model in starts}
    if other in starts and len(alike) > 1:
        named = "; ".join(f"{label(model)}, {starts[model]['name']}" for model in (*BASELINES, other))
        remark += f" They did not start alike: {named}."
    return compare_pair(evidence.correct("fusion"), evidence.correct(other), ("Fusion", name(other)), remark)


def find_ways(evidence: Evidence) -> dict[str, combine.Way]:
    """Every way to have one prediction of two networks. Raises UserError."""
    return combine.find_ways(evidence.run, evidence.retrainings, results.find_control(evidence.run, evidence.runs))


def count_least(evidence: Evidence, model: str, compare: Callable[[Run, str], Result]) -> Result:
    """`compare` of each other training of a network and what it and this run's differ in: the least favourable counts, all are told.

    Raises UserError where there is no other.
    """
    if not evidence.retrainings:
        raise UserError(f"It needs a second seed of the two networks: {say_next_training(evidence)}")
    found = {}
    for other in evidence.retrainings:
        differ = say_precisions([evidence.run, other], [model])
        found[other.record["seed"]] = compare(other, differ and f"Trained with {differ}.")
    result = found.pop(min(found, key=lambda seed: rank_result(found[seed])))
    for seed, one in found.items():
        result = result.extend(f" With seed {seed} in its place: {one.verdict} ({show_effect(one)}).", {})
    return result


def compare_with_twice(evidence: Evidence, other: str, fused: str = "fusion", words: str = "Fusion") -> Result:
    """Is fusing two architectures better than averaging two trainings of one?"""

    def compare(second: Run, remark: str) -> Result:
        twice = combine.find_twice(evidence.run, [second])[f"two_{other}"]
        return compare_pair(evidence.correct(fused), twice.correct, (words, twice.label), remark)

    return count_least(evidence, other, compare)


def compare_architectures(evidence: Evidence, other: str) -> Result:
    """Is it the second architecture, or just a second network? Both averaged, neither trained together."""
    return compare_with_twice(evidence, other, ENSEMBLE, "Averaging the two architectures")


def compare_disagreement(evidence: Evidence, other: str) -> Result:
    """Do two architectures err on different images more than two trainings of one? Else they have no more to gain."""
    return count_least(evidence, other, lambda second, remark: _compare_disagreement(evidence, second, other, remark))


def _compare_disagreement(evidence: Evidence, second: Run, other: str, remark: str) -> Result:
    seeds = " and ".join(str(run.record["seed"]) for run in (evidence.run, second))
    architectures = [evidence.correct(model) for model in BASELINES]
    trainings = [evidence.correct(other), test_correct(second, other)]
    apart = [first != second for first, second in (architectures, trainings)]
    measures = {"architectures": combine.measure_pair(*architectures), "trainings": combine.measure_pair(*trainings)}
    difference, interval = metrics.accuracy_difference(*apart)
    p = metrics.mcnemar(*apart)
    verdict = judge(difference, p)

    def show(value: float) -> str:
        return "undefined" if np.isnan(value) else f"{value:.3f}"

    listed = ", ".join(
        f"two {kind} {percent(one['disagreement'])} (none correct on {percent(one['double_fault'])}; Q {show(one['q'])}, "
        f"kappa {show(one['kappa'])})"
        for kind, one in measures.items()
    )
    return Result(
        statement=choose(
            verdict,
            f"Two architectures err on different images more than two trainings of {name(other)}",
            f"It is not shown whether two architectures err on different images more than two trainings of {name(other)}",
            f"Two architectures err on different images less than two trainings of {name(other)}",
        ),
        details=f"Images on which exactly one is correct: {listed}. Difference: {points(difference)} {bracket(interval)}, {show_p(p)}. "
        f"The trainings are those with seeds {seeds}.{remark and f' {remark}'}",
        verdict=verdict,
        numbers={f"{key}_{kind}": value for kind, one in measures.items() for key, value in one.items()} | {"difference": difference},
        test="exact McNemar on the images on which exactly one is correct; paired bootstrap",
        p=p,
        effect=difference,
        interval=interval,
        n=len(apart[0]),
    )


def compare_with_late(evidence: Evidence, _: str | None) -> Result:
    """Against the best of the ways to combine two trained networks, chosen on validation."""
    ways = evidence.once(find_ways)
    best = ways[combine.choose_late(ways)]
    tried = sum(way.group == combine.LATE for way in ways.values())
    fitted = best.fitted and f"; it is fitted {best.fitted}"
    remark = f"Of {tried} ways to combine the two networks after training, the best on validation{fitted}."
    words = f"the two networks combined after training ({best.label[0].lower()}{best.label[1:]})"
    return compare_pair(evidence.correct("fusion"), best.correct, ("Fusion", words), remark).extend("", {"ways": tried})
