"""A small made-up CIFAR-10 in torchvision's file format, and a way to run a script on it in a process of its own.

python tests/fake_cifar.py FOLDER scripts/train.py ...
"""

import hashlib
import pickle
import runpy
import sys
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10

BATCHES = {"data_batch_1": 2_800, "data_batch_2": 2_700, "test_batch": 300}  # images; 5,000 of the first two are for validation


def write_fake_cifar(folder: Path) -> None:
    """Write the files below `folder`: each class has a colour pattern of its own, each image much noise.

    The first test image is a copy of the first training image of its class.
    """
    generator = np.random.default_rng(0)
    patterns = generator.integers(0, 256, (10, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)  # (10, 3, 32, 32)
    contents = {"batches.meta": {"label_names": [f"class {i}" for i in range(10)]}}
    for name, n in BATCHES.items():
        labels = generator.permutation(np.arange(n) % 10)
        images = 0.5 * patterns[labels] + 0.5 * generator.integers(0, 256, (n, 3, 32, 32))
        contents[name] = {"data": images.astype(np.uint8).reshape(n, -1), "labels": labels.tolist()}
    train, test = contents["data_batch_1"], contents["test_batch"]
    test["data"][0] = train["data"][train["labels"].index(test["labels"][0])]
    base = folder / CIFAR10.base_folder
    base.mkdir(parents=True)
    for name, content in contents.items():
        (base / name).write_bytes(pickle.dumps(content))


def expected_files(folder: Path) -> dict:
    """CIFAR10's attributes that make torchvision accept the files below `folder`."""
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in (folder / CIFAR10.base_folder).iterdir()}
    *train, test = ([name, md5[name]] for name in BATCHES)
    return {
        "train_list": train,
        "test_list": [test],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]},
    }


if __name__ == "__main__":
    for attribute, value in expected_files(Path(sys.argv[1])).items():
        setattr(CIFAR10, attribute, value)
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")
