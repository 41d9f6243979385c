"""The quiz asks what was chosen, and knows what the models and people said."""

import json

import numpy as np
import pandas as pd
import pytest

from core import results, summaries
from core.config import CLASSES
from dashboard.components.quiz import IMAGES, draw_images


@pytest.fixture
def predictions() -> pd.DataFrame:
    random = np.random.default_rng(0)
    columns = {f"{model}_correct": random.random(400) < 0.8 for model in ("resnet18", "mobilenet_v2", "fusion")}
    return pd.DataFrame({"label": np.arange(400) % 10, **columns})


def test_a_mixed_draw_is_half_wrong_and_a_seed_repeats_it(predictions):
    drawn = draw_images(predictions, "mixed", [], "resnet18", 3)
    assert len(drawn) == len(set(drawn)) == IMAGES and predictions["resnet18_correct"][drawn].sum() == IMAGES // 2
    assert (
        list(drawn)
        == list(draw_images(predictions, "mixed", [], "resnet18", 3))
        != list(draw_images(predictions, "mixed", [], "resnet18", 4))
    )


@pytest.mark.parametrize(("difficulty", "least", "most"), [("easy", 3, 3), ("hard", 0, 2), ("all models wrong", 0, 0)])
def test_difficulty_is_how_many_models_are_correct(predictions, difficulty, least, most):
    drawn = draw_images(predictions, difficulty, ["cat", "dog"], "fusion", 1)
    correct = predictions.loc[drawn, [c for c in predictions if c.endswith("_correct")]].sum(axis=1)
    assert len(drawn) and correct.between(least, most).all() and set(predictions["label"][drawn]) <= {3, 5}


def test_the_page_hands_the_browser_the_truth_the_predictions_and_the_votes(visit, made_results):
    app = visit("quiz", difficulty="easy", true="frog")
    (quiz,) = (one for one in app.get("bidi_component") if one.proto.component_name == "quiz")
    items = json.loads(quiz.proto.json)["items"]
    table = summaries.per_image(results.load_run(made_results / "imagenet-96-seed0"))
    assert items and {item["label"] for item in items} == {CLASSES.index("frog")}
    for item in items:
        row = table.iloc[item["index"]]
        assert item["models"]["fusion"]["predicted"] == row["fusion_predicted"] == row["label"]
        assert item["models"]["fusion"]["confidence"] == pytest.approx(row["fusion_confidence"])


def test_where_no_image_fits_the_page_says_so(visit, monkeypatch):
    from dashboard.components import quiz

    monkeypatch.setitem(quiz.ROUNDS, "hard", (lambda correct: np.zeros(len(correct), bool), "none"))
    app = visit("quiz", difficulty="hard")
    assert "No image fits" in app.info[0].value and "quiz" not in {one.proto.component_name for one in app.get("bidi_component")}
