"""Tables derived from a run's logits: a row an image, a row a model. Nothing of them is stored. No torch here."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from core import metrics, results
from core.config import BASELINES, CLASSES, CONTROLS, ENSEMBLE, ORACLE, UserError, label
from core.results import Run
from core.robustness import group_conditions, list_conditions

COSTS = ("parameters", "macs", "latency_ms")
TRAINING = ("val_accuracy", "training_minutes")
ADDED = (*COSTS, "training_minutes")  # the ensemble's are its baselines' sums


def per_image(run: Run, labels: np.ndarray | None = None) -> pd.DataFrame:
    """One row a test image: index, label and, for each model of load_logits, what it predicted. Raises UserError.

    {model}_predicted (class position), {model}_confidence (largest probability), {model}_margin (largest minus second),
    {model}_loss (cross-entropy, nats), {model}_correct (bool). `labels` are the test images', to compare with.
    """
    index, label, logits = results.load_logits(run, "test", labels)
    columns = {"index": index, "label": label}
    for model, values in logits.items():
        predicted = values.argmax(axis=1)
        second, top = np.partition(metrics.softmax(values), -2, axis=1)[:, -2:].T
        columns[f"{model}_predicted"] = predicted
        columns[f"{model}_confidence"] = top
        columns[f"{model}_margin"] = top - second
        columns[f"{model}_loss"] = metrics.cross_entropy(label, values)
        columns[f"{model}_correct"] = predicted == label
    return pd.DataFrame(columns)


def per_model(run: Run, labels: np.ndarray | None = None) -> pd.DataFrame:
    """One row a model, the derived `ensemble` and `oracle` last, with all that stands beside an accuracy. Raises UserError.

    accuracy with its Wilson interval (low, high), macro_f1, worst_class and worst_recall, val_accuracy (of the weights that
    predict, as all else here, not the history's), parameters, macs, latency_ms (one image) and
    training_minutes; NaN where a control has no such thing, or where it is not known.
    """
    images = per_image(run, labels)
    label = images["label"].to_numpy()
    _, val_labels, val_logits = results.load_logits(run, "val")
    rows = []
    for model in [c.removesuffix("_correct") for c in images if c.endswith("_correct")]:
        scores = metrics.per_class(label, images[f"{model}_predicted"].to_numpy(), len(CLASSES))
        seen = scores["support"] > 0  # a small run may lack a class
        worst = int(np.where(seen, scores["recall"], np.inf).argmin())
        row = _measure_accuracy(model, images[f"{model}_correct"]) | {"macro_f1": scores["f1"][seen].mean()}
        row |= {"worst_class": CLASSES[worst], "worst_recall": scores["recall"][worst]}
        row["val_accuracy"] = (val_logits[model].argmax(axis=1) == val_labels).mean()
        if model in run.models:
            cost = run.record["models"][model]
            row |= {key: cost[key] for key in COSTS if key in cost} | _sum_up_training(run, model)
        rows.append(row)
    if rows[-1]["model"] == ENSEMBLE:
        parts = [row for row in rows if row["model"] in BASELINES]
        rows[-1] |= {key: sum(part[key] for part in parts) for key in ADDED if all(key in part for part in parts)}
        rows.append(_measure_accuracy(ORACLE, images[[f"{model}_correct" for model in BASELINES]].any(axis=1)))
    columns = ["model", "accuracy", "low", "high", "macro_f1", "worst_class", "worst_recall", *COSTS, *TRAINING]
    return pd.DataFrame(rows, columns=columns)


def _measure_accuracy(model: str, correct: pd.Series) -> dict[str, str | float]:
    low, high = metrics.wilson_interval(int(correct.sum()), len(correct))
    return {"model": model, "accuracy": correct.mean(), "low": low, "high": high}


def _sum_up_training(run: Run, model: str) -> dict[str, float]:
    """training_minutes; nothing of a run that was trained elsewhere."""
    history = results.load_history(run, model)
    return {} if history.empty else {"training_minutes": history["time_seconds"].sum() / 60}


def class_curves(run: Run, model: str) -> pd.DataFrame:
    """A row an epoch (epoch), a column a class: the share of its validation images predicted correctly. Raises MissingFile, UserError."""
    labels = results.load_predictions(run, model, "val").labels
    correct = _pick_val(run, model, "epoch_correct.csv", results.load_epoch_correct(run, model))
    table = pd.DataFrame([metrics.class_accuracy(labels, one) for one in correct], columns=CLASSES)
    table.insert(0, "epoch", np.arange(1, len(table) + 1))
    return table


def epoch_confusions(run: Run, model: str) -> np.ndarray:
    """The confusion matrix of the validation images after each epoch: counts (epochs, C, C). Raises MissingFile, UserError."""
    labels = results.load_predictions(run, model, "val").labels
    predicted = _pick_val(run, model, "epoch_predicted.csv", results.load_epoch_predicted(run, model))
    return np.stack([metrics.confusion(labels, one) for one in predicted])


def _pick_val(run: Run, model: str, name: str, splits: dict[str, np.ndarray]) -> np.ndarray:
    if "val" not in splits:
        raise UserError(f"{run.path / model / name} holds no validation images: run {results.rebuild_command(run.path)}")
    return splits["val"]


def calibration(run: Run) -> pd.DataFrame:
    """A row a model, the ensemble included: temperature, calibration error (points) and NLL (nats) before and after, Brier, AURC.

    Raises UserError.
    """
    _, labels, logits = results.load_logits(run)
    _, val_labels, val_logits = results.load_logits(run, "val")
    rows = {}
    for model, values in logits.items():
        temperature = metrics.fit_temperature(val_labels, val_logits[model])
        correct = values.argmax(axis=1) == labels
        row = {"temperature": temperature}
        for when, scaled in (("", values), (" with temperature", values / temperature)):
            confidence = metrics.softmax(scaled).max(axis=1)
            row[f"calibration error{when}"] = 100 * metrics.calibration_error(confidence, correct)
            row[f"NLL{when}"] = metrics.cross_entropy(labels, scaled).mean()
        row["Brier"] = metrics.brier_scores(labels, values).mean()
        row["AURC"] = metrics.risk_coverage(metrics.softmax(values).max(axis=1), correct)[1].mean()
        rows[model] = row
    return pd.DataFrame(rows).T


def load_robustness(run: Run, models: Iterable[str]) -> dict[str, np.ndarray]:
    """core.results.load_robustness of these models, all on the same images: they may have been measured one by one. Raises UserError."""
    correct = {model: results.load_robustness(run, model) for model in models}
    if len({rows.shape for rows in correct.values()}) > 1:
        sizes = ", ".join(f"{label(model)} on {rows.shape[1]:,}" for model, rows in correct.items())
        again = results.command("robustness.py", run.path)
        raise UserError(f"The models of {run.path} were not tried on the same corrupted images ({sizes}): run {again}")
    return correct


def _load_robustness(run: Run) -> dict[str, np.ndarray]:
    models = [*run.models, *([ENSEMBLE] if run.has_baselines else [])]
    return load_robustness(run, [one for one in models if one not in CONTROLS or (run.path / one / "robustness.csv").exists()])


def robustness(run: Run) -> pd.DataFrame:
    """A row a model, the ensemble included, and condition: corruption, severity, model, accuracy, images. Raises UserError."""
    conditions = pd.DataFrame(list_conditions(), columns=["corruption", "severity"])
    correct = _load_robustness(run).items()
    return pd.concat(conditions.assign(model=model, accuracy=rows.mean(axis=1), images=rows.shape[1]) for model, rows in correct)


def corruption_errors(run: Run) -> pd.DataFrame:
    """A row a model, the ensemble included: accuracy clean and corrupted (means over images and conditions), and, where BASELINES[0]
    is there to compare with, the mean corruption error relative to it (mce) with its interval (low, high). Raises UserError.
    """
    correct = _load_robustness(run)
    errors = pd.DataFrame({"model": list(correct), "clean": [rows[0].mean() for rows in correct.values()]})
    errors["corrupted"] = [rows[1:].mean() for rows in correct.values()]
    if (reference := BASELINES[0]) in correct:
        relative = [metrics.corruption_error(group_conditions(rows), group_conditions(correct[reference])) for rows in correct.values()]
        errors["mce"], errors["low"], errors["high"] = zip(*((value, *interval) for value, interval in relative), strict=True)
    return errors
