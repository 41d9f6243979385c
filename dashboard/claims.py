"""Where each kind of claim is shown: its page, and the chart that any page, slide or report may draw of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core import combine, metrics
from core.config import BASELINES, CLASSES
from core.findings import UNTESTED, Finding
from core.findings.controls import MATCHED
from core.results import Run
from core.robustness import by_severity
from dashboard import data, figures, selection, theme
from dashboard.theme import Surface

CONTROLS = {  # what a control compares, in a chart's row
    "branch-losses": "branch losses − none",
    "matched": f"fusion − {theme.label(MATCHED)}",
    "late": "fusion − combined after training",
    "head-mean": "fusion − the mean of its heads' logits",
    "twice": "fusion − one network twice",
    "architectures": "two architectures − one twice",
}
ONE_SEED = {"color": theme.NEUTRAL, "symbol": "circle-open", "size": 9, "line": {"width": 2}}
AXIS, DIFFERENCE = "accuracy, fusion minus the other (points, 95 % interval)", "difference in accuracy (points, 95 % interval)"


@dataclass(frozen=True)
class Asked:
    """What a chart may draw from: the claim it is about, and all claims of the run."""

    run: Run
    finding: Finding
    findings: list[Finding]
    surface: Surface


def forest(rows: dict[str, Finding], title: str, margin: float | None = None, axis: str = AXIS) -> go.Figure:
    """Effects in points with their intervals, a row each."""
    values = [(100 * one.effect, *(100 * np.array(one.interval or (np.nan, np.nan)))) for one in rows.values()]
    table = pd.DataFrame(values, columns=["difference", "low", "high"]).assign(name=list(rows))
    return figures.difference_figure(table, title, axis, margin=margin)


def dots(shares: dict[str, float], title: str, axis: str) -> go.Figure:
    """Shares in percent, a row each."""
    values = [100 * share for share in shares.values()]
    marks = {"color": theme.STYLES["fusion"].color, "symbol": "diamond", "size": 12}
    figure = go.Figure(go.Scatter(x=values, y=list(shares), mode="markers", marker=marks, hovertemplate="%{y}: %{x:.2f} %<extra></extra>"))
    figures.layout(figure, title, 170 + 34 * len(shares))
    figure.update_xaxes(title=axis)
    figure.update_yaxes(autorange="reversed", dtick=1)
    return figure


WAY_COLORS = {  # a way to combine two networks belongs to one of these groups
    combine.ONE: theme.NEUTRAL,
    combine.TWICE: theme.STYLES["resnet18"].color,
    combine.LATE: theme.STYLES["ensemble"].color,
    combine.TOGETHER: theme.STYLES["fusion"].color,
}


def draw_ways(table: pd.DataFrame, baseline: str) -> go.Figure:
    """Every way to combine the two networks against the better one alone; `table`: of data.list_ways."""
    table = table[table["label"] != baseline]
    figure = go.Figure()
    for group, rows in table.groupby("group", sort=False):
        style = {"color": WAY_COLORS[group], "symbol": "diamond", "size": 12}
        ends = 100 * rows[["low", "high"]]
        figure.add_scatter(
            x=100 * rows["difference"], y=rows["label"], mode="markers", name=group, marker=style, customdata=ends,
            error_x={
                "array": ends["high"] - 100 * rows["difference"], "arrayminus": 100 * rows["difference"] - ends["low"],
                "thickness": 2, "width": 6,
            },
            hovertemplate="%{y}: %{x:+.2f} [%{customdata[0]:+.2f}, %{customdata[1]:+.2f}]<extra></extra>",
        )  # fmt: skip
    dots = [(100 * value, row.label) for row in table.itertuples() for value in row.seeds]
    if dots:
        x, y = zip(*dots, strict=True)
        figure.add_scatter(x=x, y=y, mode="markers", name="one seed", marker=ONE_SEED, hovertemplate="%{y}: %{x:+.2f}<extra></extra>")
    figures.layout(figure, f"Which way to combine two networks beats {baseline}?", 200 + 30 * len(table))
    figure.add_vline(0, line={"color": theme.NEUTRAL, "width": 2})
    figure.update_xaxes(title=f"points above<br>{baseline}", zeroline=False)
    figure.update_yaxes(autorange="reversed", dtick=1, categoryorder="array", categoryarray=table["label"])
    return figure


def draw_accuracy(asked: Asked) -> go.Figure:
    pairs = {theme.label(one.against): one for one in asked.findings if one.id.startswith("accuracy-")}
    margin = next((100 * one.numbers["margin"] for one in asked.findings if one.id == "comparable"), None)
    return forest(pairs, "How far is fusion from each of the others?", margin)


def draw_seeds(asked: Asked) -> go.Figure:
    trained = {theme.label(one.against): one for one in asked.findings if one.kind == "seeds" and one.effect is not None}
    figure = forest(trained, "How far is fusion from the others, over trainings?")
    for name, one in trained.items():
        x, text = [100 * lead for lead in one.seeds.values()], [f"seed {seed}" for seed in one.seeds]
        figure.add_scatter(
            x=x, y=[name] * len(x), text=text, mode="markers", marker=ONE_SEED, hovertemplate="%{text}: %{x:+.2f}<extra></extra>"
        )
    return figure.update_layout(showlegend=False).update_xaxes(title="fusion minus the other (points): ◆ mean, 95 % interval; ○ one seed")


def draw_classes(asked: Asked) -> go.Figure:
    predictions = data.load_predictions(asked.run)
    correct = [predictions[f"{one}_correct"].to_numpy() for one in ("fusion", asked.finding.against)]
    table = 100 * pd.DataFrame(metrics.class_differences(predictions["label"].to_numpy(), *correct))
    axis = f"recall, fusion minus {theme.label(asked.finding.against)} (points, 95 % interval)"
    title = f"In which classes does fusion differ from {theme.label(asked.finding.against)}?"
    return figures.difference_figure(table.assign(name=CLASSES), title, axis)


def draw_gap(asked: Asked) -> go.Figure:
    splits = {"train": "training images", "test": "test images"}
    rows = {
        f"{theme.label(model)}, {words}": asked.finding.numbers[f"{split}_{model}"]
        for model in (asked.finding.against, "fusion")
        for split, words in splits.items()
    }
    return dots(rows, "What is lost from training to test images?", "accuracy without augmentation (%)")


def draw_probe(asked: Asked) -> go.Figure:
    fine_tuned = next(one for one in asked.findings if one.id == "accuracy-better")
    single = next(model for model in BASELINES if model in asked.finding.numbers)
    rows = {f"before fine-tuning, over {theme.label(single)}": asked.finding, f"after, over {theme.label(fine_tuned.against)}": fine_tuned}
    return forest(rows, "Does the gain of two networks last through training?", axis=DIFFERENCE)


def draw_calibration(asked: Asked) -> go.Figure:
    predictions, diagrams = data.load_predictions(asked.run), {}
    scales = {one: asked.finding.numbers.get(f"temperature_{one}") for one in (*BASELINES, "fusion")}
    baseline = asked.finding.against or next(one for one in BASELINES if scales[one])
    for one in (baseline, "fusion"):
        probabilities = metrics.softmax(data.load_logits(asked.run, one) / (scales[one] or 1.0))
        diagrams[one] = metrics.reliability(probabilities.max(axis=1), predictions[f"{one}_correct"].to_numpy())
    when = "as trained" if asked.finding.id == "calibration" else "with a fitted temperature"
    return figures.reliability_figure(diagrams, f"Are predictions as often correct as they are confident, {when}?")


def draw_headroom(asked: Asked) -> go.Figure:
    flows = selection.name_flows(list(BASELINES))
    counts = data.load_transitions(asked.run, list(BASELINES))["flow"].value_counts().reindex(flows, fill_value=0)
    states = selection.name_states([theme.label(one) for one in BASELINES])
    names, title = ("baselines", theme.label("fusion")), "What becomes of correct and wrong predictions?"
    return figures.transition_figure(counts.to_numpy().reshape(-1, 2), states, flows, set(), names, title, asked.surface)


def draw_people(asked: Asked) -> go.Figure:
    numbers = asked.finding.numbers
    shares = {"predicted wrongly": numbers["agreement_wrong"], "predicted correctly": numbers["agreement_correct"]}
    return dots(shares, "Do people agree less where fusion errs?", "people who chose the label (%)")


def draw_doubtful(asked: Asked) -> go.Figure:
    alike = [one for one in asked.findings if one.against == asked.finding.against and one.effect is not None]
    without = {one.claim.partition(" fusion ")[0].lower(): one for one in alike if one.kind == "doubtful"}
    rows = {"all test images": next(one for one in alike if one.kind == "accuracy" and one.id != "comparable"), **without}
    return forest(rows, f"Do doubtful images change the difference to {theme.label(asked.finding.against)}?")


def draw_controls(asked: Asked) -> go.Figure:
    rows = {
        CONTROLS[one.id] + " (another run)" * bool(one.of): one
        for one in asked.findings
        if one.kind == "controls" and one.effect is not None
    }
    return forest(rows, "Is it fusing, or something simpler?", axis=DIFFERENCE)


def draw_disagreement(asked: Asked) -> go.Figure:
    kinds = {"architectures": "two architectures", "trainings": f"{theme.label(asked.finding.against)} twice"}
    shares = {words: asked.finding.numbers[f"disagreement_{kind}"] for kind, words in kinds.items()}
    return dots(shares, "How often is exactly one of two networks correct?", "test images on which exactly one is correct (%)")


def draw_branches(asked: Asked) -> go.Figure:
    if asked.finding.id == "branches":
        table = selection.share_branches(data.load_predictions(asked.run), data.load_branches(asked.run)["contribution"], "class")
        return figures.branch_shares_figure(table, "Which branch carries the fusion's predictions?")
    by_id = {one.id: one.numbers for one in asked.findings if one.kind == "branches"}
    rows = {theme.label("fusion"): by_id["branch-heads"]["fusion"]}
    for branch in BASELINES:
        rows[f"{theme.label(branch)} as a branch"] = by_id["branches-alone"][f"{branch}_branch"]
        rows[f"{theme.label(branch)} alone"] = by_id["branches-alone"][f"{branch}_alone"]
    return dots(rows, "What is each network worth, alone and as a branch?", "test accuracy (%)")


def draw_robustness(asked: Asked) -> go.Figure:
    return figures.robustness_figure(by_severity(data.load_robustness(asked.run)), "How does accuracy fall with severity?")


@dataclass(frozen=True)
class Kind:
    page: str  # views/<page>.py
    draw: Callable[[Asked], go.Figure]


KINDS = {
    "accuracy": Kind("evidence", draw_accuracy),
    "seeds": Kind("evidence", draw_seeds),
    "classes": Kind("evidence", draw_classes),
    "gap": Kind("training", draw_gap),
    "probe": Kind("evidence", draw_probe),
    "calibration": Kind("calibration", draw_calibration),
    "headroom": Kind("rescued", draw_headroom),
    "people": Kind("errors", draw_people),
    "doubtful": Kind("errors", draw_doubtful),
    "controls": Kind("evidence", draw_controls),
    "disagreement": Kind("evidence", draw_disagreement),
    "branches": Kind("attributions", draw_branches),
    "robustness": Kind("robustness", draw_robustness),
}


THEMES = {  # claims that belong together -> their kinds; seeds go first, where the claims do
    "Is fusing more accurate?": ("seeds", "accuracy"),
    "Is it fusing, or something simpler?": ("controls", "disagreement", "headroom", "probe"),
    "Class by class": ("classes",),
    "What the branches are worth": ("branches",),
    "From training to test images: the generalisation gap": ("gap",),
    "Is it as often correct as confident?": ("calibration",),
    "Where images or labels are doubtful": ("people", "doubtful"),
    "On corrupted images": ("robustness",),
}
PAGES = {  # how a link to a claim's page reads
    "attributions": "Attributions",
    "calibration": "Calibration",
    "errors": "Errors",
    "evidence": "Evidence",
    "rescued": "Fixed and broken",
    "robustness": "Robustness",
    "training": "Training curves",
}


def draw(run: Run, finding: Finding, findings: list[Finding], surface: Surface) -> go.Figure | None:
    """The chart of a finding; None where it is untested, so that there is nothing to draw."""
    return None if finding.verdict == UNTESTED else KINDS[finding.kind].draw(Asked(run, finding, findings, surface))
