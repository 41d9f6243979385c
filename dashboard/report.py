"""One HTML file about a run that needs nothing else: charts that answer the pointer, images, findings, provenance.

It opens offline, in light and dark, and its own security policy forbids it any request. Whatever comes from files is escaped.
No streamlit here: scripts/report.py writes it too.
"""

import base64
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from core import metrics, results, summaries
from core.config import BASELINES, CLASSES, TRIO
from core.findings import Finding
from core.results import Run, TestImages
from dashboard import diagram, figures, theme
from dashboard.theme import DARK, LIGHT, Surface

QUESTION = "Does fusing two CNN backbones beat either alone?"
SECTIONS = {
    "What was compared": "the fusion network with its real dimensions, every model's accuracy with its 95 % interval, and its cost",
    "Findings": "every claim with its verdict, its numbers and its test",
    "Training curves": "loss, accuracy, learning rates and speed in every epoch",
    "Confusion": "each model's matrix, and fusion's minus the better baseline's",
    "Class by class": "recall of each model, and fusion's difference with its interval and test",
    "Images": "the hardest errors, and what fusion rescued and broke",
    "Provenance": "recipe, seed, start weights, device, versions and commit",
    "Limits, data and licences": "what the numbers do not say, and whose data they rest on",
}
IMAGES = 24  # of each kind
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
CARDS_CSS = """
.cards { display: flex; flex-wrap: wrap; gap: 14px; }
.cards figure { margin: 0; width: calc(var(--card) + 16px); font-size: 13px; line-height: 1.35; }
.cards img { width: var(--card); height: var(--card); image-rendering: pixelated; border-radius: 4px; display: block; }
"""
CSS = f"""
:root {{ color-scheme: light dark; --back: {LIGHT.background}; --text: {LIGHT.text}; --line: {LIGHT.faint}; }}
@media (prefers-color-scheme: dark) {{ :root {{ --back: {DARK.background}; --text: {DARK.text}; --line: {DARK.faint}; }} }}
body {{ margin: 0 auto; max-width: 1200px; padding: 2rem 1.2rem 4rem; background: var(--back); color: var(--text); font: 16px/1.5 {FONT}; }}
h1 {{ font-size: 2rem; line-height: 1.2; margin: 0; }} h2 {{ margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }}
a {{ color: inherit; }} nav a {{ margin-right: 1.2rem; }} code {{ overflow-wrap: anywhere; }}
.headline {{ font-size: 1.25rem; }} .small, figcaption {{ font-size: 14px; opacity: .85; }}
.scroll {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-size: 15px; }}
th, td {{ text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(500px, 100%), 1fr)); gap: 1.5rem; }}
.charts > figure {{ margin: 0; min-width: 0; }}
.finding {{ border-left: 4px solid var(--verdict); padding-left: 1rem; margin: 1.2rem 0; }} .finding p {{ margin: .2rem 0; }}
{CARDS_CSS}
"""
SCRIPT = """
const dark = matchMedia('(prefers-color-scheme: dark)')
function draw() {
  CHARTS.forEach((pair, i) => {
    const figure = pair[Number(dark.matches)]
    Plotly.react('chart' + i, figure.data, figure.layout, { responsive: true, displaylogo: false })
  })
}
dark.addEventListener('change', draw)
draw()
"""


class Charts:
    """The report's charts as JSON, each for a light and a dark page."""

    def __init__(self):
        self.pairs: list[str] = []

    def add(self, draw: Callable[[Surface], go.Figure], caption: str) -> str:
        """The place a chart is drawn in; `draw` makes it for a theme."""
        drawn = []
        for surface, template in ((LIGHT, "plotly_white"), (DARK, "plotly_dark")):
            figure = draw(surface)
            figure.update_layout(
                template=template, paper_bgcolor=surface.background, plot_bgcolor=surface.background,
                font={"family": FONT, "color": surface.text},
            )  # fmt: skip
            drawn.append(figure)
        self.pairs.append(f"[{','.join(figure.to_json() for figure in drawn)}]")  # plotly escapes <, > and / in it
        label = escape(f"{drawn[0].layout.title.text} {caption}")
        return (
            f'<figure><div id="chart{len(self.pairs) - 1}" role="img" aria-label="{label}" style="height:{drawn[0].layout.height}px"></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )


def table_html(head: Iterable[str], rows: Iterable[Iterable]) -> str:
    """A table of anything, escaped."""

    def line(tag: str, cells: Iterable) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f'<div class="scroll"><table>{line("th", head)}{"".join(line("td", row) for row in rows)}</table></div>'


def cards_html(rows: pd.DataFrame, models: list[str], images: TestImages, size: int) -> str:
    """Test images, `size` pixels a side, each with its true class and every model's answer; right ones are marked."""
    cards = []
    for _, row in rows.iterrows():
        lines = [f"true: <b>{CLASSES[row['label']]}</b>"]
        for model in models:
            mark = "✓" if row[f"{model}_correct"] else "✗"
            lines.append(f"{mark} {theme.label(model)}: {CLASSES[row[f'{model}_predicted']]} {row[f'{model}_confidence']:.2f}")
        uri = "data:image/png;base64," + base64.b64encode(images.png[row["index"]]).decode()
        predicted, confidence = CLASSES[row[f"{models[-1]}_predicted"]], row[f"{models[-1]}_confidence"]
        alt = f"true {CLASSES[row['label']]}, predicted {predicted}, {confidence:.2f}"
        cards.append(f'<figure><img src="{uri}" alt="{alt}" title="test image {row["index"]}">{"<br>".join(lines)}</figure>')
    return f'<div class="cards" style="--card:{size}px">{"".join(cards)}</div>'


def pick_images(answers: pd.DataFrame, models: list[str], n: int) -> dict[str, pd.DataFrame]:
    """Images that tell most, at most `n` of a kind: title -> rows of the answers. A run without all three models has only errors."""
    model = models[-1]
    wrong = answers[~answers[f"{model}_correct"]]
    picked = {f"Hardest: where {theme.label(model)} is most wrong": wrong.nlargest(n, f"{model}_loss")}
    if set(models) == set(TRIO):
        right, baselines = answers["fusion_correct"], answers[[f"{baseline}_correct" for baseline in BASELINES]]
        kinds = {
            "Rescued: both baselines wrong, fusion right": right & ~baselines.any(axis=1),
            "Broken: both baselines right, fusion wrong": ~right & baselines.all(axis=1),
        }
        picked |= {title: answers[mine].nlargest(n, "fusion_confidence") for title, mine in kinds.items()}
    return picked


def list_limits(run: Run, findings: list[Finding], tested: int) -> list[str]:
    """What the run's numbers cannot say."""
    seeds = max([finding.n for finding in findings if finding.id.startswith("seeds")], default=1)
    starts = "; ".join(f"{theme.label(name)}, {run.record['start_weights'][name]['name']}" for name in BASELINES)
    size = run.recipe.image_size
    limits = [
        f"{seeds} seeds were trained: the tests on images ask about one training, only those over seeds about the recipe."
        if seeds > 1
        else f"One seed ({run.record['seed']}) was trained: how much another training would differ is not known.",
        f"Start weights: {starts}. From others, fusion may gain more or less.",
        f"The images have 32×32 pixels, enlarged to {size}×{size}: photographs in full detail may behave differently.",
        "One data set, two backbones, one way to fuse them: other pairs and other fusions were not tried.",
    ]
    if tested < results.SPLIT_SIZES["test"]:
        limits.append(f"Only the first {tested:,} of 10,000 test images were answered.")
    doubted = next((finding.numbers["left_out"] for finding in findings if finding.id == "relabelled"), None)
    if doubted:
        limits.append(f"Fewer than three of five people confirm the label of {doubted} test images, so being wrong there may be right.")
    return limits


def list_sources(findings: list[Finding]) -> list[str]:
    """The data the run rests on, with their licences."""
    ids = {finding.id for finding in findings}
    sources = [
        "CIFAR-10: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; free to use with this citation. "
        "The images above are from its test split."
    ]
    if "people" in ids:
        sources.append("CIFAR-10H: J. Peterson et al., Human uncertainty makes classification more robust, ICCV 2019; CC BY-NC-SA 4.0.")
    if "relabelled" in ids:
        sources.append("Label errors: C. Northcutt et al., Pervasive Label Errors in Test Sets, NeurIPS 2021 Datasets; Apache-2.0.")
    return [*sources, "plotly.js, which draws the charts and is part of this file: MIT licence."]


def list_html(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def finding_html(finding: Finding) -> str:
    mark, color, _ = theme.VERDICTS[finding.verdict]
    return (
        f'<div class="finding" style="--verdict:{color}"><p><b>{escape(finding.claim)}</b>: {mark} {escape(finding.verdict)}</p>'
        f'<p>{escape(finding.text)}</p><p class="small">{escape(finding.test)}; n = {finding.n:,}</p></div>'
    )


def build_report(run: Run, images: TestImages, headline: str, findings: list[Finding]) -> str:
    """The whole page from a run, the test images and what core.findings says of it. Raises UserError."""
    answers, summary = summaries.per_image(run, images.labels), summaries.per_model(run, images.labels)
    charts = Charts()
    accuracy = summary.set_index("model")["accuracy"]
    better = max((b for b in BASELINES if b in run.models), key=accuracy.get, default=None)
    bodies = [
        _compared(run, summary, charts),
        "".join(finding_html(finding) for finding in findings) or f"<p>{escape(headline)}</p>",
        _training(run, charts),
        _confusion(run, answers, better, charts),
        _classes(answers, better),
        "".join(
            f"<h3>{title}</h3>" + (cards_html(rows, run.models, images, 96) if len(rows) else "<p>There is none.</p>")
            for title, rows in pick_images(answers, run.models, IMAGES).items()
        ),
        _provenance(run),
        list_html([*list_limits(run, findings, len(answers)), *list_sources(findings)]),
    ]
    links = "".join(f'<a href="#s{i}">{title}</a> ' for i, title in enumerate(SECTIONS))
    parts = enumerate(zip(SECTIONS, bodies, strict=True))
    sections = "".join(f'<section id="s{i}"><h2>{title}</h2>{body}</section>' for i, (title, body) in parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{QUESTION} {escape(run.name)}</title><style>{CSS}</style>'
        f"<script>{get_plotlyjs()}</script></head><body><h1>{QUESTION}</h1>"
        f'<p class="headline">{escape(headline)}</p><p class="small">Run {escape(run.name)}, {len(answers):,} test images</p>'
        f"<nav>{links}</nav>{sections}<script>const CHARTS = [{','.join(charts.pairs)}]{SCRIPT}</script></body></html>"
    )


def _compared(run: Run, summary: pd.DataFrame, charts: Charts) -> str:
    def show(value: float, text: str) -> str:
        return "–" if pd.isna(value) else text.format(value)

    rows = [
        [
            theme.label(row.model), f"{row.accuracy:.2%}", f"{100 * row.low:.2f}–{100 * row.high:.2f} %", show(row.macro_f1, "{:.4f}"),
            "–" if pd.isna(row.worst_recall) else f"{row.worst_class} {row.worst_recall:.1%}", show(row.val_accuracy, "{:.2%}"),
            show(row.parameters / 1e6, "{:.2f} M"), show(row.macs / 1e6, "{:,.0f} M"), show(row.latency_ms, "{:.1f}"),
            show(row.training_minutes, "{:.1f}"),
        ]
        for row in summary.itertuples()
    ]  # fmt: skip
    head = (
        "model",
        "test accuracy",
        "95 % interval",
        "macro F1",
        "worst class",
        "validation",
        "parameters",
        "MACs",
        "latency (ms)",
        "minutes",
    )
    note = (
        "Ensemble: mean of the baselines' probabilities, no training. Oracle: either baseline right. Wilson intervals; "
        f"MACs and latency of one image; minutes to train, validation included. {escape(run.record.get('note', ''))}"
    )
    chart = charts.add(lambda surface: figures.accuracy_figure(summary), "Wilson intervals.")
    return f'{diagram.architecture_html(run)}<br>{table_html(head, rows)}<p class="small">{note}</p><div class="charts">{chart}</div>'


def _training(run: Run, charts: Charts) -> str:
    histories = {model: [results.load_history(run, model)] for model in run.models}
    captions = {
        "loss": f"Label smoothing: {run.recipe.label_smoothing}. Training images are augmented, so harder.",
        "accuracy": "Training: on augmented images while the weights still move. Validation: at the epoch's end.",
        "learning rate": "Mean of each epoch, the same for all models.",
        "speed": "Training alone, without validation.",
    }

    def curve(quantity: str) -> str:
        shown = dict(list(histories.items())[-1:]) if quantity == "learning rate" else histories
        return charts.add(lambda surface: figures.training_figure(shown, quantity, run.recipe.frozen_epochs), captions[quantity])

    return f'<div class="charts">{"".join(curve(quantity) for quantity in captions)}</div>'


def _confusion(run: Run, answers: pd.DataFrame, better: str | None, charts: Charts) -> str:
    labels, order = answers["label"].to_numpy(), list(range(len(CLASSES)))
    counts = {model: metrics.confusion(labels, answers[f"{model}_predicted"].to_numpy()) for model in run.models}

    def matrix(model: str, surface: Surface) -> go.Figure:
        title = f"What does {theme.label(model)} take for what? (images)"
        return figures.confusion_figure(counts[model], counts[model], title, theme.STYLES[model].color, order, False, surface)

    def difference(surface: Surface) -> go.Figure:
        title = f"Where does {theme.label('fusion')} differ from {theme.label(better)}? (images)"
        return figures.confusion_difference_figure(counts["fusion"], counts["fusion"] - counts[better], title, order, False, surface)

    drawn = [charts.add(partial(matrix, model), "Colour grades the errors.") for model in run.models]
    if "fusion" in counts and better:
        caption = f"Fusion minus {theme.label(better)}, the better baseline. Green: fusion does better. Red: worse."
        drawn.append(charts.add(difference, caption))
    return f'<div class="charts">{"".join(drawn)}</div>'


def _classes(answers: pd.DataFrame, better: str | None) -> str:
    labels = answers["label"].to_numpy()
    shown = [model for model in theme.SHOWN_MODELS if f"{model}_correct" in answers]
    recall = {model: metrics.class_accuracy(labels, answers[f"{model}_correct"].to_numpy()) for model in shown}
    head = ["class", "images", *(f"{theme.label(model)} recall" for model in shown)]
    images = np.bincount(labels, minlength=len(CLASSES))
    rows = [[name, images[i], *(f"{recall[model][i]:.1%}" for model in shown)] for i, name in enumerate(CLASSES)]
    if "fusion" not in shown or not better:
        return table_html(head, rows)
    table = metrics.class_differences(labels, answers["fusion_correct"].to_numpy(), answers[f"{better}_correct"].to_numpy())
    for i, row in enumerate(rows):
        difference, low, high = (100 * table[name][i] for name in ("difference", "low", "high"))
        row += [f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]", f"{table['p_holm'][i]:.3f}"]
    note = f"Difference: fusion minus {theme.label(better)}, the better baseline, in points, with its paired bootstrap interval."
    return table_html([*head, "difference [95 %]", "p (exact McNemar, Holm)"], rows) + f'<p class="small">{note}</p>'


def _provenance(run: Run) -> str:
    record = run.record
    starts = {
        f"{theme.label(name)} starts from": f"{start['name']}" + (f" (sha256 {start['sha256']})" if start["sha256"] else "")
        for name, start in record["start_weights"].items()
    }
    made = {
        **{"run": run.name, "seed": record["seed"]},
        **starts,
        **{"precision": record["precision"], "device": record["device"], "processes": record["processes"], "code": record["code_commit"]},
        "libraries": ", ".join(f"{name} {version}" for name, version in record["libraries"].items()),
        "data (md5)": ", ".join(f"{name} {md5}" for name, md5 in record["data_md5"].items()) or "not recorded",
    }
    recipe = {f"recipe: {name.replace('_', ' ')}": value for name, value in asdict(run.recipe).items() if value is not None}
    return table_html(["what", "value"], (made | recipe).items())
