"""The table of all runs: their recipes, their accuracies, how far each is from the chosen one."""

import pytest

from core import results, summaries


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
    assert any(f"span {span:.2f} points" in caption.value for caption in app.caption)
