"""The table of all runs: their recipes, their accuracies, how far each is from the chosen one."""

import json
import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from core import results, summaries
from core.config import BASELINES, TRIO, UserError
from dashboard import data, traits
from tests.dashboard.conftest import VIEWS, open_page
from tests.fake_run import make_run, make_test_images


def test_every_run_is_a_row_with_its_accuracies_and_the_difference_to_the_chosen_one(visit, made_results):
    app = visit("runs", run="imagenet-96-seed1", of="fusion")
    table = app.dataframe[0].value
    assert all(table["run"].str.startswith("./?run="))
    table = table.assign(run=table["run"].str.removeprefix("./?run=")).set_index("run")
    assert set(table.index) == {"imagenet-96-seed0", "imagenet-96-seed1"}
    accuracy = {}
    for name in table.index:
        run = results.load_run(made_results / name)
        summary = summaries.per_model(run, results.load_test_images(made_results).labels).set_index("model")["accuracy"]
        accuracy[name] = 100 * summary["fusion"]
        assert table.loc[name, "seed"] == run.record["seed"] and table.loc[name, "recipe"] == run.recipe.name
        for model in ("resnet18", "mobilenet_v2", "fusion", "ensemble"):
            assert table.loc[name, model] == pytest.approx(100 * summary[model])
    assert table.loc["imagenet-96-seed1", "difference"] == 0
    assert table.loc["imagenet-96-seed0", "difference"] == pytest.approx(accuracy["imagenet-96-seed0"] - accuracy["imagenet-96-seed1"])
    span = abs(accuracy["imagenet-96-seed0"] - accuracy["imagenet-96-seed1"])
    assert any(f"spans {span:.2f} points over its 2 seeds" in caption.value for caption in app.caption)


def test_the_link_to_two_runs_shows_the_model_it_compares(visit):
    app = visit("runs", run="imagenet-96-seed0", models="resnet18", of="fusion")
    link = next(one for one in app.get("page_link") if one.proto.label == "Two runs image by image")
    query = parse_qs(link.proto.query_string)
    assert query["models"] == ["resnet18", "fusion"] and query["after"] == ["fusion"]
    there = visit("rescued", **{name: query[name] for name in ("run", "models", "after", "reference") if name in query})
    assert there.segmented_control(key="after").value == "fusion"


def test_a_control_that_one_seed_lacks_has_no_mean_over_the_seeds(own_results):
    run = data.open_run("imagenet-96-seed0")
    shutil.copytree(run.path / "resnet18", run.path / "resnet34")
    models = run.record["models"] | {"resnet34": run.record["models"]["resnet18"]}
    results.write_run(run.path / "run.json", run.record | {"models": models})
    means, seeds = data.load_means(data.open_run("imagenet-96-seed0"))
    assert seeds == 2 and means.isna().to_dict() == {model: model == "resnet34" for model in means.index} and "resnet34" in means


def keep_models(run: Path, models: tuple[str, ...]) -> None:
    """Leave of a run what scripts/train.py writes for these models, and what is in git of it."""
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    starts = {model: record["start_weights"][model] for model in models if model in BASELINES}
    results.write_run(run / "run.json", record | {"models": {model: record["models"][model] for model in models}, "start_weights": starts})
    for folder in run.iterdir():
        if folder.is_dir() and folder.name not in models:
            shutil.rmtree(folder)
    for name in ("robustness.csv", "features.parquet", "train_sample.parquet", "probe.parquet"):
        for path in run.rglob(name):
            path.unlink()


@pytest.mark.parametrize("models", [("resnet18",), BASELINES], ids="-".join)
def test_a_seed_that_is_not_whole_yet_opens_on_every_page(own_results, models):
    keep_models(own_results / "imagenet-96-seed1", models)
    for view, run in [(view, 1) for view in VIEWS] + [("evidence", 0), ("training", 0), ("runs", 0), ("present", 0)]:
        app = open_page(view, run=f"imagenet-96-seed{run}", seeds="true")
        assert not app.error, f"{view}: {app.error[0].value}"
        assert "unknown" not in " ".join(block.value for block in app.markdown), view
    overview = open_page("overview", run="imagenet-96-seed1")
    assert not any(">mean" in block.proto.body for block in overview.get("html"))  # of seeds that this run is not among
    table = open_page("runs", run="imagenet-96-seed1")
    assert "fusion" not in table.segmented_control(key="of").options and table.segmented_control(key="of").value in (*models, "ensemble")
    part = open_page("evidence", run="imagenet-96-seed1")
    ways = [frame.value for frame in part.dataframe if "p_holm" in frame.value]
    assert len(ways) == (models == BASELINES) and all("stacked" in one["name"].tolist() for one in ways)
    other = next(
        box for box in open_page("confusion", run="imagenet-96-seed1", show="difference").selectbox if box.label == "Compared with"
    )
    assert any("Fusion" in option for option in other.options)  # of the whole seed


def test_all_models_of_one_run_are_all_of_the_next(own_results):
    keep_models(own_results / "imagenet-96-seed1", ("resnet18",))
    app = open_page(run="imagenet-96-seed0")
    whole = [one.label for one in app.metric]
    app.sidebar.selectbox(key="run").set_value("imagenet-96-seed1").run()
    assert [one.label for one in app.metric] == ["ResNet18"]
    app.sidebar.selectbox(key="run").set_value("imagenet-96-seed0").run()
    assert [one.label for one in app.metric] == whole and "models" not in app.query_params


def test_only_what_several_seeds_tell_is_drawn_of_them(own_results):
    keep_models(own_results / "imagenet-96-seed1", BASELINES)
    ways = data.list_ways(results.load_run(own_results / "imagenet-96-seed0"))[0].set_index("name")["seeds"]
    assert len(ways["ensemble"]) == 2 and ways["fusion"] == [] and ways["two_resnet18"] == []
    fused = traits.find_traits(results.load_run(own_results / "imagenet-96-seed0"), "fusion")
    with pytest.raises(UserError, match="Of Fusion there is one seed"):
        fused("seeds")


@pytest.mark.parametrize("view", ["errors", "evidence", "runs", "training"])
def test_another_seed_may_lack_a_model(own_results, view):
    """As while it is trained, or where a control was added to one seed alone."""
    keep_models(own_results / "imagenet-96-seed1", BASELINES)
    app = open_page(view, run="imagenet-96-seed0", **({} if view == "errors" else {"seeds": "true"}))
    assert not any("fusion" in info.value for info in app.info)
    if view == "errors":
        for model, seeds in (("fusion", 1), ("resnet18", 2)):
            menus = {box.label: box.options for box in open_page(view, run="imagenet-96-seed0", model=model).selectbox}
            assert ("wrong in most seeds first" in menus["Order"]) == any(name.endswith(" over 2 seeds") for name in menus) == (seeds > 1)


@pytest.mark.parametrize(
    ("models", "shown"), [(TRIO, "fusion"), (BASELINES, "ensemble"), ((), "resnet34")], ids=["whole", "no fusion", "alone"]
)
def test_pages_show_a_control_too(tmp_path, monkeypatch, models, shown):
    """A run with one network of the fusion's cost, as the claim about it asks for, beside one of fewer test images."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    make_test_images(tmp_path, 120)
    run = make_run(tmp_path, "run", n_test=120, models=models or ("resnet18",))
    make_run(tmp_path, "small", n_test=60, seed=1, models=models or ("resnet18",))
    (shutil.copytree if models else shutil.move)(run / "resnet18", run / "resnet34")
    record = results.load_run(run).record
    results.write_run(run / "run.json", record | {"models": {model: {} for model in (*models, "resnet34")}})
    for view in ("overview", "errors", "confusion"):
        app = open_page(view, run="run")
        assert view != "errors" or len([box for box in app.selectbox if box.label.endswith(" says")]) == len(models) + 1 + (len(models) > 1)
    if models:  # not every script was run again since
        (run / "resnet34" / "robustness.csv").unlink()
        said = [caption.value for caption in open_page("robustness", run="run").caption]
        assert any("Not measured for ResNet34. " in one for one in said)
    else:
        app = open_page("robustness", run="run")
        assert list(app.dataframe[0].value.columns) == ["model", "clean", "corrupted"]  # there is nothing to compare with
        assert any("not measured here" in caption.value for caption in app.caption)
    app = open_page("runs", run="run")
    table = app.dataframe[0].value.set_index("run")
    assert app.segmented_control(key="of").value == shown and table["difference"].dropna().tolist() == [0]
    assert table["resnet34"].notna().tolist() == [True, False]


def test_a_link_to_a_run_holds_its_whole_name(own_results):
    (own_results / "imagenet-96-seed0").rename(own_results / "mine & yours, #1")
    links = open_page("runs").dataframe[0].value["run"]
    assert [parse_qs(urlsplit(link).query)["run"] for link in links] == [["imagenet-96-seed1"], ["mine & yours, #1"]]
