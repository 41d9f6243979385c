"""Write what people made of the test images to results/: human_votes.parquet and label_errors.parquet.

python scripts/human_votes.py cifar10h-counts.npy cifar10_mturk.json

The first file is CIFAR-10H's (github.com/jcpeterson/cifar-10h, folder data, CC BY-NC-SA 4.0), the second that of the label
errors (github.com/cleanlab/label-errors, folder mturk, Apache-2.0). results/README.md says what they hold and whom to cite.
"""

import argparse
import json
import sys
from operator import index as whole
from pathlib import Path
from zipfile import BadZipFile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from core import results
from core.config import CLASSES, UserError, exit_on_user_error


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("votes", type=Path, help="cifar10h-counts.npy")
    parser.add_argument("errors", type=Path, help="cifar10_mturk.json")
    return parser.parse_args()


def read_votes(path: Path) -> np.ndarray:
    """CIFAR-10H's counts (10000, 10). Raises UserError."""
    try:
        with path.open("rb") as file:
            counts = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): give CIFAR-10H's cifar10h-counts.npy") from None
    if getattr(counts, "shape", None) != (10_000, 10) or counts.dtype.kind not in "iu" or counts.min() < 0 or not counts.any(axis=1).all():
        raise UserError(f"{path} does not hold 10,000 x 10 counts, some of each image: give CIFAR-10H's cifar10h-counts.npy")
    return counts


def read_label_errors(path: Path, labels: np.ndarray) -> list[dict]:
    """The doubted images' rows for results.write_label_errors; `labels` (N,) are those of the test images. Raises UserError."""
    try:
        rows = [
            {
                "index": whole(entry["id"]),
                "given": whole(entry["given_original_label"]),
                "guessed": whole(entry["our_guessed_label"]),
                **{f"votes_{answer}": whole(entry["mturk"][answer]) for answer in ("given", "guessed", "both", "neither")},
            }
            for entry in json.loads(results.read_text(path))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}: {error}): give the label errors' cifar10_mturk.json") from None
    for row in rows:
        index, given, guessed, *votes = row.values()
        if not 0 <= index < len(labels) or given != labels[index] or guessed not in range(len(CLASSES)) or min(votes) < 0:
            raise UserError(f"{path}: entry {index} is not of a test image of CIFAR-10: give the label errors' cifar10_mturk.json")
    if len({row["index"] for row in rows}) < len(rows):
        raise UserError(f"{path} holds an image twice: give the label errors' cifar10_mturk.json")
    return rows


def main() -> None:
    args = parse_arguments()
    labels = results.load_test_images(results.RESULTS).labels
    counts, rows = read_votes(args.votes), read_label_errors(args.errors, labels)
    results.write_human_votes(results.RESULTS / "human_votes.parquet", counts)
    results.write_label_errors(results.RESULTS / "label_errors.parquet", rows)
    print(f"wrote {results.RESULTS}: human_votes.parquet ({counts.sum():,} votes), label_errors.parquet ({len(rows)} doubted images)")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
