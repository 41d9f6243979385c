"""The presentation and the report say what the findings say, for any run, and the report needs nothing but itself."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from core import combine, metrics, results, summaries
from core.config import BASELINES, CLASSES, ROOT, label
from core.findings import OPEN, UNTESTED, Headline, find_findings, write_headline
from dashboard import deck, figures, report
from dashboard.theme import LIGHT
from tests.dashboard.conftest import component, open_page
from tests.fake_run import make_run


@pytest.fixture(scope="module")
def run(made_results):
    return results.load_run(made_results / "imagenet-96-seed0")


@pytest.fixture(scope="module")
def findings(run):
    return find_findings(run, [results.load_run(run.path.with_name("imagenet-96-seed1"))])


@pytest.fixture(scope="module")
def page(run, findings) -> str:
    return report.build_report(run, results.load_test_images(run.path.parent), write_headline(run, findings), findings)


class Reader(HTMLParser):
    """Collects what a test asks of the report."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.addresses, self.texts, self.ids, self.alts = [], [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.addresses += [attributes[name] for name in ("src", "href", "action", "data") if name in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.alts += [attributes.get("alt")] if tag == "img" else []

    def handle_data(self, text):
        if self.tags and self.tags[-1] not in ("script", "style"):
            self.texts.append(text)


@pytest.fixture(scope="module")
def read(page) -> Reader:
    return Reader(page)


def read_charts(page: str, name: str = "CHARTS") -> list:
    """Its pairs of charts, or what all LOOKS share, on a light and on a dark page."""
    text = page[page.rindex(f"const {name} = ") + len(f"const {name} = ") :]
    return json.JSONDecoder().raw_decode(text)[0]


def test_the_report_holds_every_section_and_finding(read, findings):
    text = " ".join(read.texts)
    for title in report.SECTIONS:
        assert title in text
    for finding in findings:
        assert finding.text in text and finding.claim in text and finding.test in text
    assert [f"s{i}" for i in range(len(report.SECTIONS))] == [name for name in read.ids if re.fullmatch(r"s\d+", name)]


def test_the_report_asks_for_nothing_outside(page, read):
    assert read.addresses and all(address.startswith(("data:image/png;base64,", "#s")) for address in read.addresses)
    assert not {"link", "iframe", "object", "base"} & set(read.tags)
    policy = unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1])
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert page.count("* plotly.js v") == 1


def test_every_image_says_what_it_shows(read, run):
    predictions = summaries.per_image(run)
    wrong = predictions[~predictions["fusion_correct"]].nlargest(1, "fusion_loss").iloc[0]
    words = f"true {CLASSES[wrong['label']]}, predicted {CLASSES[wrong['fusion_predicted']]}, {wrong['fusion_confidence']:.2f}"
    assert read.alts[0] == words
    assert len(read.alts) == 3 * report.IMAGES and all(read.alts)


def test_the_charts_come_in_light_and_dark_and_hold_the_predictions(page, read, run):
    charts = read_charts(page)
    assert [name for name in read.ids if name.startswith("chart")] == [f"chart{i}" for i in range(len(charts))]
    titles = [light["layout"]["title"]["text"] for light, _ in charts]
    assert titles == [dark["layout"]["title"]["text"] for _, dark in charts] and all("?" in title for title in titles)
    assert [look["paper_bgcolor"] for look in read_charts(page, "LOOKS")] == ["#ffffff", "#12171a"]
    assert not {"template", "paper_bgcolor", "font"} & {key for pair in charts for chart in pair for key in chart["layout"]}
    (cells,) = (light["data"][-1]["customdata"] for light, _ in charts if "does Fusion take" in light["layout"]["title"]["text"])
    predictions = summaries.per_image(run)
    for true, predicted, n in cells:
        mine = (predictions["label"] == CLASSES.index(true)) & (predictions["fusion_predicted"] == CLASSES.index(predicted))
        assert n == mine.sum()


def test_the_tables_hold_the_summary(read, run):
    text = " ".join(read.texts)
    for row in summaries.per_model(run).itertuples():
        assert f"{row.accuracy:.2%}" in text and f"{100 * row.low:.2f}–{100 * row.high:.2f} %" in text
    for value in ("label smoothing", "0.1", run.record["code_commit"]):
        assert value in text


def test_nothing_from_files_becomes_markup(made_results, run, findings, tmp_path):
    hostile = "<script>alert(1)</script>"
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    shutil.copytree(run.path, folder)
    record = json.loads((folder / "run.json").read_text())
    record |= dict.fromkeys(("device", "code_commit", "precision"), hostile)
    record |= {key: {hostile: hostile} for key in ("libraries", "data_md5")}
    record["start_weights"]["resnet18"]["name"] = hostile
    (folder / "run.json").write_text(json.dumps(record))
    page = report.build_report(results.load_run(folder), results.load_test_images(made_results), Headline(hostile, hostile), findings)
    assert hostile not in page and "&lt;script&gt;alert(1)" in page
    assert "<img src=x" not in page


@pytest.mark.parametrize("models", [("resnet18",), ("resnet18", "mobilenet_v2"), ("mobilenet_v2", "fusion"), ("fusion",)])
def test_a_run_without_all_models_still_has_a_report(tmp_path, made_results, models):
    images = results.load_test_images(made_results)
    run = results.load_run(make_run(tmp_path, "part", n_test=300, models=models, labels=images.labels))
    headline = write_headline(run, [])
    read = Reader(report.build_report(run, images, headline, find_findings(run)))
    text = " ".join(read.texts)
    assert headline.sentence in text and "Only the first 300 of 10,000 test images were predicted." in text


def test_limits_name_the_seeds_and_start_weights(run, findings):
    alone = " ".join(report.list_limits(run, find_findings(run), 10_000))
    assert "one was trained with all models" in alone and "ResNet18, made up" in alone and "96×96" in alone
    assert "2 were trained with all models" in " ".join(report.list_limits(run, findings, 10_000))


def test_limits_name_the_fusions_that_were_compared(run, findings):
    """Nothing is said to be untried that the claims compare."""
    compared = sum(way.group == combine.LATE for way in combine.find_ways(run).values())
    assert f"combined in {compared} ways" in " ".join(report.list_limits(run, findings, 10_000))
    assert "Trained apart" not in " ".join(report.list_limits(run, [], 10_000))


def test_the_report_page_offers_the_file(visit):
    app = visit("report")
    (button,) = app.get("download_button")
    assert re.fullmatch(r"Download the report \(\d\.\d MB\)", button.proto.label)
    assert all(title in app.markdown[1].value for title in report.SECTIONS)


def read_deck(app) -> dict[str, dict]:
    """The slides as the browser gets them, by id."""
    (deck,) = (one for one in app.get("bidi_component") if one.proto.component_name == "deck")
    slides = json.loads(deck.proto.json)["slides"]
    assert len({slide["id"] for slide in slides}) == len(slides)
    return {slide["id"]: slide for slide in slides}


def test_the_usual_deck_tells_the_story_in_seven_slides_and_the_rest_is_appendix(visit):
    slides = read_deck(visit("present"))
    usual = [slide for slide in slides.values() if slide["main"]]
    assert 6 <= len(usual) <= 8 and list(slides.values())[: len(usual)] == usual
    assert usual[0]["title"] == report.QUESTION and usual[-1]["id"] == "limits"
    assert all(slide["notes"] for slide in slides.values())


def test_every_finding_stands_on_a_slide_and_no_chart_stands_twice(visit, findings):
    slides = read_deck(visit("present"))
    said = " ".join(unescape(slide["said"]) for slide in slides.values())
    for finding in findings:
        assert (finding.claim if finding.verdict == UNTESTED else f"{finding.verdict}</b><br>{finding.statement}") in said
    titles = [slide["title"] for name, slide in slides.items() if name.startswith("claim-")]
    assert len(set(titles)) == len(titles) >= 7 and all(title.endswith("?") for title in titles)


def test_the_slide_of_classes_and_its_notes_speak_of_one_baseline(visit, run, findings):
    against = label(write_headline(run, findings).decisive.against)
    slide = read_deck(visit("present"))["classes"]
    (other,) = {label(one) for one in BASELINES} - {against}
    assert f"Of {against}'s errors" in unescape(slide["said"]) and slide["notes"].startswith(f"Against {against}, ")
    assert other not in slide["said"] + slide["notes"]


def test_the_answer_is_one_big_number_the_one_that_decides_the_headline(visit, run, findings):
    decisive = write_headline(run, findings).decisive
    said = read_deck(visit("present"))["answer"]["said"]
    assert f'<p class="big">{100 * decisive.effect:+.2f}<span class="unit">points: fusion minus {label(decisive.against)}, seed 0<' in said
    interval = f"{100 * decisive.interval[0]:+.2f} to {100 * decisive.interval[1]:+.2f}"
    assert f"{decisive.n:,} test images; 95 % interval of this comparison alone {interval}. " in said
    leads = {f"seed_{seed}": 0.005 * seed for seed in range(3)}
    tested = {"effect": 0.01, "interval": (0.0, 0.02), "p": 0.2, "n": 3, "verdict": OPEN, "numbers": leads}
    over_seeds = [replace(one, **tested) for one in findings if one.kind == "seeds"]
    slide = deck.answer(run, Headline("", decisive=over_seeds[0]), over_seeds, LIGHT)
    assert f"fusion minus {label(over_seeds[0].against)}</span>" in slide.said
    assert "mean of 3 seeds; 95 % interval of this comparison alone" in slide.said and "comparisons p = 0.200: not shown.<" in slide.said
    assert [list(trace.x) for trace in slide.chart.data if trace.marker.symbol == "circle-open"] == [[0.0, 0.5, 1.0]] * 3
    assert "big" not in deck.answer(run, Headline(""), findings, LIGHT).said


def test_the_slide_of_costs_says_what_the_runs_note_says(own_results):
    run = results.load_run(own_results / "imagenet-96-seed0")
    results.write_run(run.path / "run.json", run.record | {"note": "Minutes beside other work <are> no measure."})
    slides = read_deck(open_page("present"))
    assert "Minutes beside other work &lt;are&gt; no measure." in slides["costs"]["said"]


def test_a_chart_is_read_aloud_without_its_line_breaks(run, page):
    labels = [unescape(label) for label in re.findall(r'aria-label="([^"]+)"', page)]
    assert any("on images not trained on?" in label for label in labels) and not any("<br>" in label for label in labels)


def test_the_slide_of_classes_counts_what_fusion_rescued_and_broke(visit, run, findings):
    predictions, against = summaries.per_image(run), write_headline(run, findings).decisive.against
    rescued = (predictions["fusion_correct"] & ~predictions[f"{against}_correct"]).sum()
    broken = (~predictions["fusion_correct"] & predictions[f"{against}_correct"]).sum()
    said = read_deck(visit("present"))["classes"]["said"]
    assert f"<b>{rescued:,}</b>" in said and f"<b>{broken:,}</b>" in said and f"<b>{rescued - broken:+,} images</b>" in said


def test_a_branch_of_mostly_blank_maps_is_left_out_and_counted(made_results, tmp_path, monkeypatch):
    shutil.copytree(made_results, tmp_path / "results")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    maps = {part: np.ones((3, 32, 32)) for part in BASELINES}
    maps["mobilenet_v2"][:2] = 0
    run = results.load_run(tmp_path / "results/imagenet-96-seed0")
    images = summaries.per_image(run)
    errors = images[~images["fusion_correct"]].head(3)
    rows = {"index": errors["index"].to_numpy(), "target": errors["fusion_predicted"].to_numpy(), "minus": np.full(3, -1)}
    results.write_attributions(run.path / "fusion/attributions.npz", rows, {"grad_cam": maps}, {}, {})
    looks = read_deck(open_page("present"))["looks"]
    assert "Left out: the MobileNetV2 branch, 2 of whose 3 maps are blank." in looks["said"]
    assert looks["shown"].count("<h3>") == 2 and looks["shown"].count("<img") == 6 and "ResNet18\nbranch" in looks["shown"]


def test_a_run_without_all_models_can_be_presented(tmp_path, made_results, monkeypatch):
    shutil.copy(made_results / "test_images.parquet", tmp_path)
    make_run(tmp_path, "part", n_test=300, models=("resnet18",))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    slides = read_deck(open_page("present"))
    assert {"question", "answer", "limits"} <= set(slides) and "classes" not in slides
    assert "This run lacks" in slides["answer"]["said"]


def test_the_script_writes_the_same_report(made_results, tmp_path, monkeypatch, script, findings, page):
    monkeypatch.setattr(results, "RESULTS", made_results)
    finished = script("report.py", "--html", tmp_path / "report.html")
    assert (finished.code, finished.error, finished.out) == (0, "", f"wrote {tmp_path / 'report.html'}\n")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert script("report.py", "--html", tmp_path / "report.html" / "no" / "folder").code == 2
    assert script("report.py", "--html", tmp_path / "x.html", "--check").code == 2


def test_the_script_says_what_is_missing(made_results, tmp_path, monkeypatch, script):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "empty")
    finished = script("report.py", "--html", tmp_path / "report.html")
    assert finished.code == 2 and "holds no run" in finished.error and not (tmp_path / "report.html").exists()


def test_the_report_is_written_without_streamlit():
    """A process of its own: streamlit is in this one already."""
    code = "import sys, dashboard.report; assert not {'streamlit', 'torch'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_differences_span_their_intervals_in_the_order_given():
    table = pd.DataFrame({"name": ["b", "a"], "difference": [1.0, -0.5], "low": [0.5, np.nan], "high": [2.0, np.nan]})
    figure = figures.difference_figure(table, "?", "points", margin=0.5)
    (trace,) = figure.data
    assert list(trace.y) == ["b", "a"] and list(trace.x) == [1.0, -0.5]
    np.testing.assert_allclose(trace.error_x.array, [1.0, np.nan])
    np.testing.assert_allclose(trace.error_x.arrayminus, [0.5, np.nan])
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1] and figure.layout.xaxis.title.text == "points"
    assert [(shape.type, shape.x0, shape.x1) for shape in figure.layout.shapes] == [("line", 0, 0), ("rect", -0.5, 0.5)]


def test_reliability_draws_each_models_bins_and_the_ideal():
    diagram = {"confidence": np.array([0.6, 0.9]), "accuracy": np.array([0.5, 1.0]), "n": np.array([2, 8])}
    ideal, curve = figures.reliability_figure({"fusion": diagram}, "?").data
    assert list(ideal.x) == list(ideal.y) == [0, 100]
    np.testing.assert_allclose(curve.x, [60, 90])
    np.testing.assert_allclose(curve.y, [50, 100])
    assert curve.name == "Fusion" and list(curve.customdata) == [2, 8]


def test_slides_are_made_anew_when_a_control_comes(own_results):
    shutil.rmtree(own_results / "imagenet-96-seed1")
    plain = results.load_run(own_results / "imagenet-96-seed0")
    with_losses = own_results / "with losses"
    shutil.move(plain.path, with_losses)
    recipe = plain.record["recipe"] | {"name": "cpu-96-branch", "branch_loss": 1.0}
    results.write_run(with_losses / "run.json", plain.record | {"recipe": recipe})
    missing = "It needs a training with branch losses and the same without"
    assert missing in json.dumps(component(open_page("present", run="with losses"), "deck")["slides"])
    shutil.copytree(with_losses, plain.path)
    results.write_run(plain.path / "run.json", plain.record)
    assert missing not in json.dumps(component(open_page("present", run="with losses"), "deck")["slides"])


def test_only_errors_explained_for_the_prediction_stand_on_the_slide(own_results):
    """scripts/explain.py takes any image and any class."""
    run = results.load_run(own_results / "imagenet-96-seed0")
    images = summaries.per_image(run)
    wrong, correct = (np.flatnonzero(images["fusion_correct"] == state) for state in (False, True))
    index = np.sort([*wrong[:3], correct[0]])
    predicted = images["fusion_predicted"].to_numpy()[index]
    target = np.where(index == wrong[0], images["label"].to_numpy()[index], predicted)
    rows = {"index": index, "target": target, "minus": np.where(index == wrong[1], images["label"].to_numpy()[index], -1)}
    maps = {"grad_cam": {branch: np.ones((4, 32, 32)) for branch in ("resnet18", "mobilenet_v2")}}
    results.write_attributions(run.path / "fusion" / "attributions.npz", rows, maps, {}, {})
    slide = next(one for one in component(open_page("present", run=run.name), "deck")["slides"] if one["id"] == "looks")
    row = images.iloc[wrong[2]]
    assert slide["shown"].count("<figure>") == 3 and f"{CLASSES[row['label']]} → {CLASSES[row['fusion_predicted']]}" in slide["shown"]
    text = unescape(report.build_report(run, results.load_test_images(own_results), Headline("", ""), []))
    for i, spoken in ((wrong[0], f"; what speaks for {CLASSES[images['label'][wrong[0]]]}"), (wrong[2], "")):
        words = f"test image {i}: {CLASSES[images['label'][i]]}, taken for {CLASSES[images['fusion_predicted'][i]]}{spoken}"
        assert f"{words}<" in text or f'{words}"' in text


def test_the_slide_of_classes_is_against_the_harder_baseline_and_names_a_class_only_beyond_chance(visit, run, findings):
    said = unescape(read_deck(visit("present"))["classes"]["said"])
    against, predictions = write_headline(run, findings).decisive.against, summaries.per_image(run)
    fusion, other = (predictions[f"{one}_correct"].to_numpy() for one in ("fusion", against))
    assert f"Of {label(against)}'s errors" in said and f"{int(fusion.sum()) - int(other.sum()):+,} images" in said
    certain = metrics.class_differences(predictions["label"].to_numpy(), fusion, other)["p_holm"] < 0.05
    assert ("In no single class is that more than chance could give." in said) == (not certain.any())
    assert all((name in said.partition("Beyond chance")[2]) == bool(one) for name, one in zip(CLASSES, certain, strict=True))
