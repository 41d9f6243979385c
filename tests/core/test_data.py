"""The split, the augmentation against torchvision's, and the order in which images reach a model."""

import io
import pickle
import shutil
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets.cifar
from torchvision.datasets import CIFAR10
from torchvision.transforms.v2 import functional as tv

from core import data as core_data
from core.config import UserError
from core.data import MEAN, STD, Split, augment, draw_augmentation, load_cifar10, open_cifar10, split_indices, to_input, train_batches


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def draw(n: int, offset=(4, 4), flip=False, factors=(1.0, 1.0, 1.0)) -> dict[str, torch.Tensor]:
    """The same draw for n images; by default one that changes nothing (with padding 4)."""
    return {
        "offset": torch.tensor([offset] * n),
        "flip": torch.tensor([flip] * n),
        "factors": torch.tensor([factors] * n).T,
    }


# --- loading and splitting --------------------------------------------------------------------------------------------


def test_split_is_stratified_disjoint_and_always_the_same():
    labels = np.random.default_rng(0).permutation(np.arange(50_000) % 10)
    train, val = split_indices(labels)
    assert (len(train), len(val)) == (45_000, 5_000)
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(50_000))
    assert (np.bincount(labels[val]) == 500).all()
    assert (train.diff() > 0).all() and (val.diff() > 0).all()
    assert val[:5].tolist() == [14, 52, 55, 65, 83]  # as all shipped runs were validated


def test_loaded_images_are_those_of_the_files(fake_cifar, data):
    contents = [pickle.loads((fake_cifar / CIFAR10.base_folder / name).read_bytes()) for name in ("data_batch_1", "data_batch_2")]
    raw = np.concatenate([c["data"] for c in contents]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([c["labels"] for c in contents])
    for split in (data.train, data.val):
        assert split.images.dtype == torch.uint8
        assert np.array_equal(split.images, raw[split.index])
        assert np.array_equal(split.labels, labels[split.index])
    test = pickle.loads((fake_cifar / CIFAR10.base_folder / "test_batch").read_bytes())
    assert np.array_equal(data.test.images, test["data"].reshape(-1, 3, 32, 32))
    assert data.test.labels.tolist() == test["labels"]
    assert (len(data.train), len(data.val), len(data.test)) == (500, 5_000, 300)
    assert set(data.md5) == {"data_batch_1", "data_batch_2", "test_batch"}


def test_first_n_of_a_split(data):
    first = data.train.first(7)
    assert len(first) == 7 and torch.equal(first.images, data.train.images[:7])
    assert len(data.train.first(None)) == len(data.train)


def test_a_missing_folder_is_named(tmp_path, fake_cifar):
    with pytest.raises(UserError, match=r"data_batch_1 is missing: --data must name"):
        load_cifar10(tmp_path / "nowhere", torch.device("cpu"))


def test_a_truncated_file_is_named(tmp_path, fake_cifar):
    copy = shutil.copytree(fake_cifar, tmp_path / "copy")
    with (copy / CIFAR10.base_folder / "data_batch_2").open("r+b") as file:
        file.truncate(1_000)
    with pytest.raises(UserError, match=r"data_batch_2 is damaged"):
        load_cifar10(copy, torch.device("cpu"))


def test_the_next_mirror_is_tried_and_all_failures_are_told(tmp_path, fake_cifar, monkeypatch):
    """Downloads are replaced by a function that fails for the first mirror and unpacks the fake files for the second."""
    monkeypatch.setattr(core_data, "ROOT", tmp_path)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(fake_cifar / CIFAR10.base_folder, CIFAR10.base_folder)
    asked, good = [], core_data.MIRRORS[1]

    def download(url, root, filename=None, md5=None):
        asked.append(url)
        if url == good:
            archive.seek(0)
            with tarfile.open(fileobj=archive) as tar:
                tar.extractall(root, filter="data")
        elif len(asked) == 1:
            raise URLError("Name or service not known")
        else:
            raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", download)
    assert len(open_cifar10(train=False)) == 300
    assert asked == list(core_data.MIRRORS[:2])

    monkeypatch.setattr(core_data, "ROOT", tmp_path / "other")
    monkeypatch.setattr(core_data, "MIRRORS", ("https://one.example/a.tar.gz", "https://two.example/b.tar.gz"))
    with pytest.raises(UserError) as error:
        open_cifar10()
    assert "one.example: File not found" in str(error.value) and "two.example" in str(error.value) and "--data" in str(error.value)


def test_one_at_a_time_downloads(monkeypatch, tmp_path):
    """The processes of a GPU each, or two trainings: a second one would cut off the file that the first is reading."""
    busy, seen = threading.Lock(), []

    def download(url, root, filename=None, md5=None):
        seen.append(busy.acquire(blocking=False))
        time.sleep(0.2)
        busy.release()
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(core_data, "ROOT", tmp_path)
    monkeypatch.setattr(core_data, "MIRRORS", core_data.MIRRORS[:1])
    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", download)
    with ThreadPoolExecutor() as pool:
        errors = [one.exception() for one in [pool.submit(open_cifar10) for _ in range(2)]]
    assert seen == [True, True] and all("could not be downloaded" in str(error) for error in errors)


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_the_neutral_draw_changes_nothing(images):
    torch.testing.assert_close(augment(images, draw(8), padding=4), images / 255)


@pytest.mark.parametrize(("offset", "flip"), [((0, 0), False), ((8, 3), False), ((2, 7), True), ((4, 4), True)])
def test_crop_and_flip_equal_numpys(images, offset, flip):
    got = augment(images, draw(8, offset, flip), padding=4)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")
    expected = padded[:, :, offset[0] : offset[0] + 32, offset[1] : offset[1] + 32]
    expected = expected[..., ::-1] if flip else expected
    torch.testing.assert_close(got, torch.from_numpy(expected.copy()) / 255)


def test_jitter_equals_torchvisions_image_by_image(images):
    drawn = draw(8) | {"factors": 1 + 0.4 * torch.rand(3, 8, generator=torch.Generator().manual_seed(2)) - 0.2}
    got = augment(images, drawn, padding=4)
    for i, (brightness, contrast, saturation) in enumerate(drawn["factors"].T.tolist()):
        expected = tv.adjust_brightness(images[i] / 255, brightness)
        expected = tv.adjust_saturation(tv.adjust_contrast(expected, contrast), saturation)
        torch.testing.assert_close(got[i], expected, atol=1e-3, rtol=0)  # torchvision rounds its luma to four digits


def test_each_image_depends_on_its_own_draw_alone(images):
    drawn = draw_augmentation(8, 4, 0.2, torch.Generator().manual_seed(3))
    whole = augment(images, drawn, 4)
    some = torch.tensor([5, 0, 6])
    part = augment(images[some], {"offset": drawn["offset"][some], "flip": drawn["flip"][some], "factors": drawn["factors"][:, some]}, 4)
    torch.testing.assert_close(part, whole[some], rtol=0, atol=1e-6)


def test_draws_cover_their_ranges_and_follow_the_generator():
    drawn = draw_augmentation(10_000, 4, 0.2, torch.Generator().manual_seed(0))
    assert sorted(set(drawn["offset"].flatten().tolist())) == list(range(9))
    assert drawn["flip"].float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert drawn["factors"].min() >= 0.8 and drawn["factors"].max() <= 1.2
    assert drawn["factors"].mean(dim=1).tolist() == pytest.approx([1, 1, 1], abs=0.01)
    again = draw_augmentation(10_000, 4, 0.2, torch.Generator().manual_seed(0))
    assert all(torch.equal(drawn[key], again[key]) for key in drawn)


# --- what the model sees ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 96, 224])
def test_input_equals_torchvisions_resize_then_normalise(images, size):
    x = to_input(images, size)
    expected = tv.normalize(tv.resize(images / 255, [size, size], antialias=True), MEAN, STD)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-4)
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(to_input(images / 255, size), x)  # uint8 and [0, 1] alike


def batches(n: int = 50, batch_size: int = 16, seed: int = 5, **options) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images that carry their number in every pixel, so that no crop or flip can hide it."""
    number = torch.arange(n)
    split = Split(number, number[:, None, None, None].expand(n, 3, 32, 32).to(torch.uint8), number)
    return list(train_batches(split, batch_size, padding=4, jitter=options.pop("jitter", 0.0), seed=seed, **options))


def test_an_epoch_shows_each_image_once_with_its_label():
    seen = []
    for images, labels in batches():
        assert images.shape == (16, 3, 32, 32)
        assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels)
        seen += labels.tolist()
    assert len(seen) == len(set(seen)) == 48  # the last two do not fill a batch
    assert seen != sorted(seen)


def test_the_seed_decides_the_epoch():
    first, same, other = batches(jitter=0.2), batches(jitter=0.2), batches(jitter=0.2, seed=6)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0][1], other[0][1])


def test_two_processes_share_the_very_batches_of_one(data):
    options = {"batch_size": 32, "padding": 4, "jitter": 0.2, "seed": 9}
    alone = list(train_batches(data.train, **options))
    shared = [list(train_batches(data.train, **options, rank=rank, world=2)) for rank in (0, 1)]
    assert len(alone) == len(shared[0]) == len(shared[1]) == 500 // 32
    for step, (images, labels) in enumerate(alone):
        for rank in (0, 1):
            torch.testing.assert_close(shared[rank][step][0], images[rank::2], rtol=0, atol=1e-6)
            assert torch.equal(shared[rank][step][1], labels[rank::2])
