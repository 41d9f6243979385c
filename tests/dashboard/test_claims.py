"""Claims on the pages: each kind has a page, a theme and a chart that shows its numbers; the table says what the findings say."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from core import combine, results
from core.config import BASELINES, ROOT
from core.findings import CLAIMS, CONTRADICTED, OPEN, UNTESTED, Finding, find_findings, show_effect
from core.findings.finding import signed
from dashboard import claim_table, claims, data, report, theme
from dashboard.theme import LIGHT


@pytest.fixture(scope="module")
def run(made_results):
    return results.load_run(made_results / "imagenet-96-seed0")


@pytest.fixture(scope="module")
def findings(run) -> list[Finding]:
    return find_findings(run, [run, results.load_run(run.path.with_name("imagenet-96-seed1"))])


def test_every_kind_of_claim_has_a_page_and_stands_in_one_theme():
    kinds = {claim.kind for claim in CLAIMS}
    themed = [kind for kinds in claims.THEMES.values() for kind in kinds]
    assert kinds == set(claims.KINDS) == set(themed) and len(themed) == len(set(themed))
    for kind in claims.KINDS.values():
        assert (ROOT / "dashboard" / "views" / f"{kind.page}.py").is_file() and kind.page in claims.PAGES


def drawn_values(figure) -> list[float]:
    """Every number of a figure's axes, bars laid on a base included."""
    found = []
    for trace in figure.data:
        for values in (trace.x, trace.y, getattr(trace, "customdata", None)):
            found += [
                float(value) for value in np.ravel(values if values is not None else []) if isinstance(value, int | float | np.number)
            ]
    return found


def test_every_tested_claim_has_a_chart_of_its_own_numbers(fake_results, run, findings):
    """Where the effect is a difference in accuracy the chart shows it with its interval; other charts hold the accuracies behind it."""
    titles = {}
    for finding in findings:
        figure = claims.draw(run, finding, findings, LIGHT)
        if finding.verdict == UNTESTED:
            assert figure is None
            continue
        titles.setdefault(finding.kind, set()).add(figure.layout.title.text)
        assert figure.layout.title.text.endswith("?") and drawn_values(figure)
        if finding.id.startswith("accuracy") or finding.kind in ("controls", "doubtful", "probe"):
            assert np.isclose(drawn_values(figure), 100 * finding.effect).any(), finding.id
            assert np.isclose(drawn_values(figure), 100 * finding.interval[0]).any(), finding.id
    shown = [title for of_kind in titles.values() for title in of_kind]
    assert len(titles) >= 9 and len(shown) == len(set(shown))  # no two kinds show one chart


def test_a_chart_shows_the_baseline_of_its_own_claim(fake_results, run, findings):
    by_id = {one.id: one for one in findings}
    (fitted,) = {one for one in BASELINES if f"temperature_{one}" in by_id["temperature"].numbers}
    (other,) = set(BASELINES) - {fitted}
    calibration = replace(by_id["calibration"], against=other)  # need not be the baseline that is better on validation
    drawn = claims.draw(run, by_id["temperature"], [calibration, by_id["temperature"]], LIGHT)
    assert {theme.label(fitted), "Fusion"} <= {trace.name for trace in drawn.data}
    named = {one: claims.draw(run, replace(by_id["classes"], against=one), findings, LIGHT).layout.title.text for one in BASELINES}
    assert all(theme.label(one) in title for one, title in named.items())


def test_the_table_says_what_the_findings_say(findings):
    html = unescape(claim_table.claims_html(findings))
    assert html.count("<details") == len(findings)
    for finding in findings:
        assert finding.claim in html and f"<b>{finding.statement}.</b> {finding.details}" in html
        assert finding.test in html and show_effect(finding) in html
    assert html.count("<em ") == sum(finding.effect is not None for finding in findings)


def test_nothing_of_a_finding_becomes_markup(findings):
    hostile = replace(findings[0], claim="<script>alert(1)</script>", details="<img src=x>")
    html = claim_table.claims_html([hostile])
    assert "<script>" not in html and "<img" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("unit", "effect", "interval", "words"),
    [
        ("points", -0.0056, (-0.0091, -0.0021), "−0.56 points [−0.91, −0.21]"),
        ("%", 0.1, (-0.05, 0.2), "+10.0 % [−5.0, +20.0]"),
        ("classes", 2.0, None, "+2 classes"),
        ("classes", -1.0, None, "−1 class"),
        ("AUC", 0.764, None, "0.764 AUC"),
        ("points", None, None, ""),
    ],
)
def test_effects_in_words(findings, unit, effect, interval, words):
    assert show_effect(replace(findings[0], unit=unit, effect=effect, interval=interval)) == words


def test_what_speaks_for_a_claim_is_drawn_right_of_its_line(findings):
    drawn = claim_table.place(findings)
    for finding in findings:
        if finding.effect is None:
            assert finding.id not in drawn
            continue
        at = drawn[finding.id]
        assert 0 <= at["effect"] <= 100 and (at["effect"] - at["neutral"]) * (finding.effect - finding.neutral) >= 0
        if finding.interval:
            assert at["low"] <= at["effect"] <= at["high"]
            assert (finding.verdict == OPEN) == (at["low"] <= at["neutral"] <= at["high"]) or finding.p
        if finding.verdict == CONTRADICTED:
            assert at["effect"] < at["neutral"]
    in_points = [one for one in findings if one.unit == "points" and one.interval]
    lengths = [(drawn[one.id]["high"] - drawn[one.id]["low"]) / (one.interval[1] - one.interval[0]) for one in in_points]
    assert len(lengths) > 3 and lengths == pytest.approx([lengths[0]] * len(lengths), rel=0.01)  # one unit, one scale


def test_the_forest_shows_each_way_with_its_interval_and_seeds(fake_results, run):
    ways, pairs = data.list_ways(run)
    assert {"resnet18", "two_resnet18", "ensemble", "mean_logits", "stacked", "fusion"} <= set(ways["name"])
    figure = claims.draw_ways(ways, theme.label("resnet18"))
    groups = {trace.name: trace for trace in figure.data}
    assert {combine.TWICE, combine.LATE, combine.TOGETHER, "one seed"} <= set(groups)
    together = ways[ways["group"] == combine.TOGETHER]
    np.testing.assert_allclose(groups[combine.TOGETHER].x, 100 * together["difference"])
    np.testing.assert_allclose(groups[combine.TOGETHER].error_x.array, 100 * (together["high"] - together["difference"]))
    fusion = ways.set_index("name").loc["fusion"]
    dots = [x for x, y in zip(groups["one seed"].x, groups["one seed"].y, strict=True) if y == fusion["label"]]
    other = results.load_run(run.path.with_name("imagenet-96-seed1"))
    accuracy = {}
    for model in ("fusion", "resnet18"):
        predictions = results.load_predictions(other, model)
        accuracy[model] = (predictions.logits.argmax(axis=1) == predictions.labels).mean()
    assert dots == pytest.approx([100 * fusion["difference"], 100 * (accuracy["fusion"] - accuracy["resnet18"])])
    assert theme.label("resnet18") not in figure.layout.yaxis.categoryarray
    assert list(pairs["pair"])[:1] == ["baselines"]


def test_evidence_says_the_answer_then_its_numbers_then_every_claim(visit, findings):
    app = visit("evidence")
    words = [element.value for element in app.markdown]
    assert words[0].startswith("#### ") and not re.search(r"\d", words[0].removeprefix("#### ").replace("ResNet18", ""))
    scope = "Only a test over 3 or more seeds speaks of training by this recipe; 2 were trained with all models."
    assert any(scope in caption.value for caption in app.caption)
    html = unescape(" ".join(block.proto.body for block in app.get("html")))
    for finding in findings:
        assert finding.claim in html
    lead = next(finding for finding in findings if finding.id == "seeds-ensemble").seeds["1"]
    assert "Fusion's lead over" in html and f"<td>{signed(lead)}<small>p" in html
    assert [header.value for header in app.subheader][:2] == ["Every way to combine the two networks", "What may be claimed"]


def test_the_report_too_chooses_the_better_baseline_on_validation(run):
    summary = pd.DataFrame(
        {"model": ["resnet18", "mobilenet_v2", "fusion"], "accuracy": [0.95, 0.94, 0.96], "val_accuracy": [0.93, 0.94, 0.9]}
    )
    assert report.Report(run, None, None, [], None, summary).better == "mobilenet_v2"


def test_a_small_p_is_shown_as_small_not_as_zero(visit):
    app = visit("evidence", against="mobilenet_v2")
    tables = [frame for frame in app.dataframe if "p_holm" in frame.value]
    assert len(tables) == 2  # ways and classes
    small = 0
    for frame in tables:
        shown = pa.ipc.open_stream(frame.proto.arrow_data.styler.display_values).read_pandas()["p_holm"]
        for p, text in zip(frame.value["p_holm"], shown, strict=True):
            expected = "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
            assert text == expected
            small += p < 0.001
    assert small


def test_class_by_class_says_what_could_have_been_seen(visit):
    app = visit("evidence", against="mobilenet_v2")
    table = app.dataframe[-1].value
    assert (table["smallest"] > 0).all() and set(table["p_holm"].between(0, 1)) == {True}
    assert any("none found is no proof of equality" in caption.value for caption in app.caption)


def test_overview_shows_main_claims_as_a_table_below_the_answer(visit, findings):
    app = visit("overview")
    html = unescape(" ".join(block.proto.body for block in app.get("html")))
    shown = [finding for finding in findings if f">{finding.claim}<" in html]
    assert "accuracy-ensemble" in {finding.id for finding in shown} and len(shown) < len(findings)
    assert app.markdown[0].value.startswith("#### ") and html.index("Fusion's lead over") < html.index(shown[0].claim)
