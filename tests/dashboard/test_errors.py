"""Errors by class: filters as values, their counts and addresses, and the page they drive."""

import io
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from core import metrics, results
from core.config import CLASSES, TRIO, UserError
from dashboard import data, filters, inference, selection, traits
from dashboard.components import weak_slices
from dashboard.figures import thresholds
from dashboard.filters import Filter
from tests.dashboard.conftest import component, open_page

MODELS = ["resnet18", "mobilenet_v2", "fusion", "ensemble"]
CAT, DOG = CLASSES.index("cat"), CLASSES.index("dog")
RICH = Filter(
    **{"model": "resnet18", "outcome": "any wrong", "true": ("cat", "dog"), "predicted": ("bird",), "says": ("fusion:wrong",)},
    **{"agreement": "models disagree", "confidence": (0.25, 0.9), "people": (0.0, 0.5), "doubted": True, "seeds": "wrong in every seed"},
    **{"learned": (2, 5), "forgotten": 3, "slice": ("brightness:0", "cluster:7"), "tags": ("blurred, odd",), "sort": "learned last first"},
    beside="fusion",
    duplicates="near-duplicates only",
)


def no_trait(name: str) -> np.ndarray:
    raise AssertionError(f"{name} was asked for")


@pytest.fixture
def predictions(fake_results) -> pd.DataFrame:
    return data.load_predictions(data.open_run("imagenet-96-seed0"))


def chosen_rows(predictions: pd.DataFrame, chosen: Filter, trait=no_trait, tagged=None) -> pd.DataFrame:
    kept = filters.all_but(chosen.conditions(predictions, trait, tagged or {}), len(predictions))
    return predictions.loc[chosen.arrange(predictions, kept, trait)]


def test_an_address_gives_back_the_filter_it_was_made_of():
    assert filters.read_query(RICH.query, MODELS, ("brightness", "cluster")) == RICH
    assert Filter().query == {}
    assert filters.read_query({}, MODELS) == Filter()


def test_old_addresses_are_understood_and_nonsense_is_not():
    old = {"model": ["ResNet18"], "outcome": ["model wrong"], "true": ["frog"], "confidence": ["0.2", "0.8"]}
    assert filters.read_query(old, MODELS) == Filter(model="resnet18", true=("frog",), confidence=(0.2, 0.8))
    nonsense = {name: ["<script>", "-1", "nan"] for name in Filter.__dataclass_fields__ if name != "tags"}
    assert filters.read_query(nonsense, MODELS, ("brightness",)) == Filter()
    assert (
        filters.read_query({"people": ["0.9", "0.1"], "learned": ["9" * 50], "says_vgg": ["cat"], "says_fusion": ["tree"]}, MODELS)
        == Filter()
    )


def test_every_condition_must_hold(predictions):
    chosen = Filter(outcome="only fusion wrong", true=("cat",), predicted=("dog",), confidence=(0.5, 1.0), sort="least confident first")
    rows = chosen_rows(predictions, chosen)
    expected = predictions[
        (predictions["label"] == CAT)
        & (predictions["fusion_predicted"] == DOG)
        & predictions[["resnet18_correct", "mobilenet_v2_correct"]].all(axis=1)
        & (predictions["fusion_confidence"] >= 0.5)
    ]  # fmt: skip
    assert len(rows) > 0 and set(rows["index"]) == set(expected["index"])
    assert rows["fusion_confidence"].is_monotonic_increasing


def test_a_condition_a_model(predictions):
    rows = chosen_rows(predictions, Filter(outcome="everything", says=("resnet18:cat", "mobilenet_v2:dog")))
    assert len(rows) and (rows["resnet18_predicted"] == CAT).all() and (rows["mobilenet_v2_predicted"] == DOG).all()
    rows = chosen_rows(predictions, Filter(outcome="everything", says=("resnet18:correct", "fusion:wrong")))
    assert len(rows) == (predictions["resnet18_correct"] & ~predictions["fusion_correct"]).sum()


def test_conditions_on_seeds_learning_slices_and_tags(predictions):
    n = len(predictions)
    values = {"seeds": np.arange(n) % 3 / 2, "learned": np.arange(n) % 7, "forgotten": np.arange(n) % 5, "brightness": np.arange(n) % 4}

    def some(**choices) -> set[int]:
        return set(chosen_rows(predictions, Filter(outcome="everything", **choices), values.get, {4: {"odd"}, 9: {"odd", "dim"}})["index"])

    def where(kept: np.ndarray) -> set[int]:
        return set(np.flatnonzero(kept))

    assert some(seeds="wrong in every seed") == where(values["seeds"] == 1)
    assert some(seeds="wrong in some seeds only") == where(values["seeds"] == 0.5)
    assert some(learned=(2, 3)) == where((values["learned"] == 2) | (values["learned"] == 3))
    assert some(forgotten=4) == where(values["forgotten"] == 4)
    assert some(slice=("brightness:0",), forgotten=3) == where((values["brightness"] == 0) & (values["forgotten"] >= 3))
    assert some(tags=("odd",)) == {4, 9} and some(tags=("dim", "none")) == {9}
    order = chosen_rows(predictions, Filter(outcome="everything", sort="most often forgotten first"), values.get)["index"].to_numpy()
    assert (np.diff(values["forgotten"][order]) <= 0).all()


def test_every_outcome_and_order_is_what_its_words_say(fake_results, predictions):
    """Counted and ranked from the logits that the run holds."""
    run = results.load_run(fake_results / "imagenet-96-seed0")
    right, probabilities, predictions = {}, {}, predictions.assign(people=np.arange(len(predictions)) % 7 / 7)
    for model in TRIO:
        found = results.load_predictions(run, model, "test")
        probabilities[model] = np.exp(found.logits) / np.exp(found.logits).sum(1, keepdims=True)
        right[model] = found.logits.argmax(1) == found.labels
    alone, both = right["fusion"], right["resnet18"] & right["mobilenet_v2"]
    either, of_label = right["resnet18"] | right["mobilenet_v2"], probabilities["resnet18"][np.arange(len(found.labels)), found.labels]
    expected = {
        "everything": alone | True,
        "model wrong": ~right["resnet18"],
        "model correct": right["resnet18"],
        "any wrong": ~(both & alone),
        "all wrong": ~(either | alone),
        "all correct": both & alone,
        "only fusion wrong": both & ~alone,
        "only baselines wrong": alone & ~either,
    }
    assert expected.keys() == selection.OUTCOMES.keys()
    for outcome, kept in expected.items():
        rows = chosen_rows(predictions, Filter(model="resnet18", outcome=outcome, sort="index"))
        assert rows["index"].tolist() == found.index[kept].tolist(), outcome

    second, first = np.sort(probabilities["resnet18"])[:, -2:].T
    predicted = np.stack([one.argmax(1) for one in probabilities.values()])
    ascending = {
        "most confident first": -first,
        "least confident first": first,
        "highest loss first": np.log(of_label),
        "smallest margin first": first - second,
        "most disagreement first": -(np.sort(predicted, axis=0)[1:] != np.sort(predicted, axis=0)[:-1]).sum(0),  # names beyond the first
        "people least sure first": predictions["people"].to_numpy(),
        "index": found.index,
    }
    assert ascending.keys() == selection.SORTS.keys()
    for sort, values in ascending.items():
        order = chosen_rows(predictions, Filter(model="resnet18", outcome="everything", sort=sort))["index"].to_numpy()
        assert len(order) == len(values) and (np.diff(values[order]) >= -1e-6).all(), sort


def test_near_duplicates_are_marked_and_filtered(fake_results, tmp_path, monkeypatch):
    twins = pd.DataFrame({"index": [2, 5, 5], "train_index": [7, 1, 49_999], "similarity": 0.95, "kind": "near"})
    folder = shutil.copytree(fake_results, tmp_path / "results")
    (folder / "near_duplicates.parquet").unlink(missing_ok=True)
    monkeypatch.setattr(results, "RESULTS", folder)
    assert not data.load_predictions(data.open_run("imagenet-96-seed0"))["duplicated"].any()  # nobody looked for them
    results.write_near_duplicates(folder / "near_duplicates.parquet", twins)
    predictions = data.load_predictions(data.open_run("imagenet-96-seed0"))
    assert set(chosen_rows(predictions, Filter(outcome="everything", duplicates="near-duplicates only"))["index"]) == {2, 5}
    rest = chosen_rows(predictions, Filter(outcome="everything", duplicates="without near-duplicates"))["index"]
    assert len(rest) == len(predictions) - 2 and not rest.isin([2, 5]).any()
    table = filters.tidy_table("run", predictions, Filter(), predictions.index, {})
    assert list(table["test_image"][table["near_duplicate_in_training"]]) == [2, 5]
    (folder / "near_duplicates.parquet").write_bytes(b"no table")
    assert not data.load_predictions(data.open_run("imagenet-96-seed0"))["duplicated"].any()
    assert [line for line in data.check_shared() if "near_duplicates.parquet cannot be read" in line]


def test_chips_name_each_choice_and_removing_them_all_leaves_everything():
    chosen = RICH
    words = [text for *_, text in chosen.name_parts(str, 5)]
    assert {"true class cat", "true class dog", "predicted bird", "Fusion wrong", "doubted labels only", "tag blurred, odd"} <= set(words)
    while parts := chosen.name_parts(str, 5):
        chosen = chosen.without(*parts[0][:2])
    assert chosen == Filter(model="resnet18", outcome="everything", sort="learned last first", beside="fusion")


@pytest.mark.parametrize(
    ("learned", "words"),
    [
        ((2, 2), "learned in epoch 2"),
        ((2, 4), "learned in epoch 2 to 4"),
        ((3, 6), "learned in epoch 3 to 5, or never"),
        ((5, 6), "learned in epoch 5, or never"),
        ((6, 6), "never learned"),
    ],
)
def test_the_epoch_after_the_last_is_called_never(learned, words):
    assert [text for name, _, text in Filter(learned=learned).name_parts(str, 5) if name == "learned"] == [words]


def test_groups_are_together_the_largest_first_with_a_heading_on_every_page(predictions):
    rows = predictions.index[(predictions["label"] == CAT) & ~predictions["fusion_correct"]]
    order, headings = filters.group_by_predicted(predictions, rows, "fusion", 10)
    groups = predictions.loc[order, "fusion_predicted"]
    sizes = groups.groupby((groups != groups.shift()).cumsum()).size().tolist()
    assert set(order) == set(rows) and sizes == sorted(sizes, reverse=True) and len(sizes) == groups.nunique()
    assert headings[int(predictions["index"][order[0]])] == f"called dog: {sizes[0]}"
    assert all(int(predictions["index"][order[i]]) in headings for i in range(0, len(order), 10))


def menu(app, label: str) -> list[str]:
    return next(box.options for box in (*app.selectbox, *app.multiselect) if box.label == label)


def test_menus_count_what_each_choice_would_show(visit, predictions):
    app = visit("errors", true="cat")
    wrong = predictions[~predictions["fusion_correct"]]
    assert f"dog {(wrong['label'] == DOG).sum():,}" in menu(app, "True class")  # whatever class is chosen
    assert f"dog {((wrong['label'] == CAT) & (wrong['fusion_predicted'] == DOG)).sum():,}" in menu(app, "Predicted class")
    assert f"everything {(predictions['label'] == CAT).sum():,}" in menu(app, "Outcome")
    counts = [int(option.rsplit(" ", 1)[1].replace(",", "")) for option in menu(app, "Fusion says")]
    assert counts[0] == (wrong["label"] == CAT).sum() == sum(counts[3:])
    assert component(app, "filter_chips")["parts"] == [["outcome", "model wrong", "Fusion wrong"], ["true", "cat", "true class cat"]]


def test_every_menu_knows_what_the_counts_of_an_earlier_answer_meant(visit):
    app = visit("errors")
    late = menu(app, "Outcome")[0]
    app.multiselect(key="predicted").set_value(["dog"]).run()
    labels = app.session_state["address_memory"].labels
    assert late not in menu(app, "Outcome") and labels["outcome"][late] == "everything"
    for box in (*app.selectbox, *app.multiselect):
        assert set(box.options) <= set(labels.get(box.key, box.options)), box.label
    counted = {box.key for box in (*app.selectbox, *app.multiselect) if any(re.search(r" [\d,]+$", option) for option in box.options)}
    assert {"outcome", "true", "predicted", "seeds", "says_fusion"} <= counted <= set(labels)


def test_the_matrix_counts_what_is_filtered(visit, predictions):
    app = visit("errors", says_mobilenet_v2="dog", true="cat", predicted="dog")
    matrix = component(app, "small_matrix")
    kept = predictions[predictions["mobilenet_v2_predicted"] == DOG]
    wrong = kept[~kept["fusion_correct"]]
    expected = pd.crosstab(wrong["label"], wrong["fusion_predicted"]).reindex(range(10), columns=range(10), fill_value=0)
    assert matrix["counts"] == expected.to_numpy().tolist()
    cats = kept[kept["label"] == CAT]
    assert matrix["recall"][CAT] == pytest.approx(cats["fusion_correct"].mean(), abs=1e-4)
    assert matrix["chosen"] == [["cat", "dog"]]


def test_two_models_side_by_side_each_with_its_own_images(visit, predictions):
    app = visit("errors", beside="resnet18", true="cat", per_page="200")
    shown = [one.proto for one in app.get("bidi_component") if one.proto.component_name == "image_gallery"]
    assert len(shown) == 2
    for model, one in zip(("fusion", "resnet18"), shown, strict=True):
        wrong = predictions[(predictions["label"] == CAT) & ~predictions[f"{model}_correct"]]
        assert f'"total": {len(wrong)}' in one.json or f'"total":{len(wrong)}' in one.json


def test_seeds_are_offered_where_a_run_has_siblings(visit, fake_results):
    app = visit("errors", seeds="wrong in every seed", per_page="200")
    wrong = [~data.load_predictions(data.open_run(f"imagenet-96-seed{seed}"))["fusion_correct"] for seed in (0, 1)]
    assert component(app, "image_gallery")["total"] == int((wrong[0] & wrong[1]).sum())
    assert "wrong in most seeds first" in menu(app, "Order")


@pytest.mark.parametrize(
    ("name", "value"), [("seeds", "wrong in every seed"), ("sort", "wrong in most seeds first"), ("outcome", "only fusion wrong")]
)
def test_what_a_link_asks_and_a_run_cannot_tell_is_said(own_results, name, value):
    """A run of one seed, or without the fusion, opened from a link to another."""
    shutil.rmtree(own_results / "imagenet-96-seed1")
    run = data.open_run("imagenet-96-seed0")
    if name == "outcome":
        results.write_run(run.path / "run.json", run.record | {"models": {"resnet18": {}, "mobilenet_v2": {}}})
    app = open_page("errors", model="resnet18", **{name: value})
    assert any(f"“{value}” cannot be told of ResNet18 in this run" in info.value for info in app.info)
    assert component(app, "image_gallery")["total"] == (~data.load_predictions(run)["resnet18_correct"]).sum()


@pytest.mark.parametrize("asked", [("forgotten", "99"), ("learned", "3"), ("tags", "blurred")])
def test_what_a_menu_cannot_hold_filters_neither_at_once_nor_later(visit, asked):
    app = visit("errors", **dict([asked]))

    def total() -> str:
        return next(block.value for block in app.markdown if "test images (" in block.value)

    first = total()
    app.run()
    assert total() == first and first.startswith("**0** of") == (asked[0] == "tags")


@pytest.mark.parametrize(("size", "page", "pages", "more"), [(50, 8, 11, {}), (200, 2, 3, {}), (50, 3, 11, {"grouped": "true"})])
def test_a_link_to_a_page_counts_pages_of_its_size(visit, predictions, size, page, pages, more):
    wrong = int((~predictions["fusion_correct"]).sum())
    assert -(-wrong // size) == pages  # of the made-up run
    app = visit("errors", per_page=str(size), page=str(page), **more)
    assert app.number_input(key="page").value == page and app.number_input(key="page").label == f"Page of {pages}"
    gallery = component(app, "image_gallery")
    assert gallery["first"] == (page - 1) * size and len(gallery["items"]) == min(size, wrong - gallery["first"])
    assert bool(gallery["items"][0]["heading"]) == bool(more)


def test_other_images_begin_with_the_first_page_in_every_gallery(visit):
    app = visit("errors", per_page="50", page="3", page_beside="2", beside="resnet18")
    assert [app.number_input(key=key).value for key in ("page", "page_beside")] == [3, 2]
    app.multiselect(key="true").set_value(["cat", "dog"]).run()
    assert [app.number_input(key=key).value for key in ("page", "page_beside")] == [1, 1]
    app = visit("rescued", per_page="50", page="2")
    assert app.number_input(key="page").value == 2
    app.selectbox(key="flow").set_value("broken").run()
    assert app.number_input(key="page").value == 1


def test_the_page_of_other_images_is_not_undone_by_a_click_before_its_answer(visit):
    app = visit("errors", per_page="50", page="3")
    before = dict(app.query_params)
    app.multiselect(key="true").set_value(["cat", "dog"]).run()
    after = dict(app.query_params)
    app.query_params.clear()
    app.query_params.update(before)
    app.number_input(key="page").set_value(3)  # the next click reached the server with the page as it was
    assert app.run().number_input(key="page").value == 1
    assert dict(app.query_params) == after
    assert app.number_input(key="page").set_value(3).run().number_input(key="page").value == 3


def test_a_closed_image_stays_closed_after_a_page_that_has_a_menu_of_its_name(visit):
    app = visit("confusion", image="17")
    assert component(app, "lightbox")["open"] == 17
    app.run()
    app.query_params.clear()
    app.switch_page("views/robustness.py").run()
    app.switch_page("views/confusion.py").run()
    opened = [component(app.run(), "lightbox")["open"] for _ in range(3)]
    assert opened == [None] * 3 and not app.exception


def test_an_image_asked_of_a_larger_run_is_not_looked_for(visit):
    app = visit("errors", image="3")
    app.session_state["lightbox_asked"] = {"number": 0, "ahead": [10_000, 5], "look": False}
    app.run()
    assert not app.exception
    assert [one["index"] for one in component(app, "lightbox")["details"]] == [3, 5]


def test_the_slide_of_a_selection_names_all_that_is_filtered(visit):
    app = visit("errors", confidence=["0.5", "1"], true="cat", people=["0", "1"], agreement="models disagree")
    shared = component(app, "share")
    assert shared["title"] == "Fusion wrong, true class cat, models disagree, confidence 0.5 to 1"
    total = component(app, "image_gallery")["total"]
    assert shared["caption"] == f"{total} test images." + " The first 21 are shown." * (total > 21)


def test_without_the_epochs_file_learning_is_said_to_be_unknown(own_results):
    for path in own_results.glob("*/*/epoch_correct.csv"):
        path.unlink()
    app = open_page("errors")
    assert any("kept no correctness of each epoch" in block.value for block in app.caption)
    assert "learned last first" not in menu(app, "Order")


def test_all_epochs_of_a_run_are_all_of_the_next_one_too(own_results):
    """What nobody chose is no choice in a run with more epochs."""
    other = data.open_run("imagenet-96-seed1")
    epochs, short = other.recipe.epochs - 2, other.record["recipe"] | {"finetune_epochs": other.recipe.finetune_epochs - 2}
    results.write_run(other.path / "run.json", other.record | {"recipe": short})
    for path in (*other.path.glob("*/epoch_*.csv"), *other.path.glob("*/history.csv")):
        table = pd.read_csv(path, dtype=str)
        table[table["epoch"].astype(int) <= epochs].to_csv(path, index=False)
    app = open_page("errors", run=other.name)
    assert next(one for one in app.slider if one.key == "learned").value == (1, epochs + 1)
    app.selectbox(key="run").set_value("imagenet-96-seed0").run()
    assert not app.exception and "learned" not in app.query_params
    assert component(app, "image_gallery")["total"] == (~data.load_predictions(data.open_run("imagenet-96-seed0"))["fusion_correct"]).sum()
    app = open_page("training", run=other.name)
    assert next(one for one in app.select_slider if one.key == "epoch").value == epochs
    app.selectbox(key="run").set_value("imagenet-96-seed0").run()
    slider = next(one for one in app.select_slider if one.key == "epoch")
    assert slider.value == data.open_run("imagenet-96-seed0").recipe.epochs and "epoch" not in app.query_params


def test_without_human_votes_no_order_rests_on_them(own_results):
    assert not (own_results / "human_votes.parquet").exists()
    app = open_page("errors", sort="people least sure first", people=["0.5", "1"])
    assert "people least sure first" not in menu(app, "Order")
    assert any("“people least sure first” cannot be told" in info.value for info in app.info)
    assert component(app, "image_gallery")["total"] == (~data.load_predictions(data.open_run("imagenet-96-seed0"))["fusion_correct"]).sum()


@pytest.mark.parametrize(
    ("asked", "file"),
    [
        ({"forgotten": "1"}, "epoch_correct.csv"),
        ({"learned": ["2", "3"]}, "epoch_correct.csv"),
    ],
    ids=["forgotten", "learned"],
)
def test_what_is_not_known_of_a_model_is_said_and_filters_nothing(own_results, asked, file):
    """Also on a switch to that model, and beside one of which it is known."""
    (own_results / "imagenet-96-seed0" / "resnet18" / file).unlink()
    wrong = ~data.load_predictions(data.open_run("imagenet-96-seed0"))["resnet18_correct"]
    app = open_page("errors", **asked)
    assert not any(file in info.value for info in app.info)
    app.segmented_control(key="model").set_value("resnet18").run()
    assert not app.exception and any(file in info.value for info in app.info)
    assert component(app, "image_gallery")["total"] == wrong.sum()
    app = open_page("errors", beside="resnet18", **asked)
    assert any(file in info.value for info in app.info) and component(app, "small_matrix")["caption"].startswith("Fusion")


def test_without_the_subjects_features_clusters_are_said_to_be_unknown(own_results):
    (own_results / "imagenet-96-seed0" / "fusion" / "features.parquet").unlink()
    app = open_page("errors", show="weak slices")
    assert any("fusion/features.parquet" in block.value for block in app.caption)
    app = open_page("errors", slice="cluster:0")
    assert any("fusion/features.parquet" in info.value for info in app.info)


def test_a_cluster_holds_the_same_images_whichever_model_is_looked_at(visit):
    app = visit("errors", slice="cluster:1", outcome="everything")
    held = traits.cluster_images(data.open_run("imagenet-96-seed0")) == 1
    for model in ("fusion", "resnet18", "ensemble"):
        app.segmented_control(key="model").set_value(model).run()
        gallery = component(app, "image_gallery")
        assert gallery["total"] == held.sum() and held[[item["index"] for item in gallery["items"]]].all()
    chips = [text for *_, text in component(app, "filter_chips")["parts"]]
    assert any(re.fullmatch(r"features 1 \(mostly \w+( and \w+)?\)", text) for text in chips), chips


def test_the_csv_has_names_and_tidy_columns_of_the_chosen_model(predictions):
    chosen = Filter(model="mobilenet_v2", true=("bird",))
    rows = chosen_rows(predictions, chosen)
    first = int(rows["index"].iloc[0])
    table = filters.tidy_table("imagenet-96-seed0", predictions, chosen, rows.index, {first: {"tags": ["odd", "dim"], "note": "two"}})
    table = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert table["test_image"].tolist() == rows["index"].tolist()
    assert set(table["true_class"]) == {"bird"} and set(table["model"]) == {"MobileNetV2"} and not table["correct"].any()
    assert table["predicted_class"].tolist() == [CLASSES[i] for i in rows["mobilenet_v2_predicted"]]
    assert (table["your_tags"][0], table["your_note"][0]) == ("odd; dim", "two")
    assert not [name for name in table if "resnet18" in name or "fusion" in name]
    assert chosen.file_name == "mobilenet_v2_model-wrong_true-bird"
    assert Filter(tags=("../../etc/x y",)).file_name == "fusion_model-wrong_tags-..-..-etc-x-y"


def test_a_weak_slice_shows_exactly_the_errors_it_counts(visit, predictions):
    run = data.open_run("imagenet-96-seed0")
    found = weak_slices.search_slices(run, "fusion", ("class", "brightness", "cluster"))
    for row in found.head(3).itertuples():
        chosen = weak_slices.filter_slice("fusion", row.slice)
        assert component(visit("errors", **chosen.query), "image_gallery")["total"] == row.errors, row.slice
    app = visit("errors", show="weak slices")
    assert len(app.dataframe) == len(predictions.filter(like="_correct").columns) and "at least" in app.dataframe[0].value
    assert any("hold for all slices of a model together" in block.value for block in app.caption)


def test_slices_are_of_the_test_images_that_the_run_holds(own_results):
    run = data.open_run("imagenet-96-seed0")
    assert {name: len(traits.load_trait(run, "fusion", name)) for name in traits.NAMES} == dict.fromkeys(traits.NAMES, 200)
    darkest = traits.load_trait(run, "fusion", "brightness") == 0
    app = open_page("errors", slice="brightness:0", outcome="everything")
    assert component(app, "image_gallery")["total"] == darkest.sum() > 0


def test_a_run_with_features_searches_by_clusters_after_one_without(own_results):
    (own_results / "imagenet-96-seed1" / "fusion" / "features.parquet").unlink()
    app = open_page("errors", show="weak slices", run="imagenet-96-seed1")
    assert "cluster" not in app.session_state["search_by"]
    app.selectbox(key="run").set_value("imagenet-96-seed0").run()
    assert "cluster" in app.session_state["search_by"] and "search_by" not in app.query_params


def test_slices_say_where_the_features_are_missing(own_results):
    for path in own_results.glob("*/*/features.parquet"):
        path.unlink()
    app = open_page("errors", show="weak slices", image="3")
    assert any("features.parquet" in block.value for block in app.caption)
    assert "keeps no features" in component(app, "lightbox")["details"][0]["nearest"]["title"]


def test_nearest_images_are_nearest_in_the_features(visit, fake_results):
    shown = component(visit("errors", image="3"), "lightbox")["details"][0]["nearest"]
    features = results.load_features(results.load_run(fake_results / "imagenet-96-seed0"), "fusion")
    distance = np.linalg.norm(features - features[3], axis=1)
    assert {one["index"] for one in shown["images"]} == set(np.argsort(distance)[1:7]) and "features" in shown["title"]


def test_curves_of_a_class_agree_with_the_definition(visit, predictions):
    app = visit("errors", show="curves of a class", curve_of="cat")
    areas = app.dataframe[1].value.set_index("class")
    scores = metrics.softmax(data.load_logits(data.open_run("imagenet-96-seed0"), "fusion"))[:, CAT]
    cats, rest = scores[predictions["label"] == CAT], scores[predictions["label"] != CAT]
    auc = (np.searchsorted(np.sort(rest), cats, "left") + np.searchsorted(np.sort(rest), cats, "right")).mean() / 2 / len(rest)
    assert areas.loc["cat", "fusion"] == pytest.approx(auc, abs=1e-4)
    assert len(app.get("plotly_chart")) == 2


def test_a_threshold_counts_and_shows_what_it_leaves_out(visit, predictions):
    app = visit("errors", show="confidence threshold", threshold="0.6")
    kept = predictions["fusion_confidence"] >= 0.6
    row = app.dataframe[0].value.set_index("model").loc["Fusion"]
    assert row["coverage"] == pytest.approx(kept.mean()) and row["dropped"] == (~kept).sum()
    assert row["accuracy_of_covered"] == pytest.approx(predictions["fusion_correct"][kept].mean())
    next(button for button in app.button if "Fusion leaves out" in button.label).click().run()
    assert component(app, "image_gallery")["total"] == (~kept).sum()


def test_a_thinned_curve_keeps_its_ends_and_its_shape():
    x = np.linspace(0, 1, 5000)
    thin_x, thin_y = thresholds.thin(x, x**8)
    assert len(thin_x) <= thresholds.POINTS and (thin_x[0], thin_x[-1]) == (0, 1)
    assert np.abs(np.interp(x, thin_x, thin_y) - x**8).max() < 0.005
    table = thresholds.trace_threshold(np.array([0.2, 0.6, 0.9, 0.95]), np.array([False, True, False, True])).set_index("threshold")
    assert table.loc[0.5].tolist() == [0.75, 2 / 3] and table.loc[0.0].tolist() == [1, 0.5]


def test_a_glance_never_waits_and_hands_on_what_went_wrong():
    queue, lane, go = inference.Queue(), ThreadPoolExecutor(1), threading.Event()

    def work(tell) -> int:
        go.wait(10)
        tell(0.5)
        return 7

    with pytest.raises(inference.NotYet):
        queue.glance("slow", work, lane)
    go.set()
    while "slow" not in queue.answers:
        time.sleep(0.01)
    assert not queue.jobs  # also where nobody comes again
    assert poll(lambda: queue.glance("slow", work, lane)) == 7

    def fail(tell) -> int:
        raise UserError("no weights")

    with pytest.raises(UserError, match="no weights"):
        poll(lambda: queue.glance("bad", fail, lane))
    assert not queue.jobs
    with pytest.raises(inference.NotYet):
        queue.glance("later", fail, lane)
    with pytest.raises(UserError, match="no weights"):
        queue.ask("later", work, lane, None)  # waits for what the glance began
    assert queue.ask("later", work, lane, None) == 7  # and the next one begins anew
    lane.shutdown()


def poll(ask):
    for _ in range(500):
        try:
            return ask()
        except inference.NotYet:
            time.sleep(0.01)
    raise AssertionError("never done")
