"""Corruptions do what their names say, the same for every model; their summary equals hand values; damaged files are named."""

import shutil
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from core import metrics, results
from core.config import TRIO, UserError
from core.robustness import (
    CLEAN,
    CORRUPTIONS,
    SEVERITIES,
    corrupt_images,
    describe_corruptions,
    group_conditions,
    list_conditions,
    pick_subset,
)
from tests.fake_run import make_run, make_test_images

INDEX = np.array([4, 9_999])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Two smooth pictures with an edge, (2, 32, 32, 3)."""
    ramp = np.linspace(40, 200, 32)
    first = np.stack([ramp[None, :] * np.ones((32, 1)), ramp[:, None] * np.ones((1, 32)), np.full((32, 32), 90.0)], axis=2)
    second = first.transpose(1, 0, 2).copy()
    second[:, 16:] = 230
    return np.stack([first, second]).astype(np.uint8)


def test_there_are_eight_kinds_in_five_severities_and_the_clean_condition():
    conditions = list_conditions()
    assert len(CORRUPTIONS) == 8 and len(conditions) == 41 and conditions[0] == CLEAN
    assert all(len(kind.strengths) == len(SEVERITIES) for kind in CORRUPTIONS.values())


def test_the_table_names_cifar10cs_counterparts():
    """Of the 19 files of CIFAR-10-C, by their names."""
    files = {
        *("brightness", "contrast", "defocus_blur", "elastic_transform", "fog", "frost", "gaussian_blur", "gaussian_noise", "glass_blur"),
        *("impulse_noise", "jpeg_compression", "motion_blur", "pixelate", "saturate", "shot_noise", "snow", "spatter", "speckle_noise"),
        "zoom_blur",
    }
    table = describe_corruptions().set_index("label")
    named = table["cifar10c"][table["cifar10c"] != ""]
    assert set(named) <= files and named.is_unique and list(table.index[table["cifar10c"] == ""]) == ["Rotation"]
    assert table.loc["JPEG", "strengths"] == "80 · 65 · 58 · 50 · 40"


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_grows_and_repeats_itself(name, images):
    change = [np.abs(corrupt_images(images, INDEX, name, s).astype(int) - images).mean() for s in SEVERITIES]
    assert 0 < change[0] < change[-1]
    assert change == sorted(change) or name in ("haze", "gaussian_noise", "jpeg", "pixelate", "rotation")
    one = corrupt_images(images, INDEX, name, 3)
    assert one.dtype == np.uint8 and one.shape == images.shape
    assert np.array_equal(corrupt_images(images[1:], INDEX[1:], name, 3)[0], one[1])  # whatever images stand beside it


def test_the_clean_condition_changes_nothing(images):
    assert np.array_equal(corrupt_images(images, INDEX, *CLEAN), images)


def test_noise_has_its_deviation():
    grey = np.full((50, 32, 32, 3), 128, np.uint8)
    noisy = corrupt_images(grey, np.arange(50), "gaussian_noise", 5).astype(float) / 255
    assert noisy.std() == pytest.approx(0.10, rel=0.01) and noisy.mean() == pytest.approx(128 / 255, abs=0.001)


def test_brightness_contrast_and_pixelation_by_hand():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[:, :, 16:] = 100  # grey: its value is its level
    assert set(np.unique(corrupt_images(image, [0], "brightness", 3))) == {38, 138}  # + 0.15 * 255
    assert set(np.unique(corrupt_images(image, [0], "contrast", 2))) == {25, 75}  # half way to the mean, 50
    small = np.asarray(corrupt_images(image, [0], "pixelate", 5))[0, :, :, 0]  # 20 cells a side
    assert len(np.unique(small, axis=0)) == 1 and small[0, 0] == 0 and small[0, -1] == 100


def test_rotation_turns_by_its_angle_and_leaves_no_black_corner():
    bright = np.full((1, 32, 32, 3), 200, np.uint8)
    assert corrupt_images(bright, [0], "rotation", 5).min() == 200
    half = bright.copy()
    half[:, 16:] = 50
    turned = corrupt_images(half, [0], "rotation", 5)[0, :, :, 0]
    edge = [int(np.argmax(turned[:, column] < 125)) for column in (8, 24)]  # tan 30° = 0.577: 16 columns, 9 rows
    assert abs(abs(edge[1] - edge[0]) - 16 * np.tan(np.pi / 6)) <= 1.5


def test_the_subset_is_even_and_nested():
    labels = np.random.default_rng(0).permutation(np.arange(1_000) % 10)
    subset = pick_subset(labels, 200)
    assert np.array_equal(np.bincount(labels[subset]), np.full(10, 20)) and (np.diff(subset) > 0).all()
    assert set(pick_subset(labels, 50)) < set(subset)
    assert np.array_equal(pick_subset(labels, 1_000), np.arange(1_000))
    assert pick_subset(np.arange(1_000) % 10, 20)[:5].tolist() == [8, 36, 162, 206, 222]  # as all shipped runs were tried


def test_corruption_error_by_hand():
    """Two kinds, two severities, four images: errors 2 against 4 and 3 against 2."""
    wrong = np.array([[[1, 0, 0, 0], [1, 0, 0, 0]], [[1, 0, 0, 0], [1, 1, 0, 0]]], bool)
    reference = np.array([[[1, 1, 0, 0], [1, 1, 0, 0]], [[0, 1, 0, 0], [0, 1, 0, 0]]], bool)
    error, (low, high) = metrics.corruption_error(wrong, reference)
    assert error == pytest.approx((2 / 4 + 3 / 2) / 2)
    assert np.isnan([low, high]).all()  # of four images a draw may hold no error of the reference


def test_corruption_error_of_a_model_with_itself_is_one_and_its_interval_covers():
    generator = np.random.default_rng(0)
    reference = generator.random((8, 5, 2_000)) < 0.3
    assert metrics.corruption_error(reference, reference) == (1, (1, 1))
    better = reference & (generator.random((8, 5, 2_000)) < 0.8)
    error, (low, high) = metrics.corruption_error(better, reference)
    assert low < error < high < 1 and error == pytest.approx(0.8, abs=0.02)
    assert np.isnan(metrics.corruption_error(reference, np.zeros_like(reference))[0])  # no errors to compare with


def test_corruption_error_of_10_000_images_takes_little_memory():
    generator = np.random.default_rng(0)
    wrong, reference = (generator.random((8, 5, 10_000)) < share for share in (0.2, 0.25))
    tracemalloc.start()
    metrics.corruption_error(wrong, reference, resamples=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # bytes


@pytest.fixture
def run(tmp_path) -> results.Run:
    return results.load_run(make_run(tmp_path, "run", n_test=200))


def test_the_file_gives_back_what_was_written(run, tmp_path):
    correct = np.random.default_rng(0).random((41, 123)) < 0.7
    results.write_robustness(run.path / "fusion" / "robustness.csv", correct)
    assert np.array_equal(results.load_robustness(run, "fusion"), correct)
    table = pd.read_csv(run.path / "fusion" / "robustness.csv")
    assert table["accuracy"].tolist() == pytest.approx(correct.mean(axis=1)) and (table["images"] == 123).all()
    assert list(table[["corruption", "severity"]].itertuples(index=False, name=None)) == list_conditions()
    assert np.array_equal(group_conditions(correct)[2, 3], ~correct[1 + 2 * 5 + 3])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.drop(columns="right"), "lacks column right"),
        (lambda f: f.iloc[:-1], "does not hold a row a condition"),
        (lambda f: f.assign(right="zz"), "its columns right, images and accuracy do not agree"),
        (lambda f: f.assign(accuracy=0.5), "its columns right, images and accuracy do not agree"),
        (lambda f: f.assign(images=0), "its columns right, images and accuracy do not agree"),
        (lambda f: f.assign(severity="x"), "column severity holds"),
    ],
)
def test_a_damaged_file_is_named_with_the_command(damage, message, run):
    path = run.path / "fusion" / "robustness.csv"
    damage(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(UserError, match=rf"robustness.csv.*{message}.*: run python scripts/robustness.py"):
        results.load_robustness(run, "fusion")


def test_the_script_repeats_the_predictions_on_clean_images(trained, data, script, tmp_path):
    run = results.load_run(shutil.copytree(trained, tmp_path / "run"))
    pixels, labels = data.test.images.permute(0, 2, 3, 1).numpy(), data.test.labels.numpy()
    some = np.arange(10_000) % len(labels)
    results.write_test_images(tmp_path / "test_images.parquet", pixels[some], labels[some])
    finished = script("robustness.py", run.path, "--images", "20")
    assert finished.code == 0, finished.error
    assert finished.out.splitlines()[-1] == f"wrote {run.path}: 20 images in 41 conditions, {', '.join([*TRIO, 'ensemble'])}"
    _, known, logits = results.load_logits(run)
    subset = pick_subset(known, 20)
    for model, values in logits.items():
        clean, *corrupted = results.load_robustness(run, model)
        assert np.array_equal(clean, values[subset].argmax(axis=1) == known[subset]), model
        assert any(not np.array_equal(one, clean) for one in corrupted) or clean.mean() < 0.2

    whole = {name: results.load_robustness(run, name) for name in (*TRIO, "ensemble")}
    finished = script("robustness.py", run.path, "--images", "10", "--model", "fusion")
    assert finished.out.splitlines()[-1] == f"wrote {run.path}: 10 images in 41 conditions, fusion"
    assert results.load_robustness(run, "fusion").shape == (41, 10)
    assert all(np.array_equal(results.load_robustness(run, name), whole[name]) for name in (*TRIO[:2], "ensemble"))


def test_the_script_refuses_a_model_the_run_lacks(run, script):
    finished = script("robustness.py", run.path, "--model", "resnet34")
    assert finished.code == 2 and finished.error.strip() == f"error: {run.path} has no resnet34: choose from {', '.join(TRIO)}"


def test_the_script_refuses_other_images_than_the_runs(run, script, tmp_path):
    """Fewer, or with other labels: what it would write were of another question."""
    make_test_images(tmp_path, 100)
    finished = script("robustness.py", run.path, "--images", "20")
    assert finished.code == 2 and "predicts 200 test images, but test_images.parquet holds 100: give both as many" in finished.error
    results.write_test_images(tmp_path / "test_images.parquet", np.zeros((200, 32, 32, 3), np.uint8), np.zeros(200, int))
    finished = script("robustness.py", run.path, "--images", "20")
    assert finished.code == 2 and "its labels are not those of the images" in finished.error


def test_the_script_refuses_a_number_it_does_not_have(run, script):
    finished = script("robustness.py", run.path, "--images", "201")
    assert finished.code == 2 and finished.error.strip() == "error: --images 201: choose 10 to 200"
