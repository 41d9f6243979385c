"""Slices and learning events against values worked out by hand, and the correction for the search against chance."""

import numpy as np
import pytest
from scipy.stats import binomtest

from core import slices


def test_pixels_are_measured_as_their_names_say():
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    half = black.copy()
    half[:, 16:] = 255
    red = black.copy()
    red[..., 0] = 255
    table = slices.measure_pixels(np.stack([black, white, half, red]))
    assert table["brightness"].tolist() == pytest.approx([0, 1, 0.5, 0.299], abs=1e-5)
    assert table["contrast"].tolist() == pytest.approx([0, 0, 0.5, 0], abs=1e-5)
    assert table["colour"].tolist() == pytest.approx([0, 0, 0, 1], abs=1e-5)
    assert table["detail"][2] == pytest.approx(1 / 31 / 2, abs=1e-5)  # one step of 1 in 31 across, none down


def test_fifths_and_the_bins_of_people():
    assert slices.cut_fifths(np.arange(100)).tolist() == [i // 20 for i in range(100)]
    assert slices.cut_people(np.array([0.1, 0.6, 0.85, 0.99, 1.0, np.nan])).tolist() == [0, 1, 2, 3, 4, -1]


def test_learning_events_follow_toneva():
    correct = np.array([[0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 1]], bool)  # (epochs, images)
    first, forgotten = slices.learning_events(correct)
    assert first.tolist() == [2, 1, 5, 1]
    assert forgotten.tolist() == [1, 2, 0, 0]


def test_a_planted_slice_is_found_first_with_its_interval_corrected():
    generator = np.random.default_rng(0)
    bins = {"class": generator.integers(0, 10, 10_000), "brightness": generator.integers(0, 5, 10_000)}
    planted = (bins["class"] == 3) & (bins["brightness"] == 0)
    wrong = generator.random(10_000) < np.where(planted, 0.5, 0.05)
    table = slices.find_slices(bins, wrong)
    assert table["slice"][0] == ("class:3", "brightness:0")
    assert (table["images"][0], table["errors"][0]) == (planted.sum(), (planted & wrong).sum())
    assert len(table) == 10 + 5 + 50
    for row in (table.iloc[0], table.iloc[-1]):
        exact = binomtest(int(row["errors"]), int(row["images"])).proportion_ci(1 - 0.05 / 65, method="exact")
        assert (row["low"], row["high"]) == pytest.approx((exact.low, exact.high))
    none, all_ = (slices.find_slices({"class": np.zeros(60, int)}, np.full(60, wrong)).iloc[0] for wrong in (False, True))
    assert none["low"] == 0 < none["high"] < 0.1 and 0.9 < all_["low"] < all_["high"] == 1


def test_few_slices_are_found_where_errors_are_spread_by_chance():
    """With rare errors and small slices, where an interval that is not exact finds too many."""
    found = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        bins = {name: generator.integers(0, 10, 2_000) for name in ("class", "cluster")}
        wrong = generator.random(2_000) < 0.04
        found += (slices.find_slices(bins, wrong, 10)["low"] > 0.04).any()
    assert found <= 10  # one in 40 expected at most


def test_without_a_weak_slice_all_intervals_hold_the_common_rate():
    held = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        bins = {"class": generator.integers(0, 10, 5_000), "contrast": generator.integers(0, 5, 5_000)}
        table = slices.find_slices(bins, generator.random(5_000) < 0.06)
        held.append(((table["low"] <= 0.06) & (table["high"] >= 0.06)).all())
    assert np.mean(held) >= 0.9  # 0.95 expected


def test_small_and_unknown_slices_are_left_out():
    bins = {"people": np.array([-1] * 60 + [0] * 49 + [1] * 51)}
    table = slices.find_slices(bins, np.ones(160, bool))
    assert table["slice"].tolist() == [("people:1",)]
    assert slices.name_slice("people:1") == "60 to 80 % of people agree"
    assert slices.name_slice("brightness:0") == "brightness: lowest fifth"


def test_clusters_are_numbered_by_size():
    features = np.concatenate([np.zeros((30, 2)), np.ones((10, 2)) * 9])
    assert slices.cluster_features(features, 2).tolist() == [0] * 30 + [1] * 10
