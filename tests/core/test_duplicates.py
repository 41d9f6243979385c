"""Near-duplicates: planted ones are found, strangers are not; neighbours and correlations against scikit-learn and NumPy."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.neighbors import NearestNeighbors

from core import results
from core.config import UserError
from core.duplicates import SHIFT, THRESHOLD, compare_pixels, correlate, find_duplicates, find_neighbours
from core.results import load_near_duplicates

SHIPPED = results.RESULTS / "near_duplicates.parquet"


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """Forty smooth scenes with details, larger than an image so that a shift shows what was outside: (40, 44, 44, 3)."""
    noise = np.random.default_rng(0).standard_normal((40, 44, 44, 3))
    scenes = 3 * gaussian_filter(noise, (0, 6, 6, 0)) / 0.05 + gaussian_filter(noise, (0, 1.2, 1.2, 0)) / 0.2
    return np.clip(128 + 25 * scenes, 0, 255).astype(np.uint8)


def cut(photographs: np.ndarray, top: int = 6, left: int = 6) -> np.ndarray:
    return photographs[:, top : top + 32, left : left + 32]


def test_neighbours_are_scikit_learns():
    generator = np.random.default_rng(0)
    features, others = generator.standard_normal((700, 20)), generator.standard_normal((900, 20))  # more than one batch
    expected = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute").fit(others).kneighbors(features)[1]
    assert np.array_equal(find_neighbours(features, others, 7), expected)


def test_the_correlation_is_numpys_where_nothing_moved(photographs):
    one, other = cut(photographs)[:5], cut(photographs)[5:10]
    found = correlate(one, other)
    for first, second, value in zip(one, other, found, strict=True):
        middle = [image[SHIFT:-SHIFT, SHIFT:-SHIFT].astype(float) for image in (first, second)]
        flat = [(image - image.mean(axis=(0, 1))).ravel() for image in middle]
        assert value >= np.corrcoef(*flat)[0, 1] - 1e-6  # the best of many windows, this one among them
    np.testing.assert_allclose(correlate(one, one), 1, atol=1e-5)
    assert correlate(one[:1], np.zeros_like(one[:1])) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda p: cut(p),
        lambda p: cut(p, 6 - SHIFT, 6 + SHIFT),
        lambda p: cut(p)[:, :, ::-1],
        lambda p: (0.6 * cut(p, 7, 5) + 40).astype(np.uint8),
        lambda p: np.clip(cut(p) + np.random.default_rng(1).normal(0, 4, (len(p), 32, 32, 3)), 0, 255).astype(np.uint8),
    ],
    ids=["the same", "shifted", "mirrored", "paler and shifted", "noisy"],
)
def test_a_photograph_is_recognised_and_a_stranger_is_not(change, photographs):
    changed = change(photographs)
    assert compare_pixels(cut(photographs), changed).min() >= THRESHOLD
    assert compare_pixels(cut(photographs), np.roll(changed, 1, axis=0)).max() < THRESHOLD


def test_a_common_sky_is_no_common_photograph(photographs):
    """Bright above, dark below: the images correlate, their details do not."""
    sky = np.linspace(100, -100, 32)[:, None, None]
    one, other = (
        np.clip(128 + sky + (cut(photographs[part]).astype(int) - 128) // 4, 0, 255).astype(np.uint8) for part in np.r_[:20].reshape(2, 10)
    )
    assert correlate(one, other).min() > THRESHOLD > compare_pixels(one, other).max()


def test_pairs_are_found_among_many(photographs):
    images, others = cut(photographs)[:20], cut(photographs, 5, 6).copy()
    others[3] = images[3]
    features, other_features = np.eye(40)[:20] + 0.1, np.eye(40) + 0.1
    pairs = find_duplicates(images, features, others, other_features)
    assert np.array_equal(pairs["index"], np.arange(20)) and np.array_equal(pairs["train_index"], np.arange(20))
    assert (
        pairs["kind"].tolist() == ["exact" if i == 3 else "near" for i in range(20)]
        and pairs["similarity"].between(THRESHOLD, 1.0001).all()
    )
    corner = cut(photographs, 6 - SHIFT, 6 + SHIFT)
    assert np.array_equal(find_duplicates(images, features, corner, other_features)["index"], np.arange(20))
    far = np.roll(other_features, 20, axis=0)  # of the ten nearest by features none is the same photograph
    assert not set(find_duplicates(images, features, others, far)["index"]) & set(range(9))


def test_the_script_writes_pairs_and_a_sheet_of_them(trained, script, fake_cifar, tmp_path):
    from core.data import open_cifar10

    run = shutil.copytree(trained, tmp_path / "results" / "run")
    finished = script("duplicates.py", run, "--data", fake_cifar, "--sheet", tmp_path / "pairs.png")
    assert finished.code == 0, finished.error
    pairs = load_near_duplicates(tmp_path / "results")
    found = f"{pairs['index'].nunique():,} test images ({pairs['index'].nunique() / 300:.1%}) in {len(pairs):,} pairs"
    assert finished.out.splitlines()[-1] == f"wrote {tmp_path / 'results' / 'near_duplicates.parquet'}: {found}"
    copied, train, test = pairs[pairs["kind"] == "exact"], *(open_cifar10(fake_cifar, train=one).data for one in (True, False))
    assert copied["index"].tolist() == [0] and np.array_equal(train[copied["train_index"].item()], test[0])
    with Image.open(tmp_path / "pairs.png") as sheet:
        assert sheet.size == (2 * 10 * 68, 2 * 36)
    shutil.rmtree(run / "resnet18")
    finished = script("duplicates.py", run, "--data", fake_cifar)
    assert finished.code == 2 and "weights.safetensors is missing" in finished.error


def test_the_sheet_shows_pairs_side_by_side(script):
    import runpy

    draw_sheet = runpy.run_path(str(results.RESULTS.parent / "scripts" / "duplicates.py"))["draw_sheet"]
    first, second = np.zeros((12, 32, 32, 3), np.uint8), np.full((12, 32, 32, 3), 100, np.uint8)
    sheet = draw_sheet(first, second)
    assert isinstance(sheet, Image.Image) and sheet.size == (2 * 10 * 68, 2 * 2 * 36)
    left, right = sheet.getpixel((10, 10)), sheet.getpixel((100, 10))
    assert (left, right) == ((0, 0, 0), (100, 100, 100))


def test_about_as_many_as_were_found_by_people():
    """Barz & Denzler (2020) looked at pairs one by one and found 3.3 % of the test images; here some are alike in shape alone."""
    pairs = pd.read_parquet(SHIPPED)
    assert 0.030 < pairs["index"].nunique() / 10_000 < 0.038 and pairs["similarity"].min() >= THRESHOLD


def test_a_damaged_table_is_named_with_the_command(tmp_path):
    results.write_near_duplicates(
        tmp_path / "near_duplicates.parquet", pd.DataFrame({"index": [10_000], "train_index": [0], "similarity": [0.9], "kind": ["near"]})
    )
    with pytest.raises(UserError, match=r"names images that there are not: run python scripts/duplicates\.py"):
        load_near_duplicates(tmp_path)
