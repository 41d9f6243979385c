"""One HTML file about a run that needs nothing else: charts that answer the pointer, images, findings, provenance.

It opens offline, in light and dark, it prints, and its own security policy forbids it any request. templates/report.html lays it
out and escapes whatever comes from files. No streamlit here: scripts/report.py writes it too.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from core import metrics, results, summaries
from core.config import BASELINES, CLASSES, FUSION, ORACLE, UserError
from core.findings import UNTESTED, Finding, Headline, describe_scope, say_mixing, tell_p
from core.images import pixels_uri
from core.results import Run, TestImages
from core.robustness import by_corruption, by_severity
from dashboard import diagram, figures, selection, theme
from dashboard.figures.look import FONT, describe_look
from dashboard.theme import DARK, LIGHT, Surface

QUESTION = "Does fusing two CNN backbones beat either alone?"
IMAGES = 24  # of each kind
EXPLAINED = 8  # images whose maps are shown
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass
class Part:
    """A piece of a section; report.html shows what is filled, in this order."""

    title: str = ""
    network: list = field(default_factory=list)  # diagram.describe_network
    head: Iterable[str] = ()
    rows: Iterable[Iterable] = ()
    findings: list[dict] = field(default_factory=list)
    cards: list[dict] = field(default_factory=list)  # diagram.describe_cards
    maps: list[list[tuple[str, str]]] = field(default_factory=list)  # rows of pictures (data URI, caption)
    charts: list[dict] = field(default_factory=list)  # Charts.add
    lines: list[str] = field(default_factory=list)
    note: str = ""


class Charts:
    """The report's charts as JSON, each for a light and a dark page."""

    def __init__(self) -> None:
        self.pairs: list[str] = []

    def add(self, draw: Callable[[Surface], go.Figure], caption: str) -> dict:
        """The place a chart is drawn in; `draw` makes it for a theme."""
        drawn = [draw(surface) for surface in (LIGHT, DARK)]
        for figure in drawn:
            figure.layout.template = None  # the same for all: see figures.look
        self.pairs.append(f"[{','.join(figure.to_json() for figure in drawn)}]")  # plotly escapes <, > and / in it
        title = drawn[0].layout.title.text
        place = {"id": f"chart{len(self.pairs) - 1}", "height": drawn[0].layout.height, "caption": caption}
        return place | {"label": f"{title.replace('<br>', ' ')} {caption}"}


@dataclass
class Report:
    """What the sections are written from."""

    run: Run
    images: TestImages
    headline: Headline
    findings: list[Finding]
    predictions: pd.DataFrame  # core.summaries.per_image
    summary: pd.DataFrame  # core.summaries.per_model
    charts: Charts = field(default_factory=Charts)

    @property
    def better(self) -> str | None:
        """The baseline that is better on validation: the test images are there to report, not to choose."""
        accuracy = self.summary.set_index("model")["val_accuracy"]
        return max((b for b in BASELINES if b in self.run.models), key=accuracy.get, default=None)

    @property
    def shown(self) -> list[str]:
        """The models with predictions, the ensemble included."""
        return [model for model in theme.SHOWN_MODELS if f"{model}_correct" in self.predictions]


def build_report(run: Run, images: TestImages, headline: Headline, findings: list[Finding]) -> str:
    """The whole page from a run, the test images and what core.findings says of it. Raises UserError."""
    report = Report(
        run, images, headline, findings, summaries.per_image(run, images.labels), summaries.per_model(run, images.labels)
    )  # fmt: skip
    sections = []
    for title, (_, write) in CONTENTS.items():
        try:
            parts = write(report)
        except UserError as error:  # an optional file is missing or damaged: the reason stands in its place
            parts = [Part(lines=[str(error)])]
        sections.append({"title": title, "parts": parts})
    return diagram.TEMPLATES.get_template("report.html").render(
        **{"question": QUESTION, "headline": headline, "run": run, "tested": len(report.predictions), "sections": sections},
        **{"policy": POLICY, "font": FONT, "light": LIGHT, "dark": DARK, "plotly": get_plotlyjs(), "charts": report.charts.pairs},
        looks=[describe_look(surface) for surface in (LIGHT, DARK)],
    )


def list_limits(run: Run, findings: list[Finding], tested: int) -> list[str]:
    """What the run's numbers cannot say."""
    starts = "; ".join(f"{theme.label(name)}, {start}" for name, start in run.starts.items())
    size = run.recipe.image_size
    limits = [
        *([describe_scope(run, findings)] if findings else []),
        *([f"Start weights: {starts}. From others, a baseline may be stronger and fusion gain more or less."] if starts else []),
        f"The images have 32×32 pixels, enlarged to {size}×{size}: photographs in full detail may behave differently.",
        "One data set, two backbones: other pairs were not tried.",
        "What is not distinguishable is not equal: more seeds or images could tell the two apart.",
    ]
    if run.imported:
        limits.append("How the models were trained and joined is not known here.")
    else:
        limits.append(f"Training took {run.recipe.epochs} epochs: after longer training the leads may differ.")
        if FUSION.name in run.models:
            joined = "the two share a head on their concatenated features: sums, gates"
            if run.recipe.shortcut:
                joined = "the fusion is the mean of two linear heads plus an MLP on both features: gates"
            limits.append(f"Trained together, {joined} and attention were not tried.")
    if ways := next((finding.numbers.get("ways") for finding in findings if finding.id == "late"), None):
        limits[-1] += f" Trained apart, they were combined in {ways} ways."
    if any(finding.id == "matched" and finding.verdict == UNTESTED for finding in findings):
        limits.append("Whether one larger network, of the fusion's cost, does as well was not tried.")
    if tested < results.SPLIT_SIZES["test"]:
        limits.append(f"Only the first {tested:,} of {results.SPLIT_SIZES['test']:,} test images were predicted.")
    left_out = {finding.id: finding.numbers.get("left_out") for finding in findings}
    kinds = {"relabelled": "a label that fewer than three of five people confirm", "near-duplicates": "a near-duplicate in training"}
    if doubtful := [f"{left_out[one]} have {words}" for one, words in kinds.items() if left_out.get(one)]:
        limits.append(f"Of the test images {', '.join(doubtful)}; the claims say what is left without them.")
    if mixing := say_mixing(run, findings):
        limits.append(mixing)
    return limits


def list_sources(findings: list[Finding]) -> list[str]:
    """The data the run rests on, with their licences."""
    ids = {finding.id for finding in findings if finding.verdict != UNTESTED}
    sources = [
        (
            "CIFAR-10: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, whose author asks for this citation. "
            "The images above are from its test split."
        )
    ]
    if "people" in ids:
        sources.append("CIFAR-10H: J. Peterson et al., Human uncertainty makes classification more robust, ICCV 2019; CC BY-NC-SA 4.0.")
    if "relabelled" in ids:
        sources.append("Label errors: C. Northcutt et al., Pervasive Label Errors in Test Sets, NeurIPS 2021 Datasets; Apache-2.0.")
    return [*sources, "plotly.js, which draws the charts and is part of this file: MIT licence."]


def list_html(lines: Iterable[str]) -> str:
    return diagram.TEMPLATES.from_string("<ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>").render(lines=lines)


# --- the sections ----------------------------------------------------------------------------------------------------


def _compare(report: Report) -> list[Part]:
    def show(value: float, text: str) -> str:
        return "–" if pd.isna(value) else text.format(value)

    rows = [
        [
            theme.label(row.model), f"{row.accuracy:.2%}", f"{100 * row.low:.2f}–{100 * row.high:.2f} %", show(row.macro_f1, "{:.4f}"),
            "–" if pd.isna(row.worst_recall) else f"{row.worst_class} {row.worst_recall:.1%}", show(row.val_accuracy, "{:.2%}"),
            show(row.parameters / 1e6, "{:.2f} M"), show(row.macs / 1e6, "{:,.0f} M"), show(row.latency_ms, "{:.1f}"),
            show(row.training_minutes, "{:.1f}"),
        ]
        for row in report.summary.itertuples()
    ]  # fmt: skip
    head = ["model", "test accuracy", "95 % interval", "macro F1", "worst class", "validation", "parameters", "MACs"]
    note = (
        "Ensemble: mean of the baselines' probabilities, no training. Oracle: either baseline correct. "
        * (ORACLE in set(report.summary["model"]))
        + "Wilson intervals; "
        f"MACs and latency of one image; minutes to train, validation included. {report.run.record.get('note', '')}"
    )
    chart = report.charts.add(lambda surface: figures.accuracy_figure(report.summary, report.run.record["seed"]), "Wilson intervals.")
    return [
        Part(network=diagram.describe_network(report.run)),
        Part(head=[*head, "latency (ms)", "minutes"], rows=rows, note=note),
        Part(charts=[chart]),
    ]


def _claim(report: Report) -> list[Part]:
    rows = []
    for one in report.findings:
        mark, color = theme.VERDICTS[one.verdict]
        words = {"claim": one.claim, "verdict": one.verdict, "text": one.text, "test": one.test, "n": f"{one.n:,}"}
        rows.append({"mark": mark, "color": color, **words})
    scope = describe_scope(report.run, report.findings) if rows else report.headline.sentence
    return [Part(lines=[scope]), Part(findings=rows)]


def _training(report: Report) -> list[Part]:
    run = report.run
    if run.imported:
        return [Part(lines=["Trained elsewhere: no epochs are known."])]
    histories = {model: [results.load_history(run, model)] for model in run.models}
    captions = figures.training_captions(run.recipe, results.split_size(run, "val"))

    def draw(quantity: str, _: Surface) -> go.Figure:
        return figures.training_figure(histories, quantity, run.recipe.frozen_epochs)

    return [Part(charts=[report.charts.add(partial(draw, quantity), caption) for quantity, caption in captions.items()])]


def _confuse(report: Report) -> list[Part]:
    predictions, models, better = report.predictions, report.run.models, report.better
    labels, order = predictions["label"].to_numpy(), list(range(len(CLASSES)))
    counts = {model: metrics.confusion(labels, predictions[f"{model}_predicted"].to_numpy()) for model in models}

    def matrix(model: str, surface: Surface) -> go.Figure:
        title = f"What does {theme.label(model)} take for what? (images)"
        return figures.confusion_figure(counts[model], counts[model], title, theme.STYLES[model].color, order, False, surface)

    def difference(surface: Surface) -> go.Figure:
        title = f"Where does {theme.label('fusion')} differ from {theme.label(better)}? (images)"
        return figures.confusion_difference_figure(counts["fusion"], counts["fusion"] - counts[better], title, order, False, surface)

    drawn = [report.charts.add(partial(matrix, model), "Colour grades the errors.") for model in models]
    if "fusion" in counts and better:
        caption = f"Fusion minus {theme.label(better)}, the baseline better on validation. Green: fusion does better. Red: worse."
        drawn.append(report.charts.add(difference, caption))
    return [Part(charts=drawn)]


def _classes(report: Report) -> list[Part]:
    predictions, better, shown = report.predictions, report.better, report.shown
    labels = predictions["label"].to_numpy()
    recall = {model: metrics.class_accuracy(labels, predictions[f"{model}_correct"].to_numpy()) for model in shown}
    head = ["class", "images", *(f"{theme.label(model)} recall" for model in shown)]
    images = np.bincount(labels, minlength=len(CLASSES))
    rows = [[name, images[i], *(f"{recall[model][i]:.1%}".replace("nan%", "–") for model in shown)] for i, name in enumerate(CLASSES)]
    if "fusion" not in shown or not better:
        return [Part(head=head, rows=rows)]
    table = metrics.class_differences(labels, predictions["fusion_correct"].to_numpy(), predictions[f"{better}_correct"].to_numpy())
    for i, row in enumerate(rows):
        difference, low, high = (100 * table[name][i] for name in ("difference", "low", "high"))
        row += [f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]", tell_p(table["p_holm"][i])]
    note = (
        f"Difference: fusion minus {theme.label(better)}, the baseline better on validation, in points, with its paired bootstrap interval."
    )
    return [Part(head=[*head, "difference [95 %]", "p (exact McNemar, Holm)"], rows=rows, note=note)]


def _calibrate(report: Report) -> list[Part]:
    _, labels, logits = results.load_logits(report.run)
    table = summaries.calibration(report.run)
    diagrams, curves = {"as trained": {}, "with a fitted temperature": {}}, {}
    for model, values in logits.items():
        correct = values.argmax(axis=1) == labels
        for when, scaled in zip(diagrams, (values, values / table.loc[model, "temperature"]), strict=True):
            diagrams[when][model] = metrics.reliability(metrics.softmax(scaled).max(axis=1), correct)
        curves[model] = metrics.risk_coverage(metrics.softmax(values).max(axis=1), correct)
    digits = [4 if name.startswith(theme.FINE) else 2 for name in table]
    rows = [[theme.label(model), *(f"{value:.{n}f}" for value, n in zip(row, digits, strict=True))] for model, row in table.iterrows()]
    head = ["model", *table.columns]
    note = (
        "Calibration error in points: |share correct − mean confidence| of each of 15 bins of equally many images, averaged over the "
        "images. Temperature is fitted on validation and applied to test; below 1 the model was underconfident. "
        "NLL in nats; Brier from 0 (best) to 2; AURC: the area under the last chart's curve."
    )
    drawn = [
        report.charts.add(
            lambda surface, one=one, when=when: figures.reliability_figure(one, f"As often correct as confident, {when}?"),
            "Above the line: underconfident. Below: overconfident.",
        )
        for when, one in diagrams.items()
    ]
    title = "How often does a model err on what it is sure of?"
    drawn.append(report.charts.add(lambda surface: figures.risk_figure(curves, title), "Images in order of confidence."))
    return [Part(charts=drawn), Part(head=head, rows=rows, note=note)]


def _corrupt(report: Report) -> list[Part]:
    conditions, errors = summaries.robustness(report.run), summaries.corruption_errors(report.run)
    rows = [[theme.label(row.model), f"{row.clean:.2%}", f"{row.corrupted:.2%}"] for row in errors.itertuples()]
    head = ["model", "clean accuracy", "accuracy on corrupted images"]
    if "mce" in errors:
        head.append(f"corruption error relative to {theme.label(BASELINES[0])} [95 %]")
        for row, one in zip(rows, errors.itertuples(), strict=True):
            interval = f"[{one.low:.1%}, {one.high:.1%}]" if np.isfinite(one.low) else "(too few images for an interval)"
            row.append(f"{one.mce:.1%} {interval}")
    severities, kinds = by_severity(conditions), by_corruption(conditions)
    drawn = [
        report.charts.add(
            lambda surface: figures.robustness_figure(severities, "How does accuracy fall with severity?"),
            "Mean of all corruptions; 0: clean.",
        ),
        report.charts.add(lambda surface: figures.corruptions_figure(kinds), "Mean over the five severities."),
    ]
    note = f"On {conditions['images'].iloc[0]:,} test images, equally many a class, 8 corruptions in 5 severities."
    return [Part(charts=drawn), Part(head=head, rows=rows, note=note)]


def _change(report: Report) -> list[Part]:
    predictions, parts = report.predictions, []
    if report.run.whole:
        before, labels = list(BASELINES), predictions["label"].to_numpy()
        *start, after = (predictions[f"{model}_correct"].to_numpy() for model in (*before, "fusion"))
        counts = np.zeros((2,) * 3, int)
        np.add.at(counts, tuple((~one).astype(int) for one in (*start, after)), 1)
        flows, by_class = selection.name_flows(before), metrics.class_transitions(labels, metrics.transitions(after, *start))
        by_class = pd.DataFrame({"class": CLASSES, **by_class})
        states = selection.name_states([theme.label(one) for one in before])

        def draw_transitions(surface: Surface) -> go.Figure:
            names, title = ("baselines", theme.label("fusion")), "What did fusion change?"
            return figures.transition_figure(counts.reshape(-1, 2), states, flows, set(), names, title, surface)

        def draw_classes(surface: Surface) -> go.Figure:
            return figures.class_transitions_figure(by_class, set(), "Which classes gain from fusion?", surface)

        captions = ("Images by what was correct before and after. Shares are of a row.", "Largest net gain on top; intervals: bootstrap.")
        parts.append(Part(charts=[*map(report.charts.add, (draw_transitions, draw_classes), captions)]))
    for title, rows in selection.pick_images(predictions, report.run.models, IMAGES).items():
        cards = diagram.describe_cards(rows, report.run.models, report.images)
        parts.append(Part(title=title, cards=cards, note="" if cards else "There is none."))
    return parts


def _explain(report: Report) -> list[Part]:
    run, predictions, parts = report.run, report.predictions, []
    model = selection.pick_subject(run.models)
    stored = results.load_attributions(run, model)
    surest = predictions.loc[stored.index, f"{model}_confidence"].nlargest(EXPLAINED).index
    for i in np.flatnonzero(np.isin(stored.index, surest)):
        index, image = int(stored.index[i]), report.images.decode(stored.index[i])
        row, against = predictions.iloc[index], f" − {CLASSES[stored.contrast[i]]}" if stored.contrast[i] >= 0 else ""
        text = f"test image {index}: {CLASSES[row['label']]}, taken for {CLASSES[row[f'{model}_predicted']]}"
        if against or stored.target[i] != row[f"{model}_predicted"]:
            text += f"; what speaks for {CLASSES[stored.target[i]]}{against}"
        cells = [(image, text)]
        cells += diagram.stored_maps(stored, i, image)
        parts.append([(pixels_uri(picture), text) for picture, text in cells])
    drawn = []
    if stored.branches:
        shares = selection.share_branches(predictions, stored.branches["contribution"], "class")
        title = "Which branch carries the fusion's predictions?"
        drawn.append(
            report.charts.add(
                lambda surface: figures.branch_shares_figure(shares, title), "Mean contribution to the predicted class's logit, by class."
            )
        )
    note = f"The {len(parts)} images of those explained on which {theme.label(model)} is surest. {diagram.say_colours(stored.maps)}"
    return [Part(maps=parts, note=f"{note} Each map has a scale of its own."), Part(charts=drawn)]


def _provenance(report: Report) -> list[Part]:
    record = report.run.record
    starts = {}
    for name, words in report.run.starts.items():
        digest = record["start_weights"][name]["sha256"]
        starts[f"{theme.label(name)} starts from"] = words + f" (sha256 {digest})" * bool(digest)
    made = {
        **{"run": report.run.name, "seed": record["seed"]},
        **starts,
        **{"precision": report.run.precision, "device": report.run.device, "processes": record["processes"], "code": report.run.code},
        "libraries": ", ".join(f"{name} {version}" for name, version in record["libraries"].items()),
        "data (md5)": ", ".join(f"{name} {md5}" for name, md5 in record["data_md5"].items()) or "not recorded",
    }
    settings = {name: value for name, value in asdict(report.run.recipe).items() if value is not None}
    if report.run.imported:  # nobody knows the others
        settings = {name: settings[name] for name in ("name", "image_size", "images_per_split") if name in settings}
    recipe = {f"recipe: {name.replace('_', ' ')}": value for name, value in settings.items()}
    return [Part(head=["what", "value"], rows=list((made | recipe).items()))]


def _limits(report: Report) -> list[Part]:
    limits = list_limits(report.run, report.findings, len(report.predictions))
    return [Part(lines=[*limits, *list_sources(report.findings)])]


CONTENTS: dict[str, tuple[str, Callable[[Report], list[Part]]]] = {
    "What was compared": (
        "the fusion network with its real dimensions, every model's accuracy with its 95 % interval, and its cost",
        _compare,
    ),
    "Findings": ("every claim with its verdict, its numbers and its test", _claim),
    "Training curves": ("loss, accuracy, learning rates and speed in every epoch", _training),
    "Confusion": ("each model's matrix, and fusion's minus that of the baseline better on validation", _confuse),
    "Class by class": ("recall of each model, and fusion's difference with its interval and test", _classes),
    "Calibration": ("is a model as often correct as it is confident, and does it know which predictions to doubt", _calibrate),
    "Robustness": ("accuracy on corrupted images, by severity and by kind", _corrupt),
    "Fixed and broken": ("what fusion changed, in which classes, and the images themselves", _change),
    "Attributions": ("which pixels and which branch speak for a prediction", _explain),
    "Provenance": ("recipe, seed, start weights, device, versions and commit", _provenance),
    "Limits, data and licences": ("what the numbers do not say, and whose data they rest on", _limits),
}
SECTIONS = {title: text for title, (text, _) in CONTENTS.items()}
