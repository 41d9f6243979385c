"""Present: one statement a screen, for a projector; made from the run's results, so it is true for any run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core import metrics
from core.config import BASELINES, CLASSES
from core.findings import Finding
from dashboard import components, data, diagram, figures, report, selection, theme

CSS = f"""<style>
[data-testid=stSidebar], [data-testid=stHeader], [data-testid=stExpandSidebarButton] {{ display: none; }}
[data-testid=stMainBlockContainer] {{ max-width: 1800px; padding: 3vh 4vw 6rem; }}
[data-testid=stMainBlockContainer] h1 {{ font-size: clamp(1.7rem, 3.2vw, 3.4rem); line-height: 1.15; text-wrap: balance; }}
.said {{ font-size: clamp(1.1rem, 1.5vw, 1.7rem); line-height: 1.45; }} .said p, .said li {{ margin: 0 0 .7em; }}
.said .verdict {{ border-left: .4em solid var(--verdict); padding-left: .6em; }}
.net {{ font-size: clamp(14px, 1.3vw, 22px) !important; }}
.st-key-remote {{ position: fixed; z-index: 9; left: 0; right: 0; bottom: 0; padding: .6rem 4vw; background: var(--st-background-color); }}
{report.CARDS_CSS} .cards figure {{ font-size: clamp(13px, 1vw, 18px); }}
</style>"""
LEFT_OUT = ("fusion-resnet18", "fusion-mobilenet_v2", "seeds", "worst-class", "probe")  # another screen says as much
CARDS = 8  # images on a screen

run, _ = st.session_state["current"]
answers, summary = data.load_answers(run), data.load_summary(run)
headline, findings = data.load_findings(run)
by_id = {finding.id: finding for finding in findings}


@dataclass(frozen=True)
class Screen:
    """One statement, what else is said (HTML) and what is shown, below or, where `beside`, to the right of it."""

    statement: str
    said: str
    show: Callable[[], None]
    beside: bool = False


def draw_differences(rows: dict[str, Finding], title: str, margin: float | None = None) -> go.Figure:
    """Findings' differences, in points, by name."""
    table = pd.DataFrame(
        [(100 * one.numbers.get("difference", one.numbers.get("mean")), *(one.interval or (np.nan, np.nan))) for one in rows.values()],
        columns=["difference", "low", "high"],
    ).assign(name=list(rows))
    table[["low", "high"]] *= 100
    return figures.difference_figure(table, title, "accuracy, fusion minus the other (points, 95 % interval)", margin=margin)


def draw_finding(finding: Finding) -> go.Figure:
    """The chart that shows a finding; where there is none of its own, the accuracies."""
    better = next(one for one in BASELINES if one in by_id["fusion-better-baseline"].numbers)
    match finding.id.partition("-")[0]:
        case "comparable":
            pairs = {theme.label(one): by_id[f"fusion-{one}"] for one in (*BASELINES, "ensemble")}
            return draw_differences(pairs, "How far is fusion from each of the others?", 100 * finding.numbers["margin"])
        case "seeds":
            pairs = {theme.label(one.id.removeprefix("seeds-")): one for one in findings if one.id.startswith("seeds-")}
            return draw_differences(pairs, f"How far is fusion from the others, over {finding.n} seeds?")
        case "relabelled":
            rows = {"all test images": by_id["fusion-better-baseline"], "without the doubted labels": finding}
            return draw_differences(rows, f"Do doubted labels change the difference to {theme.label(better)}?")
        case "classes":
            correct = [answers[f"{one}_correct"].to_numpy() for one in ("fusion", better)]
            table = 100 * pd.DataFrame(metrics.class_differences(answers["label"].to_numpy(), *correct))
            axis = f"recall, fusion minus {theme.label(better)} (points, 95 % interval)"
            return figures.difference_figure(table.assign(name=CLASSES), "In which classes does fusion differ?", axis)
        case "gap":
            histories = {one: [history] for one, history in data.load_histories(run).items() if one in ("fusion", better)}
            return figures.training_figure(histories, "accuracy", run.recipe.frozen_epochs)
        case "calibration" | "temperature":
            diagrams = {}
            for one in (better, "fusion"):
                scale = finding.numbers.get(f"temperature_{one}", 1.0)
                probabilities = metrics.softmax(data.load_logits(run, one) / scale)
                diagrams[one] = metrics.reliability(probabilities.max(axis=1), answers[f"{one}_correct"].to_numpy())
            when = "as trained" if finding.id == "calibration" else "with a fitted temperature"
            return figures.reliability_figure(diagrams, f"Are the models as often right as they are confident, {when}?")
        case "headroom":
            flows = selection.name_flows(list(BASELINES))
            counts = data.load_transitions(run, list(BASELINES))["flow"].value_counts().reindex(flows, fill_value=0)
            states = ["both right", *(f"only {theme.label(one)} right" for one in BASELINES), "both wrong"]
            names, title = ("baselines", theme.label("fusion")), "What becomes of right and wrong answers?"
            return figures.transition_figure(counts.to_numpy().reshape(-1, 2), states, flows, set(), names, title, components.surface())
        case "branches":
            table = selection.share_branches(answers, data.load_branches(run)["contribution"], "class")
            return figures.branch_shares_figure(table, "Which branch carries the fusion's answers?")
        case "robustness":
            curve = data.load_robustness(run).groupby(["model", "severity"], as_index=False, sort=False)["accuracy"].mean()
            return figures.robustness_figure(curve, "How does accuracy fall with severity?")
        case _:
            return figures.accuracy_figure(summary)


def show_chart(finding: Finding) -> None:
    figure = draw_finding(finding)
    figure.update_layout(font={"size": 17}, title={"font": {"size": 20}}, height=max(figure.layout.height, 420))
    st.plotly_chart(figure, config={"displayModeBar": False}, alt=figure.layout.title.text, key=f"chart_{finding.id}")


def show_cards(rows: pd.DataFrame) -> None:
    st.html(report.cards_html(rows, run.models, data.load_images(), 170) if len(rows) else "<p class=said>There is none.</p>")


def find_disputed() -> pd.DataFrame:
    """Fusion's errors on the images whose label the fewest people chose."""
    wrong = answers[~answers["fusion_correct"]]
    return wrong.sort_values("people", kind="stable").head(CARDS)


def make_screen(finding: Finding) -> Screen:
    """The finding's first words as the statement; its numbers, verdict and test beside its chart, or images for one on people."""
    statement, _, numbers = finding.text.partition(": ")
    mark, color, _ = theme.VERDICTS[finding.verdict]
    said = (
        f'<p class="verdict" style="--verdict:{color}">Claim: {escape(finding.claim)}<br>'
        f"<b>{mark} {escape(finding.verdict)}</b></p>"
        f"<p>{escape(numbers[:1].upper() + numbers[1:])}</p><p><small>{escape(finding.test)}; n = {finding.n:,}</small></p>"
    )
    if finding.id == "people":
        return Screen(statement, said + "<p>Fusion's errors where people agree least:</p>", lambda: show_cards(find_disputed()))
    return Screen(statement, said, partial(show_chart, finding), beside=True)


def make_screens() -> list[Screen]:
    """Question, data, models, findings, images, limits."""
    recipe, samples = run.recipe, answers.groupby("label").sample(8, random_state=0).sort_values("label")["index"].tolist()
    budget = (
        f"The same for all three: {recipe.epochs} epochs, of which {recipe.frozen_epochs} with the head alone; images enlarged to "
        f"{recipe.image_size}×{recipe.image_size}; the same augmentation, optimizer and learning rates; seed {run.record['seed']}. "
        "A fourth answer costs no training: the ensemble, the mean of the two baselines' probabilities."
    )
    cifar = f"CIFAR-10, 32×32 pixels: 45,000 images to train, 5,000 to choose, 10,000 to test; {len(answers):,} of these were answered."
    keys = f"<p><small>Run {escape(run.name)}. Arrow keys turn the pages, Esc leaves.</small></p>"
    return [
        Screen(report.QUESTION, f"<p>{escape(headline)}</p>{keys}", lambda: None),
        Screen("Ten classes of small pictures", f"<p>{cifar}</p>", lambda: st.html(diagram.sample_html(samples, CLASSES))),
        Screen("Three models, one budget", f"<p>{escape(budget)}</p>", lambda: st.html(diagram.architecture_html(run))),
        *(make_screen(finding) for finding in findings if finding.id not in LEFT_OUT),
        *(Screen(title, "", partial(show_cards, rows)) for title, rows in report.pick_images(answers, run.models, CARDS).items()),
        Screen("What this does not say", report.list_html(report.list_limits(run, findings, len(answers))), lambda: None),
    ]


def turn(pages: int) -> None:
    """Go `pages` on, or back, within the screens."""
    st.session_state["step"] = min(max(step + pages, 1), len(screens))


screens = make_screens()
st.html(CSS)
with st.container(key="remote", horizontal=True, vertical_alignment="center"):
    back, pages, on, leave = (st.container(width="content") for _ in range(4))
    with pages:
        step = st.pagination(len(screens), key="step", bind="query-params", max_visible_pages=5)
    back.button("Back", shortcut="Left", on_click=turn, args=[-1])
    on.button("Next", shortcut="Right", on_click=turn, args=[1], type="primary")
    if leave.button("Leave", shortcut="Esc"):
        st.switch_page("views/overview.py")

screen = screens[step - 1]
st.title(screen.statement)
said, shown = st.columns([1, 1.5], gap="large") if screen.beside else (st.container(), st.container())
said.html(f'<div class="said">{screen.said}</div>')
with shown:
    screen.show()
