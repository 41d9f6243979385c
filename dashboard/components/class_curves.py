"""A class against the rest, threshold by threshold: precision-recall and ROC, and what a threshold on the confidence leaves."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st

from core import metrics
from core.config import CLASSES
from core.results import Run
from dashboard import address, data, theme
from dashboard.components.charts import show_figure, show_table
from dashboard.figures import thresholds
from dashboard.filters import Filter


@st.cache_data(show_spinner="Tracing the curves …", max_entries=12, hash_funcs=data.BY_STAMP)
def trace_classes(run: Run, models: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]]:
    """Areas (a row a class and model: average_precision, roc_auc), and of each class and model the two curves' points."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    labels = data.load_predictions(run)["label"].to_numpy()
    rows, traced = [], {}
    for model in models:
        shares = metrics.softmax(data.load_logits(run, model))
        for i in np.unique(labels):  # a small run may lack a class
            name = CLASSES[i]
            precision, recall, _ = precision_recall_curve(labels == i, shares[:, i], drop_intermediate=True)
            alarms, hits, _ = roc_curve(labels == i, shares[:, i])
            traced[f"{name} {model}"] = {"precision–recall": thresholds.thin(recall, precision), "ROC": thresholds.thin(alarms, hits)}
            area = average_precision_score(labels == i, shares[:, i])
            rows.append({"class": name, "model": model, "average_precision": area, "roc_auc": roc_auc_score(labels == i, shares[:, i])})
    return pd.DataFrame(rows), traced


def show_class_curves(run: Run, models: list[str], chosen: Filter) -> None:
    """Both curves of one class for every model shown, and the areas of all classes."""
    areas, traced = trace_classes(run, tuple(models))
    classes = list(areas["class"].unique())
    start = next((name for name in (*chosen.true, "cat") if name in classes), classes[0])
    name = address.pick(st.selectbox, "Class, against the rest", classes, key="curve_of", default=start, width=230)
    kinds = {"precision–recall": ("average_precision", "average precision"), "ROC": ("roc_auc", "the area under the curve")}
    for column, (kind, (area, words)) in zip(st.columns(2), kinds.items(), strict=True):
        with column:
            points = {model: traced[f"{name} {model}"][kind] for model in models}
            by_class = areas.pivot(index="class", columns="model", values=area).loc[classes, models]
            show_figure(
                thresholds.class_figure(kind, name, points, by_class.loc[name].to_dict()),
                f"{kind}_{name}",
                f"All {len(data.load_predictions(run)):,} test images, whatever is filtered; the softmax probability of the class is "
                f"the score. In the legend, and below for every class: {words}.",
                pd.concat([pd.DataFrame({"model": m, "x": x, "y": y}) for m, (x, y) in points.items()]),
            )
            columns = {model: st.column_config.NumberColumn(theme.label(model), format="%.4f") for model in models}
            show_table(by_class.reset_index(), column_config=columns)


def show_threshold(run: Run, models: list[str], show: Callable[[Filter], None]) -> None:
    """Where a model may abstain: how many images it still covers, how accurately, and which drop out (a click shows them)."""
    predictions = data.load_predictions(run)
    threshold = address.slide("Predict only from this confidence on", 0.0, 1.0, 0.8, 0.01, key="threshold")
    rows = []
    for model in models:
        confidence, correct = predictions[f"{model}_confidence"].to_numpy(), predictions[f"{model}_correct"].to_numpy()
        kept = confidence >= threshold
        accuracy = correct[kept].mean() if kept.any() else np.nan
        rows.append((model, kept.mean(), accuracy, int((~kept).sum()), int((~kept & ~correct).sum()), int((~kept & correct).sum())))
    columns = ["model", "coverage", "accuracy_of_covered", "dropped", "dropped_wrong", "dropped_correct"]
    table = pd.DataFrame(rows, columns=columns)
    show_table(
        table.assign(model=table["model"].map(theme.label)),
        column_config={
            "coverage": st.column_config.NumberColumn("coverage", format="percent"),
            "accuracy_of_covered": st.column_config.NumberColumn("of those covered, correct", format="percent"),
            "dropped": st.column_config.NumberColumn("images left out"),
            "dropped_wrong": st.column_config.NumberColumn("left out, would be wrong"),
            "dropped_correct": st.column_config.NumberColumn("left out, would be correct"),
        },
    )
    picture, ways = st.columns([1.6, 1])
    with picture:
        steps = {
            m: thresholds.trace_threshold(predictions[f"{m}_confidence"].to_numpy(), predictions[f"{m}_correct"].to_numpy()) for m in models
        }
        show_figure(
            thresholds.threshold_figure(steps, threshold),
            "confidence_threshold",
            "Each point leaves out the images below one confidence; the marks stand at the chosen one.",
            pd.concat([frame.assign(model=model) for model, frame in steps.items()]),
        )
    with ways:
        for row in table.itertuples():
            below = Filter(model=row.model, outcome="everything", confidence=(0.0, threshold))
            text = f"The {row.dropped:,} image{'s' * (row.dropped != 1)} that {theme.label(row.model)} leaves out"
            st.button(text, key=f"dropped_{row.model}", on_click=show, args=[below], disabled=row.dropped == 0)
