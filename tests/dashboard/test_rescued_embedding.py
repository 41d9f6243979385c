"""Fixed and broken, Embedding: transitions by hand, figures that say what the data say, pages that show exactly the chosen images."""

import base64
import json
import zlib
from itertools import combinations
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest

from core import metrics, results, summaries
from core.config import BASELINES, CLASSES, UserError
from dashboard import data, figures, filters, selection, theme
from tests.dashboard.conftest import component
from tests.dashboard.test_figures import contrast
from tests.fake_run import make_run

RUN = "imagenet-96-seed0"


def gallery(app) -> list[int]:
    """Indices of the thumbnails on the page, in order."""
    return [item["index"] for item in component(app, "image_gallery")["items"]]


def said(app) -> str:
    return "\n".join(block.value for block in app.markdown)


# --- arithmetic ------------------------------------------------------------------------------------------------------


def test_transitions_are_the_gain_over_the_mean_of_the_models_before():
    first, second, after = np.array([[1, 1, 0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0, 1, 1], [1, 0, 1, 0, 1, 0, 1, 0]], bool)
    assert metrics.transitions(after, first, second).tolist() == [0, -1, 1, 0, 0.5, -0.5, 0.5, -0.5]
    assert metrics.transitions(after, first).tolist() == [0, -1, 1, 0, 0, -1, 1, 0]


def test_class_transitions_count_by_hand():
    labels = np.array([0, 0, 0, 2, 2, 2, 2])
    table = metrics.class_transitions(labels, np.array([1, -0.5, 0, 1, 1, 0.5, 0]), classes=3)
    assert {name: table[name].tolist() for name in ("n", "rescued", "broken", "net")} == {
        **{"n": [3, 0, 4], "rescued": [1, 0, 3]},
        **{"broken": [1, 0, 0], "net": [0.5, 0, 2.5]},
    }
    assert (table["low"][1], table["high"][1]) == (0, 0)
    assert (table["low"] <= table["net"]).all() and (table["net"] <= table["high"]).all()


def test_net_gains_agree_with_accuracies_and_their_intervals_with_the_normal_approximation():
    generator = np.random.default_rng(0)
    labels, before, after = generator.integers(0, 10, 8000), generator.random(8000) < 0.9, generator.random(8000) < 0.92
    table = metrics.class_transitions(labels, metrics.transitions(after, before))
    assert table["net"].sum() == after.sum() - before.sum()
    share = (table["rescued"] + table["broken"]) / table["n"] - (table["net"] / table["n"]) ** 2
    np.testing.assert_allclose(table["high"] - table["low"], 2 * 1.96 * np.sqrt(table["n"] * share), rtol=0.08)


@pytest.mark.parametrize("before", [["resnet18"], ["resnet18", "mobilenet_v2"], ["ensemble"]])
def test_every_flow_holds_the_images_its_name_says(fake_results, before):
    predictions = data.load_transitions(data.open_run(RUN), before)
    assert set(predictions["flow"]) == set(selection.name_flows(before))
    for flow, rows in predictions.groupby("flow"):
        state, end = flow.split(", fusion ")
        assert (rows["fusion_correct"] == (end == "correct")).all()
        for model in before:
            correct = {"both correct": True, "both wrong": False}.get(state, state in (f"{model} correct", f"only {model} correct"))
            assert (rows[f"{model}_correct"] == correct).all(), flow


def test_chosen_images_survive_the_url_and_nonsense_is_refused():
    for indices in ([], [0], [3, 9999], list(range(0, 10_000, 7))):
        assert selection.unpack_images(selection.pack_images(indices, 10_000), 10_000).tolist() == indices
    bomb = base64.urlsafe_b64encode(zlib.compress(bytes(10**7))).decode()
    for text in ("", "x", "é", "<script>", "AAAA", selection.pack_images([1], 200), bomb):
        with pytest.raises(UserError, match="choose one anew"):
            selection.unpack_images(text, 10_000)


# --- figures ---------------------------------------------------------------------------------------------------------


def test_tiles_name_count_and_report_their_flow():
    counts, flows = np.array([[80, 3], [6, 2], [5, 1], [1, 2]]), selection.name_flows(list(BASELINES))
    states = ["both correct", "only ResNet18 correct", "only MobileNetV2 correct", "both wrong"]
    correct, wrong = figures.transition_figure(counts, states, flows, {"both wrong, fusion correct"}, ("baselines", "Fusion"), "?").data
    words = [text.split("<br>")[1] for bar in (correct, wrong) for text in bar.text]
    assert words == ["stay correct", *["fixed"] * 3, *["broken"] * 3, "stay wrong"]
    assert [text.split("</b>")[0] for text in correct.text] == ["<b>80", "<b>6", "<b>5", "<b>1"]
    assert correct.text[1].endswith("<br>75.0 %") and wrong.hovertext[3] == "both wrong, Fusion wrong: 2 images, 2.00% of all"
    assert [name for pair in zip(correct.customdata, wrong.customdata, strict=True) for (name,) in pair] == flows
    assert (list(correct.marker.line.width), list(wrong.marker.line.width)) == ([0, 0, 0, 3], [0, 0, 0, 0])


def test_classes_are_sorted_by_net_and_bars_report_class_and_kind():
    table = pd.DataFrame({"class": ["cat", "dog"], "rescued": [4, 9], "broken": [5, 1], "net": [-1, 8], "low": [-7, 3], "high": [5, 13]})
    rescued, broken, net = figures.class_transitions_figure(table.iloc[::-1], {("dog", "rescued")}, "?").data
    assert list(rescued.y) == ["cat", "dog"]  # plotly draws upwards: the largest is on top
    assert (list(rescued.x), list(broken.x), list(net.x)) == ([4, 9], [-5, -1], [-1, 8])
    assert [list(entry) for entry in broken.customdata] == [["cat", "broken"], ["dog", "broken"]]
    np.testing.assert_array_equal([net.error_x.array, net.error_x.arrayminus], [[6, 5], [6, 5]])
    assert (list(rescued.marker.line.width), list(broken.marker.line.width)) == ([1, 3], [1, 1])


@pytest.fixture
def points() -> pd.DataFrame:
    """Six images on a map: two classes, one wrong answer each."""
    columns = {"index": range(6), "x": [0, 1, 2, 10, 11, 12], "y": 0.0, "label": [3, 3, 3, 5, 5, 5], "predicted": [3, 3, 5, 5, 5, 0]}
    frame = pd.DataFrame(columns).assign(confidence=0.5)
    return frame.assign(correct=frame["label"] == frame["predicted"])


def traces(figure) -> dict[tuple[str, str], list[int]]:
    return {(trace.name, trace.marker.symbol): list(trace.customdata) for trace in figure.data if trace.customdata is not None}


def test_the_map_colours_by_class_and_marks_wrong_answers_by_shape(points):
    figure = figures.embedding_figure(points, "?", "true class", [], None)
    assert traces(figure) == {("cat", "circle"): [0, 1], ("dog", "circle"): [3, 4], ("cat", "x"): [2], ("dog", "x"): [5]}
    assert {trace.name: trace.marker.color for trace in figure.data} == {"cat": theme.CLASS_COLORS[3], "dog": theme.CLASS_COLORS[5]}
    assert {note.text: note.x for note in figure.layout.annotations} == {"<b>cat</b>": 1, "<b>dog</b>": 11}
    assert figure.data[-1].text[0] == "dog → airplane 0.50"


def test_the_map_colours_by_prediction_or_correctness(points):
    figure = figures.embedding_figure(points, "?", "predicted class", [], None)
    assert traces(figure) == {("cat", "circle"): [0, 1], ("dog", "circle"): [3, 4], ("airplane", "x"): [5], ("dog", "x"): [2]}
    assert {trace.name for trace in figure.data if trace.showlegend is not False} == {"cat", "dog", "airplane"}
    figure = figures.embedding_figure(points, "?", "correct or wrong", [], None)
    assert traces(figure) == {("correct", "circle"): [0, 1, 3, 4], ("wrong", "x"): [2, 5]}


def test_the_map_brightens_the_chosen_and_rings_the_image(points):
    figure = figures.embedding_figure(points, "?", "true class", np.array([1, 5]), 4)
    bright = [int(trace.customdata[i]) for trace in figure.data[:-1] for i in trace.selectedpoints]
    assert sorted(bright) == [1, 5]
    ring = figure.data[-1]
    assert (ring.marker.symbol, list(ring.x)) == ("circle-open", [11])
    assert all(trace.selectedpoints is None for trace in figures.embedding_figure(points, "?", "true class", [], None).data)


def test_class_colours_stand_out_on_both_themes_and_differ():
    assert len(theme.CLASS_COLORS) == len(CLASSES)
    for color in theme.CLASS_COLORS:
        assert min(contrast(color, theme.LIGHT.background), contrast(color, theme.DARK.background)) >= 3
    channels = [np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) for color in theme.CLASS_COLORS]
    assert min(np.abs(a - b).max() for a, b in combinations(channels, 2)) >= 48


# --- pages -----------------------------------------------------------------------------------------------------------


def test_a_flow_shows_exactly_its_images(visit, fake_results):
    flow = "only mobilenet_v2 correct, fusion wrong"
    app = visit("rescued", flow=flow.replace("correct", "right"), per_page="200")  # as addresses of earlier versions have it
    predictions = summaries.per_image(results.load_run(fake_results / RUN))
    expected = predictions[~predictions["resnet18_correct"] & predictions["mobilenet_v2_correct"] & ~predictions["fusion_correct"]]
    assert 0 < len(expected) <= 200
    assert gallery(app) == expected.sort_values("fusion_confidence", ascending=False, kind="stable")["index"].tolist()
    assert f"**only MobileNetV2 correct, Fusion wrong**: **{len(expected):,}** of 10,000" in said(app)


def test_a_reference_a_class_and_a_kind_combine(visit, fake_results):
    app = visit("rescued", reference="ensemble", flow="rescued", true=["cat"], per_page="200")
    predictions = summaries.per_image(results.load_run(fake_results / RUN))
    expected = predictions[~predictions["ensemble_correct"] & predictions["fusion_correct"]]
    net = int(predictions["fusion_correct"].sum() - predictions["ensemble_correct"].sum())
    assert set(gallery(app)) == set(expected["index"][expected["label"] == CLASSES.index("cat")])
    assert f"**fixed {len(expected):,}** images that Ensemble got wrong" in said(app)
    assert "Fixed by Fusion: Ensemble wrong, true class cat" in [
        json.loads(one.proto.json).get("title") for one in app.get("bidi_component")
    ]
    assert f"**{net:+,}** on balance" in said(app)


def test_a_lonely_model_says_what_is_missing_and_two_are_compared(tmp_path, monkeypatch, visit):
    make_run(tmp_path, "one", n_test=60, models=("resnet18",))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert "train the rest with `scripts/train.py --resume`" in visit("rescued").info[0].value
    make_run(tmp_path, "half", n_test=60, models=BASELINES)
    assert said(visit("rescued", run="half")).startswith("Ensemble **fixed")


def test_two_runs_are_compared_image_by_image(visit, fake_results):
    """Seed 0's fusion against seed 1's ResNet18: which images, whose predictions, in the CSV too; the link alone says all of it."""
    other = "imagenet-96-seed1/resnet18"
    app = visit("rescued", reference=other, flow="broken", model=other, per_page="200")
    here, there = (summaries.per_image(results.load_run(fake_results / name)) for name in (RUN, "imagenet-96-seed1"))
    broken = here[there["resnet18_correct"] & ~here["fusion_correct"]]
    rescued = int((~there["resnet18_correct"] & here["fusion_correct"]).sum())
    assert (
        f"Fusion of {RUN} **fixed {rescued:,}** images that ResNet18 of imagenet-96-seed1 got wrong and **broke {len(broken):,}**"
        in said(app)
    )
    order = there.loc[broken.index].sort_values("resnet18_confidence", ascending=False, kind="stable")
    assert gallery(app) == order["index"].tolist()[:200]
    first = component(app, "image_gallery")["items"][0]
    assert first["caption"][1] == f"→ {CLASSES[order['resnet18_predicted'].iloc[0]]}" and order["resnet18_correct"].all()
    app = visit("rescued", after="mobilenet_v2", reference="imagenet-96-seed1/mobilenet_v2")
    fixed = ~there["mobilenet_v2_correct"] & here["mobilenet_v2_correct"]
    assert f"MobileNetV2 of {RUN} **fixed {fixed.sum():,}** images that MobileNetV2 of imagenet-96-seed1 got wrong" in said(app)


@pytest.mark.parametrize(
    ("view", "chosen"),
    [
        ("confusion", {"model": "ensemble", "true": "cat", "predicted": "cat"}),
        ("rescued", {"after": "ensemble", "reference": "resnet18", "flow": "rescued", "true": "cat"}),
    ],
)
def test_an_open_image_shows_the_model_of_its_page_and_stands_among_its_images(visit, view, chosen):
    gallery = component(visit(view, **chosen), "image_gallery")
    image = gallery["items"][0]["index"]
    detail = component(visit(view, **chosen, image=str(image)), "lightbox")["details"][0]
    assert "Ensemble" in [model["label"] for model in detail["models"]]
    query = parse_qs(urlsplit(detail["why"]).query)
    assert query["outcome"] == ["everything"] and query["model"] == ["ensemble"] and query["true"] == ["cat"]
    way = {name: values for name, values in query.items() if name in filters.KEYS}
    assert image in [item["index"] for item in component(visit("errors", **way, per_page="200"), "image_gallery")["items"]]


def test_a_selection_around_the_ringed_image_holds_its_marks_alone(visit):
    """The ring is a trace of its own, without an image."""
    app = visit("embedding", image="17")
    ring = json.loads(app.get("plotly_chart")[0].proto.spec)["data"][-1]
    assert ring["marker"]["symbol"] == "circle-open" and "customdata" not in ring
    assert selection.drawn_images([{"customdata": 17}, {"customdata": 18}, {"x": 0.0, "y": 0.0}]) == [17, 18]


def test_a_run_that_cannot_be_compared_is_named(visit, tmp_path, monkeypatch):
    for name, n in (("a", 60), ("b", 60), ("few", 30)):
        make_run(tmp_path, name, n_test=n)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert not any("few" in option for option in visit("rescued", run="a").selectbox(key="reference").options)
    (tmp_path / "b" / "fusion" / "predictions.parquet").write_bytes(b"damaged")
    app = visit("rescued", run="a", reference="b/resnet18")
    assert "b/fusion/predictions.parquet cannot be read" in app.error[0].value and app.selectbox(key="reference").value == "b/resnet18"


def test_tags_are_known_where_images_are_listed(visit):
    """The browser tells of them only where a page asks."""
    assert component(visit("rescued"), "tag_store")["known"] == {}


def test_the_same_images_open_on_the_errors_page(visit):
    app = visit("rescued", reference="resnet18", flow="broken", true=["cat", "dog"])
    link = next(one for one in app.get("page_link") if one.proto.label == "The same images, with every filter")
    query = parse_qs(link.proto.query_string)
    assert {name: query[name] for name in ("says_fusion", "says_resnet18", "true", "outcome")} == {
        **{"says_fusion": ["wrong"], "says_resnet18": ["correct"]},
        **{"true": ["cat", "dog"], "outcome": ["everything"]},
    }
    shown = next(text for text in said(app).splitlines() if "true class cat, dog" in text).split("**")[3]
    errors = visit("errors", **{name: query[name] for name in ("says_fusion", "says_resnet18", "true", "outcome")})
    assert f"**{shown}** of 10,000 test images" in said(errors)


@pytest.mark.parametrize("parameters", [{"flow": "x"}, {"flow": "ensemble correct, fusion wrong"}, {"reference": "<b>"}, {"true": "vgg"}])
def test_rescued_falls_back_on_nonsense(visit, parameters):
    app = visit("rescued", **parameters)
    assert not app.error
    assert app.selectbox(key="flow").value == "rescued"


def test_chosen_images_are_shown_by_loss_on_any_models_map(visit, fake_results):
    indices = list(range(0, 10_000, 30))
    predictions = summaries.per_image(results.load_run(fake_results / RUN)).iloc[indices]
    for model in ("fusion", "resnet18"):
        app = visit("embedding", model=theme.label(model), chosen=selection.pack_images(indices, 10_000))
        assert gallery(app) == predictions.sort_values(f"{model}_loss", ascending=False, kind="stable")["index"].tolist()[:200]
        assert f"**{len(indices)}** images chosen (3.34%), {int((~predictions[f'{model}_correct']).sum())} wrong" in said(app)


def test_clearing_leaves_no_image_chosen(visit):
    app = visit("embedding", chosen=selection.pack_images([1, 2], 10_000))
    next(button for button in app.button if button.label == "Clear").click().run()
    assert "chosen" not in app.query_params
    assert "Draw around marks" in app.info[0].value


def test_the_map_holds_every_image_and_rings_the_one_of_the_link(visit, fake_results):
    app = visit("embedding", image="7", mouse="click", colour="right or wrong")  # as well
    spec = json.loads(app.get("plotly_chart")[0].proto.spec)
    xy = results.load_embedding(results.load_run(fake_results / RUN), "fusion")
    assert [trace["name"] for trace in spec["data"][:-1]] == ["correct", "wrong"]
    assert sum(len(trace["text"]) for trace in spec["data"][:-1]) == 10_000
    assert spec["data"][-1]["x"] == [pytest.approx(xy["x"][7])]
    assert spec["layout"]["dragmode"] == "pan"


@pytest.mark.parametrize(
    "parameters", [{"chosen": "nonsense"}, {"model": "ensemble"}, {"model": ""}, {"image": "99999"}, {"colour": "x"}, {"mouse": ""}]
)
def test_embedding_falls_back_on_nonsense(visit, parameters):
    app = visit("embedding", **parameters)
    assert not app.error
    assert [warning.value for warning in app.main.warning if "choose one anew" in warning.value] == (
        ["The address names no selection of images that this run knows: choose one anew."] if "chosen" in parameters else []
    )
    spec = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert (spec["layout"]["title"]["text"], spec["layout"]["dragmode"]) == ("Which images are alike to Fusion?", "lasso")
