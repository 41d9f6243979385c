"""Settings: complete, frozen, and refused when unknown."""

import json
from dataclasses import FrozenInstanceError, asdict

import pytest

from core.config import RECIPES, Recipe, UserError, exit_on_user_error


def test_recipes_survive_run_json_and_cannot_be_changed():
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert Recipe.from_dict(json.loads(json.dumps(asdict(recipe)))) == recipe
        assert recipe.epochs == recipe.frozen_epochs + recipe.finetune_epochs
    with pytest.raises(FrozenInstanceError):
        recipe.seed = 1


def test_a_setting_newer_than_the_record_takes_its_default():
    settings = asdict(RECIPES["cpu-96"])
    del settings["compile"]
    assert Recipe.from_dict(settings) == RECIPES["cpu-96"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momentum": 0.9}, "does not know: momentum"),
        ({"image_size": "96"}, "image_size is '96', which is not its type"),
        ({"images_per_split": 0.5}, "images_per_split"),
        ({"lr_head": 1}, None),  # a whole number is a number
    ],
)
def test_unknown_settings_and_wrong_types_are_refused(change, message):
    settings = asdict(RECIPES["smoke"]) | change
    if message is None:
        assert Recipe.from_dict(settings).lr_head == 1
    else:
        with pytest.raises(UserError, match=message):
            Recipe.from_dict(settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"branch_loss": -1.0}, "branch_loss is -1.0: a weight is 0 or more"),
        ({"branch_loss": 0.0}, "a shortcut adds up branch heads, which learn by their losses: choose a branch_loss"),
        ({"frozen_stages": -1}, "frozen_stages is -1: choose 0 to 5"),
        ({"frozen_stages": 6}, "frozen_stages is 6: choose 0 to 5"),
        ({"image_sizes": [32, 32]}, "image_sizes names 2 sizes for 3 epochs"),
        ({"image_sizes": [32, 32, 8]}, "a size is a whole number from 32 on"),
        ({"image_sizes": [32, 32, 48]}, "image_sizes ends with 48: choose 32, its image_size"),
        ({"image_sizes": "32"}, "image_sizes is '32', which is not its type"),
    ],
)
def test_weights_and_sizes_that_cannot_be_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        Recipe.from_dict(asdict(RECIPES["smoke"]) | change)
    sizes = Recipe.from_dict(asdict(RECIPES["smoke"]) | {"image_size": 64, "image_sizes": [32, 48, 64]})
    assert sizes.training_sizes == (32, 48, 64) and RECIPES["smoke"].training_sizes == (32, 32, 32)


def test_an_incomplete_recipe_is_refused():
    settings = asdict(RECIPES["smoke"])
    del settings["image_size"]
    with pytest.raises(UserError, match="image_size"):
        Recipe.from_dict(settings)
    with pytest.raises(UserError, match="not an object"):
        Recipe.from_dict([])


def test_a_user_error_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as end, exit_on_user_error():
        raise UserError("a library said\n  'no':\tdo this")
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: a library said 'no': do this\n"


def test_ctrl_c_ends_without_a_traceback(capsys):
    with pytest.raises(SystemExit, match="130"), exit_on_user_error():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "stopped\n"


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError), exit_on_user_error():
        raise ZeroDivisionError


def test_rates_in_words_tell_heads_apart_only_where_their_rates_differ():
    assert RECIPES["cpu-96"].rates_in_words == "0.0005 (backbones), 0.001 (heads)"
    assert RECIPES["cpu-224"].rates_in_words == "0.00025 (backbones), 0.01 (linear heads), 0.001 (hidden layer of the fusion)"
