"""The slides of a run: what each says, shows and gives its speaker to say. Made from results, so they are true for any run.

Seven tell the story; the rest, an appendix, has every claim with its chart. Whatever comes from files is escaped.
"""

import json
from dataclasses import dataclass
from html import escape
from textwrap import wrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core import metrics, results
from core.config import BACKBONES, BASELINES, CLASSES, FUSION, UserError, label
from core.findings import ALPHA, CONTRADICTED, OPEN, SUPPORTED, UNTESTED, Finding, Headline, show_p
from core.images import pixels_uri
from core.results import Run
from dashboard import claims, data, diagram, figures, report, selection, theme, thumbnails
from dashboard.figures.look import FONT
from dashboard.theme import Surface

CARDS = 7  # images in a row
UNTESTED_LINES = 4  # on a slide
SHOWN = {SUPPORTED: "shown", OPEN: "not shown", CONTRADICTED: "a loss is shown"}  # the lead of a claim with this verdict
GRADES = "Intervals are of 95 %. Points are percentage points."


@dataclass(frozen=True)
class Slide:
    """One statement: what is said (HTML), and what is shown beside or below it: a chart, images or HTML."""

    id: str
    title: str
    said: str = ""
    layout: str = "beside"  # beside | below | text
    chart: go.Figure | None = None
    shown: str = ""
    notes: str = ""
    main: bool = False  # belongs to the usual deck

    def to_json(self, surface: Surface) -> dict:
        """What the browser draws."""
        kept = {name: getattr(self, name) for name in ("id", "title", "said", "layout", "shown", "notes", "main")}
        return kept | {"chart": bare_chart(self.chart, surface) if self.chart else None}


def bare_chart(figure: go.Figure, surface: Surface) -> dict:
    """A chart as its slide draws it: in the slide's size and colours, without the room of a title, which the slide has."""
    figure = go.Figure(figure)
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "color": surface.text, "size": 13}, height=None,
        margin={"l": 8, "r": 12, "t": 12 + figure.layout.meta["above"], "b": 8}, legend={"font": {"size": 13}},
    )  # fmt: skip
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        axis.title.font.size = 14
        axis.title.text = (
            "<br>".join(wrap((axis.title.text or "").replace(" %", "\u00a0%"), 32)) or None
        )  # beside long names an axis is short
    figure.layout.template = None  # the same for all: see figures.look
    return json.loads(figure.to_json())


def ask(predictions: pd.DataFrame) -> Slide:
    said = (
        f"<p>Each of two networks looks at a picture in its own way. Is one model made of both more accurate than either alone? "
        f"Tried on CIFAR-10: ten classes, 32×32 pixels, {len(predictions):,} pictures to test on.</p>"
    )
    notes = (
        "Ask first: who expects that two networks know more than one? CIFAR-10 is split into 45,000 pictures to train on, 5,000 for "
        "validation and 10,000 to test on. The quiz lets the class guess before the numbers come."
    )
    shown = diagram.sample_html(selection.sample_classes(predictions, 20))
    return Slide("question", report.QUESTION, said, "below", shown=shown, notes=notes, main=True)


def compare_recipes(run: Run) -> Slide:
    recipe = run.recipe
    title = "Three models" if run.whole else "The models"
    said = "<p>They were trained elsewhere: how is not known here.</p>"
    if not run.imported:
        title += ", one recipe"
        said = (
            f"<p>The same for all: {recipe.epochs} epochs, of which {recipe.frozen_epochs} with the head alone; images "
            f"enlarged to {recipe.size_in_words}; the same augmentation, optimizer and seed ({run.record['seed']}); "
            f"learning rates {recipe.rates_in_words}.</p>"
        )
    notes = (
        f"{' and '.join(label(one) for one in BASELINES)} are the baselines. The fusion is both networks with a head of its own, trained "
        "together. A control needs no training beyond the baselines': the ensemble, the mean of their probabilities."
    )
    return Slide("models", title, said, "below", shown=diagram.architecture_html(run), notes=notes, main=True)


def answer(run: Run, headline: Headline, findings: list[Finding], surface: Surface) -> Slide:
    """The difference that decides the headline, large, beside the leads over trainings or the accuracies of this one."""
    chart = figures.accuracy_figure(data.load_summary(run), run.record["seed"])
    said = f"<p>{escape(headline.sentence)}</p>"
    notes = f"{headline.sentence} {headline.numbers}"
    if one := headline.decisive:
        low, high = (100 * end for end in one.interval)
        seed = f", seed {run.record['seed']}"
        tested = f"{one.n:,} test images"
        if one.kind == "seeds":
            chart = claims.draw(run, one, findings, surface)
            seed, tested = "", f"mean of {one.n} seeds"
        said = f'<p class="big">{100 * one.effect:+.2f}<span class="unit">points: fusion minus {label(one.against)}{seed}</span></p>{said}'
        said += f"<p><small>{tested}; 95 % interval of this comparison alone {low:+.2f} to {high:+.2f}. Corrected for three "
        said += f"comparisons {show_p(one.p)}: {SHOWN[one.verdict]}.</small></p>"
        against = next(other for other in findings if other.id == f"{one.kind}-ensemble")
        notes += f" Test: {one.test}. {GRADES} Intervals of single models may overlap all the same: a test of two on images counts only "
        notes += f"those that one of them alone predicts correctly. Beside averaging: {against.details}"
    return Slide("answer", "Does fusion beat either network?", said, chart=chart, notes=notes, main=True)


def help_and_hurt(run: Run, against: str, findings: list[Finding], surface: Surface) -> Slide:
    """Images fixed and broken a class, against the baseline `against`."""
    rows = data.load_transitions(run, [against])
    table = data.count_transitions(rows["label"].to_numpy(), rows["gain"].to_numpy())
    sums = table[["rescued", "broken", "net"]].sum()
    chart = figures.class_transitions_figure(table, set(), f"Which classes gain over {label(against)}?", surface)
    chart.update_layout(height=560)
    correct = [rows[f"{one}_correct"].to_numpy() for one in (FUSION.name, against)]
    tests = metrics.class_differences(rows["label"].to_numpy(), *correct)
    certain = tests["p_holm"] < ALPHA
    kinds = {"gained": certain & (tests["difference"] > 0), "lost": certain & (tests["difference"] < 0)}
    beyond = "; ".join(f"{word}: {', '.join(np.array(CLASSES)[which])}" for word, which in kinds.items() if which.any())
    classes = next(one for one in findings if one.id == "classes")
    higher, lower = ((sign * tests["difference"] > 0).sum() for sign in (1, -1))
    said = (
        f"<p>Of {label(against)}'s errors fusion corrects <b>{sums['rescued']:,.0f}</b>; of its correct predictions it breaks "
        f"<b>{sums['broken']:,.0f}</b>. On balance: <b>{sums['net']:+,.0f} images</b>.</p>"
        f"<p>{f'Beyond chance, {beyond}.' if beyond else 'In no single class is that more than chance could give.'}</p>"
        + (f"<p>{verdict_html(classes)}</p>" if classes.against == against else "")
    )
    notes = (
        f"Against {label(against)}, by the bare numbers, fusion is better on {higher} classes and worse on {lower}; beyond chance (exact "
        f"McNemar, Holm over classes) {beyond or 'on none'}. Bars to the right were fixed, to the left broken; the diamond is the balance."
    )
    return Slide("classes", "Where fusion helps, and where it hurts", said, chart=chart, notes=notes, main=True)


def fixed_and_broken(run: Run, predictions: pd.DataFrame) -> Slide:
    rows = selection.pick_images(predictions, run.models, CARDS)
    kinds = [title for title in rows if title.startswith(("Fixed", "Broken"))]
    shown = "".join(f"<h3>{escape(kind)}</h3>" + cards_html(rows[kind], run) for kind in kinds)
    notes = "Let the class name each picture first. Those shown are the ones the fusion was surest of; the quiz has many more."
    return Slide("images", "Images it fixed, images it broke", "", "below", shown=shown, notes=notes, main=True)


def cards_html(rows: pd.DataFrame, run: Run) -> str:
    """Test images with their true class and what fusion, or the last model, predicts."""
    if rows.empty:
        return "<p>There is none.</p>"
    model = selection.pick_subject(run.models)
    cards = "".join(
        f'<figure><img src="{thumbnails.image_uri(row["index"])}" alt="{selection.describe_prediction(row, model)}">'
        f"{CLASSES[row['label']]} → {CLASSES[row[f'{model}_predicted']]}</figure>"
        for _, row in rows.iterrows()
    )
    return f'<div class="cards">{cards}</div>'


def look(run: Run, predictions: pd.DataFrame, findings: list[Finding]) -> Slide | None:
    """Grad-CAM of each branch that it mostly says something of, on errors of the fusion; None where there is none."""
    try:
        computed = results.load_attributions(run, FUSION.name)
    except results.MissingFile:
        return None
    except UserError as error:
        return Slide("looks", "Where it looks", f"<p>{escape(str(error))}</p>", "text")
    maps = computed.maps.get("grad_cam", {})
    if not set(BASELINES) <= set(maps):
        return None
    rows = predictions.iloc[computed.index]
    explained = (
        (computed.target == rows[f"{FUSION.name}_predicted"]) & (computed.contrast < 0) & ~rows[f"{FUSION.name}_correct"]
    ).to_numpy()
    index, rows = computed.index[explained], rows[explained]
    maps = {branch: maps[branch][explained] for branch in BASELINES}
    blank = {branch: int((~maps[branch].any(axis=(1, 2))).sum()) for branch in BASELINES}
    branches = [branch for branch in BASELINES if 2 * blank[branch] <= len(rows)]
    if rows.empty or not branches:
        return None
    chosen = np.argsort(-rows[f"{FUSION.name}_confidence"].to_numpy(), kind="stable")[:CARDS]
    lines = {"true →\npredicted": [], **{f"{label(branch)}\nbranch": [] for branch in branches}}
    for i in chosen:
        image, row = data.load_images().decode(int(index[i])), rows.iloc[i]
        seen = [diagram.overlay_map(image, maps[branch][i], float(maps[branch][i].max()), 0.9) for branch in branches]
        text = f"{CLASSES[row['label']]} → {CLASSES[row[f'{FUSION.name}_predicted']]}"
        for line, pixels in zip(lines.values(), [image, *seen], strict=True):
            line.append(f'<figure><img src="{pixels_uri(pixels)}" alt="{text}">{text if pixels is image else ""}</figure>')
    cards = "".join(f"<h3>{name}</h3>{''.join(line)}" for name, line in lines.items())
    size = run.recipe.image_size
    places = " or ".join(f"{n}×{n}" for n in sorted({BACKBONES[branch].count_places(size) for branch in branches}))
    said = f"<p>Fusion's surest errors. Orange: where Grad-CAM finds evidence for the prediction, in {places} places at {size} pixels.</p>"
    said += "".join(
        f"<p>Left out: the {label(branch)} branch, {n:,} of whose {len(rows):,} maps are blank. Grad-CAM cuts off evidence against the "
        "prediction: blank does not mean idle.</p>"
        for branch, n in blank.items()
        if branch not in branches
    )
    carried = next((one for one in findings if one.id == "branches" and one.verdict != UNTESTED), None)
    notes = (
        "Grad-CAM (Selvaraju et al. 2017) at each branch's last convolution, each map on its own scale. A map shows where evidence was "
        "found, not that it was good evidence. " + (f"{carried.statement}. {carried.details}" if carried else "")
    )
    shown = f'<div class="cards rows" style="--n:{len(chosen)}">{cards}</div>'
    return Slide("looks", "Where it looks", said, "below", shown=shown, notes=notes, main=True)


def limit(run: Run, findings: list[Finding], tested: int) -> Slide:
    lines = report.list_limits(run, findings, tested)
    notes = "A claim holds for the images, the recipe and the trainings it was tested on; the appendix has every test."
    return Slide("limits", "What we may not say", report.list_html(lines), "text", notes=notes, main=True)


def verdict_html(finding: Finding) -> str:
    mark, color = theme.VERDICTS[finding.verdict]
    said = escape(finding.statement or finding.claim)
    return f'<span class="verdict" style="--verdict:{color};display:block"><b>{mark} {escape(finding.verdict)}</b><br>{said}</span>'


def show_claims(run: Run, findings: list[Finding], surface: Surface) -> list[Slide]:
    """Every claim, those of one chart on one slide; then those that could not be tested, each with what is missing."""
    by_chart: dict[str, tuple[go.Figure | None, list[Finding]]] = {}
    for finding in (one for one in findings if one.verdict != UNTESTED):
        try:
            figure = claims.draw(run, finding, findings, surface)
            title = figure.layout.title.text.replace("<br>", " ")
        except UserError:  # tested without the file that its chart needs
            figure, title = None, f"{finding.claim}?"
        by_chart.setdefault(title, (figure, []))[1].append(finding)
    slides = []
    for title, (figure, shown) in by_chart.items():
        said = "".join(f"<p>{verdict_html(one)}</p>" for one in shown)
        if len(shown) == 1:
            said += f"<p><small>{escape(shown[0].details)}</small></p>"
        notes = " ".join(f"{one.statement}: {one.details} ({one.test}; n = {one.n:,})." for one in shown)
        slides.append(Slide(f"claim-{shown[0].id}", title, said, "beside" if figure else "text", chart=figure, notes=notes))
    untested = [one for one in findings if one.verdict == UNTESTED]
    for first in range(0, len(untested), UNTESTED_LINES):
        lines = report.list_html(f"{one.claim}: {one.details}" for one in untested[first : first + UNTESTED_LINES])
        name = "untested" if first == 0 else f"untested-{first // UNTESTED_LINES + 1}"
        slides.append(Slide(name, "Not tested yet", lines, "text", notes="Where a command makes what is missing, the line names it."))
    return slides


def make_slides(run: Run, surface: Surface) -> list[Slide]:
    """The usual deck, then the appendix. Raises UserError."""
    predictions, headline, findings = data.load_predictions(run), data.load_headline(run), data.load_findings(run)
    main = [ask(predictions), compare_recipes(run), answer(run, headline, findings, surface)]
    if run.whole:
        main += [
            help_and_hurt(run, headline.decisive.against, findings, surface),
            fixed_and_broken(run, predictions),
            look(run, predictions, findings),
        ]
    main.append(limit(run, findings, len(predictions)))
    note = run.record.get("note")  # it may say what the minutes are worth
    said = f"<p><small>{escape(note)}</small></p>" if note else ""
    costs = Slide("costs", "What does each model cost?", said, "below", shown=diagram.costs_html(data.load_summary(run)), notes=GRADES)
    hardest = selection.pick_images(predictions, run.models, 3 * CARDS)
    title, rows = next((title, rows) for title, rows in hardest.items() if title.startswith("Hardest"))
    worst = Slide("hardest", title, "", "below", shown=cards_html(rows, run), notes="Some of these labels are doubted.")
    return [slide for slide in (*main, costs, *show_claims(run, findings, surface), worst) if slide]
