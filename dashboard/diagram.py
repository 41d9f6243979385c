"""Drawn HTML blocks: the fusion network with its real dimensions, a sheet of sample images, attribution maps."""

from html import escape

import numpy as np
import pandas as pd

from core.config import BACKBONES, BASELINES
from core.images import pixels_uri
from core.results import Run
from core.robustness import CLEAN, CORRUPTIONS, SEVERITIES, corrupt_images
from dashboard.theme import AGAINST, FOR, NEUTRAL, STYLES

CSS = """<style>
.net { display: flex; align-items: stretch; gap: 6px; flex-wrap: wrap; font-size: 14px; }
.net .stage { display: flex; flex-direction: column; gap: 10px; justify-content: center; flex: 1 1 130px; }
.net .box { border: 2px solid var(--c); border-radius: 8px; padding: 8px 10px; background: color-mix(in srgb, var(--c) 10%, transparent); }
.net .box b { display: block; } .net .box small { opacity: .8; display: block; line-height: 1.35; }
.net .arrow { align-self: center; font-size: 20px; opacity: .7; flex: 0 0 auto; }
@media (max-width: 700px) { .net { flex-direction: column; } .net .arrow { transform: rotate(90deg); } .net .stage { flex: none; } }
.maps { display: flex; flex-wrap: wrap; gap: 12px; font-size: 13px; } .maps figure { margin: 0; flex: 1 1 120px; max-width: 190px; }
.maps img { width: 100%; image-rendering: pixelated; border-radius: 6px; }
.costs { overflow-x: auto; } .costs table { border-collapse: collapse; width: 100%; font-size: 14px; }
.costs th, .costs td { padding: 6px 10px; text-align: right; border: 0; border-bottom: 1px solid #80808050;
  white-space: nowrap; font-variant-numeric: tabular-nums; } .costs th { font-weight: 600; vertical-align: bottom; }
.costs th:first-child { text-align: left; } .costs td.range, .costs th.range { text-align: left; width: 40%; min-width: 130px; }
.costs .interval { position: relative; height: 20px; }
.costs .interval i { position: absolute; top: 9px; height: 2px; background: currentColor; }
.costs .interval b { position: absolute; top: 0; line-height: 20px; font-size: 17px; transform: translateX(-50%); }
.costs small { display: block; font-weight: 400; opacity: .8; }
.sheet { display: grid; grid-template-columns: auto 1fr; gap: 4px 12px; align-items: center; font-size: 14px; }
.sheet .row { display: flex; gap: 4px; flex-wrap: wrap; }
.sheet img { width: 64px; image-rendering: pixelated; border-radius: 3px; }
.sheet span.thumb { width: 48px; height: 48px; display: inline-block; image-rendering: pixelated; border-radius: 3px; }
</style>"""


GLYPHS = {"circle": "●", "square": "■", "diamond": "◆", "x": "✖", "cross": "✚"}  # the charts' markers, as text


def _box(color: str, title: str, *lines: str) -> str:
    return (
        f'<div class="box" style="--c:{color}"><b>{escape(title)}</b>'
        + "".join(f"<small>{escape(line)}</small>" for line in lines)
        + "</div>"
    )


def architecture_html(run: Run) -> str:
    """The fusion network: both branches, their features, the head; numbers from the run."""
    recipe, costs = run.recipe, run.record["models"]
    size, width = recipe.image_size, sum(BACKBONES[name].width for name in BASELINES)
    branches = [
        _box(
            STYLES[name].color,
            f"{STYLES[name].label} without its classifier",
            f"starts from {run.record['start_weights'][name]['name']}",
            f"global average pooling → {BACKBONES[name].width:,} features",
        )
        for name in BASELINES
    ]
    fusion = STYLES["fusion"].color
    total = f"{costs['fusion']['parameters'] / 1e6:.1f} M parameters in all" if "fusion" in costs else "not part of this run"
    stages = [
        [_box(NEUTRAL, "Image", "32×32 RGB", f"resized to {size}×{size}", "ImageNet mean and std")],
        branches,
        [_box(fusion, "Concatenate", " + ".join(f"{BACKBONES[name].width:,}" for name in BASELINES), f"= {width:,} features")],
        [
            _box(
                fusion,
                "Small MLP",
                "LayerNorm",
                f"linear {width:,} → {recipe.hidden}, ReLU",
                f"dropout {recipe.dropout}",
                f"linear {recipe.hidden} → 10",
            )
        ],
        [_box(fusion, "Ten classes", "softmax", total)],
    ]
    arrow = '<div class="arrow" aria-hidden="true">→</div>'
    return (
        CSS
        + '<div class="net" role="img" aria-label="Architecture of the fusion network">'
        + arrow.join(f'<div class="stage">{"".join(boxes)}</div>' for boxes in stages)
        + "</div>"
    )


def costs_html(summary: pd.DataFrame) -> str:
    """What each model reaches, drawn with its 95 % interval on a common scale, and what it costs.

    `summary`: rows of core.summaries.per_model. It is a table, not a chart, so the first page needs no chart library.
    """
    low, high = (np.floor(100 * summary["low"].min()), np.ceil(100 * summary["high"].max()))
    units = {"parameters": 1e6, "macs": 1e6, "latency_ms": 1, "training_minutes": 1}

    def place(share: float) -> str:
        return f"{100 * (100 * share - low) / (high - low):.2f}%"

    rows = []
    for row in summary.itertuples():
        style = STYLES[row.model]
        text = f"{100 * row.accuracy:.2f} % [{100 * row.low:.2f}, {100 * row.high:.2f}]"
        drawn = (
            f'<div class="interval" role="img" aria-label="{text}" title="{text}" style="color:{style.color}">'
            f'<i style="left:{place(row.low)};right:calc(100% - {place(row.high)})"></i>'
            f'<b style="left:{place(row.accuracy)}">{GLYPHS[style.marker]}</b></div>'
        )
        values = (getattr(row, name) / unit for name, unit in units.items())
        costs = "".join(f"<td>{'–' if np.isnan(value) else f'{value:,.1f}'}</td>" for value in values)
        rows.append(f'<tr><th scope="row">{style.label}</th><td class="range">{drawn}</td><td>{100 * row.accuracy:.2f}</td>{costs}</tr>')
    heads = (("test accuracy", "%"), ("parameters", "million"), ("MACs", "million"), ("latency", "ms"), ("training", "minutes"))
    head = "".join(f'<th scope="col">{name}<small>{unit}</small></th>' for name, unit in heads)
    scale = f'<th scope="col" class="range">95 % interval<small>{low:g} % to {high:g} %</small></th>'
    return f'{CSS}<div class="costs"><table><tr><th scope="col">model</th>{scale}{head}</tr>{"".join(rows)}</table></div>'


def sample_html(indices: list[int], classes: tuple[str, ...]) -> str:
    """A sheet of test images, a row a class; `indices` in class order, equally many a class."""
    from dashboard import thumbnails  # and with it streamlit, which the written report does without

    columns = len(indices) // len(classes)
    sprite = thumbnails.make_sprite(tuple(indices), columns)
    rows = []
    for i, name in enumerate(classes):
        thumbs = "".join(
            f'<span class="thumb" role="img" aria-label="{escape(name)}" style="background-position:-{48 * j}px -{48 * i}px"></span>'
            for j in range(columns)
        )
        rows.append(f'<b>{escape(name)}</b><div class="row">{thumbs}</div>')
    background = f"background-image: url(data:image/png;base64,{sprite}); background-size: {48 * columns}px auto"
    rule = f"<style>.sheet span.thumb {{ {background} }}</style>"
    return CSS + rule + f'<div class="sheet">{"".join(rows)}</div>'


def overlay_map(image: np.ndarray, attribution: np.ndarray, scale: float, opacity: float) -> np.ndarray:
    """An attribution (32, 32) over its greyed image (32, 32, 3): FOR where positive, AGAINST where negative; uint8 (32, 32, 3)."""
    channels = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (AGAINST, FOR)]
    grey = (image @ np.array([0.299, 0.587, 0.114]))[..., None]
    strength = opacity * np.clip(np.abs(attribution) / scale, 0, 1)[..., None] if scale > 0 else 0.0
    color = np.array(channels)[(attribution > 0).astype(int)]  # (32, 32, 3)
    return np.round((1 - strength) * grey + strength * color).astype(np.uint8)


def maps_html(cells: list[tuple[np.ndarray, str]]) -> str:
    """Pictures (32, 32, 3) side by side, each with its caption."""
    figures = "".join(
        f'<figure><img src="{pixels_uri(pixels)}" alt="{escape(text)}"><figcaption>{escape(text)}</figcaption></figure>'
        for pixels, text in cells
    )
    return CSS + f'<div class="maps">{figures}</div>'


def corruptions_html(image: np.ndarray, index: int) -> str:
    """An image (32, 32, 3) clean and in every severity, a row a corruption."""

    def picture(name: str, severity: int, label: str) -> str:
        pixels = corrupt_images(image[None], np.array([index]), name, severity)[0]
        return f'<img src="{pixels_uri(pixels)}" alt="{escape(label)}">'

    rows = []
    for name, kind in CORRUPTIONS.items():
        pictures = [picture(*CLEAN, "clean"), *(picture(name, severity, f"{kind.label}, severity {severity}") for severity in SEVERITIES)]
        rows.append(f'<b>{escape(kind.label)}</b><div class="row">{"".join(pictures)}</div>')
    return CSS + f'<div class="sheet">{"".join(rows)}</div>'
