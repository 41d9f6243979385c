"""Drawn HTML blocks: the fusion network with its real dimensions, a sheet of sample images, attribution maps.

Python collects what a block shows; templates/blocks.html lays it out and escapes it.
"""

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from core.config import BACKBONES, BASELINES, CLASSES, label
from core.explain import METHODS
from core.images import pixels_uri
from core.results import Attributions, Run, TestImages
from core.robustness import CLEAN, CORRUPTIONS, SEVERITIES, corrupt_images
from dashboard.theme import AGAINST, FOR, NEUTRAL, STYLES

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined,
)  # fmt: skip
BLOCKS = TEMPLATES.get_template("blocks.html").module
STYLE = BLOCKS.style()
GLYPHS = {"circle": "●", "square": "■", "diamond": "◆", "x": "✖", "cross": "✚", "triangle-up": "▲"}  # the charts' markers, as text


def describe_network(run: Run) -> list[list[tuple[str, str, list[str]]]]:
    """The fusion network from left to right: stages of boxes, each with its colour, title and lines; numbers from the run."""
    recipe, costs, fusion = run.recipe, run.record["models"], STYLES["fusion"].color
    width = sum(BACKBONES[name].width for name in BASELINES)
    branches = []
    for name in BASELINES:
        wide = BACKBONES[name].width
        lines = [f"starts from {run.starts[name]}"] if name in run.starts else []
        lines += [] if run.imported else [f"average pooling → {wide:,} features"]
        if recipe.frozen_stages:
            lines.append(f"first {recipe.frozen_stages} of {len(BACKBONES[name].stages)} stages frozen")
        if recipe.branch_loss:
            own = "own loss," if recipe.shortcut else f"own head {wide:,} → {len(CLASSES)}, loss"
            lines.append(f"in training: {own} weight {recipe.branch_loss:g}")
        branches.append((STYLES[name].color, f"{label(name)} without its classifier", lines))
    parameters = costs.get("fusion", {}).get("parameters")
    total = "parameters unknown" if parameters is None else f"{parameters / 1e6:.1f} M parameters in all"
    total = total if "fusion" in costs else "not part of this run"
    seen = recipe.hidden + width if recipe.shortcut else recipe.hidden
    head = [
        "LayerNorm",
        f"linear {width:,} → {recipe.hidden}, ReLU",
        *([f"beside them the features: {recipe.hidden} + {width:,}"] if recipe.shortcut else []),
        f"dropout {recipe.dropout}",
        f"linear {seen:,} → {len(CLASSES)}",
    ]
    joined = [
        [(fusion, "Concatenate", [" + ".join(f"{BACKBONES[name].width:,}" for name in BASELINES), f"= {width:,} features"])],
        [(fusion, "Small MLP", head)],
    ]
    if run.imported:
        joined = [[(fusion, "Fusion", ["how the two were joined is not known here"])]]
    image = ["32×32 RGB", f"resized to {recipe.image_size}×{recipe.image_size} px", *([] if run.imported else ["ImageNet mean and std"])]
    return [
        [(NEUTRAL, "Image", image)],
        branches,
        *joined,
        [(fusion, "Ten classes", ["softmax", total])],
    ]


def architecture_html(run: Run) -> Markup:
    """The fusion network: both branches, their features, the head."""
    return STYLE + BLOCKS.network(describe_network(run))


def leads_html(table: Sequence[Sequence[str]]) -> Markup:
    """The leads that the answer rests on; `table`: of core.findings.Headline."""
    head, *rows = table
    return STYLE + BLOCKS.leads(head, rows)


def costs_html(summary: pd.DataFrame, means: pd.Series | None = None, seeds: int = 1) -> Markup:
    """What each model reaches, drawn with its 95 % interval on a common scale, and what it costs.

    `summary`: rows of core.summaries.per_model; `means`: accuracies over several `seeds`, by model. It is a table, not a chart, so the
    first page needs no chart library.
    """
    low, high = (np.floor(100 * summary["low"].min()), np.ceil(100 * summary["high"].max()))
    units = {"parameters": 1e6, "macs": 1e6, "latency_ms": 1, "training_minutes": 1}

    def place(share: float) -> str:
        return f"{100 * (100 * share - low) / (high - low):.2f}"

    rows = []
    for row in summary.itertuples():
        style, values = STYLES[row.model], [getattr(row, name) / unit for name, unit in units.items()]
        shares = [row.accuracy, *([] if means is None else [means.get(row.model, np.nan)])]
        rows.append(
            {
                **{"label": style.label, "color": style.color, "glyph": GLYPHS[style.marker]},
                "text": f"{100 * row.accuracy:.2f} % [{100 * row.low:.2f}, {100 * row.high:.2f}]",
                **{"low": place(row.low), "high": place(row.high), "place": place(row.accuracy)},
                "costs": [
                    *("–" if np.isnan(share) else f"{100 * share:.2f}" for share in shares),
                    *("–" if np.isnan(value) else f"{value:,.1f}" for value in values),
                ],
            }
        )
    heads = [("parameters", "million"), ("MACs", "million"), ("latency", "ms"), ("training", "minutes")]
    heads = [("test accuracy", "%"), *([] if means is None else [("mean", f"{seeds} seeds, %")]), *heads]
    return STYLE + BLOCKS.costs(rows, heads, f"{low:g} % to {high:g} %")


def sample_html(samples: dict[str, list[int]]) -> Markup:
    """A sheet of test images, a row a class: name -> indices."""
    from dashboard import thumbnails  # and with it streamlit, which the written report does without

    columns = 20  # of the sheet of pictures
    places = iter(range(sum(map(len, samples.values()))))
    rows = [(name, [next(places) for _ in indices]) for name, indices in samples.items()]
    return STYLE + BLOCKS.sheet(rows, columns, thumbnails.make_sprite(tuple(i for row in samples.values() for i in row), columns))


def describe_cards(rows: pd.DataFrame, models: list[str], images: TestImages) -> list[dict]:
    """Test images, each with its true class and every model's prediction; correct ones are marked."""
    cards = []
    for _, row in rows.iterrows():
        said = [(CLASSES[row[f"{model}_predicted"]], row[f"{model}_confidence"]) for model in models]
        marks = ["✓" if row[f"{model}_correct"] else "✗" for model in models]
        cards.append(
            {
                "uri": "data:image/png;base64," + base64.b64encode(images.png[row["index"]]).decode(),
                "alt": f"true {CLASSES[row['label']]}, predicted {said[-1][0]}, {said[-1][1]:.2f}",
                "title": f"test image {row['index']}",
                "true": CLASSES[row["label"]],
                "lines": [f"{mark} {label(model)}: {name} {p:.2f}" for mark, model, (name, p) in zip(marks, models, said, strict=True)],
            }
        )
    return cards


def overlay_map(image: np.ndarray, attribution: np.ndarray, scale: float, opacity: float) -> np.ndarray:
    """An attribution (32, 32) over its greyed image (32, 32, 3): FOR where positive, AGAINST where negative; uint8 (32, 32, 3)."""
    channels = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (AGAINST, FOR)]
    grey = (image @ np.array([0.299, 0.587, 0.114]))[..., None]
    strength = opacity * np.clip(np.abs(attribution) / scale, 0, 1)[..., None] if scale > 0 else 0.0
    color = np.array(channels)[(attribution > 0).astype(int)]  # (32, 32, 3)
    return np.round((1 - strength) * grey + strength * color).astype(np.uint8)


def stored_maps(stored: Attributions, position: int, image: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """The maps of one image of a run's attributions.npz over the image (32, 32, 3), each on a scale of its own, with captions."""
    cells = []
    for method, maps in stored.maps.items():
        for part, one in maps.items():
            branch = f", {label(part)} branch" if len(maps) > 1 else ""
            strongest = float(np.abs(one[position]).max())
            cells.append(
                (overlay_map(image, one[position], strongest, 0.9), f"{METHODS[method].label}{branch}{': blank' * (strongest == 0)}")
            )
    return cells


def say_colours(methods: Iterable[str]) -> str:
    """What the colours of overlay_map mean on the maps of these `methods`: a sentence."""
    strengths = [METHODS[name].label for name in methods if not METHODS[name].signed]
    return "Orange speaks for the class, blue against it" + f" (strength only: {', '.join(strengths)})" * bool(strengths) + "."


def maps_html(cells: list[tuple[np.ndarray, str]]) -> Markup:
    """Pictures (32, 32, 3) side by side, each with its caption."""
    return STYLE + BLOCKS.maps([(pixels_uri(pixels), text) for pixels, text in cells])


def corruptions_html(image: np.ndarray, index: int) -> Markup:
    """An image (32, 32, 3) clean and in every severity, a row a corruption."""

    def picture(name: str, severity: int, text: str) -> tuple[str, str]:
        return pixels_uri(corrupt_images(image[None], np.array([index]), name, severity)[0]), text

    return STYLE + BLOCKS.picture_rows(
        [
            (kind.label, [picture(*CLEAN, "clean"), *(picture(name, one, f"{kind.label}, severity {one}") for one in SEVERITIES)])
            for name, kind in CORRUPTIONS.items()
        ],
        ["clean", *map(str, SEVERITIES)],
    )
