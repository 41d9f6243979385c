"""A small confusion matrix whose cells, recalls and precisions are clickable: a custom component."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import streamlit as st

from core import metrics
from core.config import CLASSES
from dashboard import theme

ASSETS = {kind: (Path(__file__).parent / f"matrix.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}


def small_matrix(
    model: str,
    labels: np.ndarray,
    predicted: np.ndarray,
    shown: np.ndarray,
    measured: np.ndarray,
    chosen: list[tuple[str, str]],
    click: Callable[[str, str, str], None],
) -> None:
    """Counts of the images `shown`; precision and recall over those `measured` (both bool (N,), of labels and predicted (N,)).

    `chosen` cells are marked. A click calls `click` with "cell", true and predicted class, or with "misses" or "false positives"
    and the class.
    """
    n = int(shown.sum())
    counts = metrics.confusion(labels[shown], predicted[shown])
    whole = metrics.confusion(labels[measured], predicted[measured])
    matrix = st.components.v2.component("small_matrix", html="<div class='scroll'><table></table></div>", **ASSETS)
    key = f"matrix_{model}"
    matrix(
        key=key,
        data={
            "caption": f"{theme.label(model)}: {n:,} image{'s' * (n != 1)}",
            "color": theme.STYLES[model].color,
            "classes": CLASSES,
            "counts": counts.tolist(),
            "recall": share(whole.diagonal(), whole.sum(axis=1)),
            "precision": share(whole.diagonal(), whole.sum(axis=0)),
            "chosen": chosen,
        },
        on_clicked_change=lambda: click(*st.session_state[key].clicked),
    )


def share(part: np.ndarray, whole: np.ndarray) -> list[float | None]:
    """part / whole; None where there is nothing."""
    return [round(float(a / b), 4) if b else None for a, b in zip(part, whole, strict=True)]
