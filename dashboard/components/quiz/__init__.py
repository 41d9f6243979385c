"""The quiz as a custom component: which images are asked, and the game, which runs in the browser."""

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from core.config import CLASSES
from dashboard import data, selection, theme, thumbnails
from dashboard.components.choices import available_models
from dashboard.components.section import section
from dashboard.data import Run

ASSETS = {kind: (Path(__file__).parent / f"quiz.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
IMAGES = 60  # rounds of ten
ROUNDS = {  # difficulty -> which rows of the predictions, by whether each trained model is correct (N, models), and that in words
    "mixed": (None, "half of them {} predicts correctly"),
    "easy": (lambda correct: correct.all(axis=1), "every model predicts all of them correctly"),
    "hard": (lambda correct: ~correct.all(axis=1), "each of them at least one model predicts wrongly"),
    "all models wrong": (lambda correct: ~correct.any(axis=1), "no trained model predicts any of them correctly"),
}


def draw_images(predictions: pd.DataFrame, difficulty: str, true: list[str], model: str, seed: int) -> np.ndarray:
    """Positions of at most IMAGES rows in a random order. Mixed: as many that `model` predicts correctly as wrongly."""
    random = np.random.default_rng(seed)
    fits = predictions["label"].isin([CLASSES.index(name) for name in true or CLASSES]).to_numpy()
    if difficulty != "mixed":
        fits = fits & ROUNDS[difficulty][0](predictions[selection.correct_columns(predictions)].to_numpy())
        return random.permutation(np.flatnonzero(fits))[:IMAGES]
    correct = predictions[f"{model}_correct"].to_numpy()
    halves = [random.permutation(np.flatnonzero(fits & half)) for half in (correct, ~correct)]
    most = min(IMAGES // 2, *map(len, halves))
    return random.permutation(np.concatenate([half[:most] for half in halves]))


def play_quiz(run: Run, chosen: np.ndarray, asked: str | None, picked: str, name: str) -> None:
    """The game on the images `chosen`, as `picked` says; `asked`: the model whose predictions are voted on, None to pick the class.

    `name` starts it anew.
    """
    predictions, votes, items = data.load_predictions(run), None, []
    with section():
        votes = data.load_human_votes()
    for position in chosen:
        row = predictions.iloc[position]
        models = {
            model: {
                "label": theme.label(model), "predicted": int(row[f"{model}_predicted"]), "confidence": float(row[f"{model}_confidence"]),
            }
            for model in available_models(run)
        }  # fmt: skip
        index = int(row["index"])
        people = None if votes is None else (votes[index] / max(votes[index].sum(), 1)).tolist()
        items.append({"index": index, "label": int(row["label"]), "uri": thumbnails.image_uri(index), "models": models, "people": people})
    whole = {model: float(predictions[f"{model}_correct"].mean()) for model in available_models(run)}
    whole["people"] = None if votes is None else float(predictions["people"].mean())
    quiz = st.components.v2.component("quiz", **ASSETS)
    quiz(
        key="quiz",
        data={"items": items, "classes": CLASSES, "asked": asked, "picked": picked, "whole": whole, "n": len(predictions), "name": name},
    )
