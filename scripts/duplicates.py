"""Find the test images that have a near-duplicate in the training images and write results/near_duplicates.parquet.

python scripts/duplicates.py results/imagenet-224-seed0                     by the features of this run's first baseline
python scripts/duplicates.py results/imagenet-224-seed0 --sheet pairs.png   and the least similar pairs as a picture to look at
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image

from core import results
from core.config import BASELINES, UserError, exit_on_user_error, run_folder
from core.data import Split, load_cifar10
from core.duplicates import find_duplicates
from core.evaluate import extract_features, load_shipped_model
from core.runtime import World, open_world

COLUMNS, ROWS, SCALE = 10, 20, 2  # of the sheet: pairs side by side, lines, screen pixels a pixel


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=run_folder, help="run folder that ships weights, such as results/imagenet-224-seed0")
    parser.add_argument("--data", type=Path, help="folder that holds cifar-10-batches-py (default: download to data/)")
    parser.add_argument("--sheet", type=Path, help="PNG file to write: the least similar of the pairs found, test image left")
    return parser.parse_args()


def join_training(*splits: Split) -> Split:
    """Training and validation images in the order of torchvision's training split."""
    index, images, labels = (torch.cat([getattr(one, name) for one in splits]) for name in ("index", "images", "labels"))
    order = index.argsort()
    return Split(index[order], images[order], labels[order])


def compute_features(run: results.Run, split: Split, name: str, world: World) -> np.ndarray:
    model = load_shipped_model(run, BASELINES[0]).to(world.device)
    return extract_features(model, split.images, run.recipe.image_size, world, label=f"{name} features").cpu().numpy()


def draw_sheet(first: np.ndarray, second: np.ndarray) -> Image.Image:
    """Pairs of images (P, 32, 32, 3), a white column between two pairs."""
    pairs = np.pad(np.concatenate([first, second], axis=2), ((0, -len(first) % COLUMNS), (2, 2), (2, 2), (0, 0)), constant_values=255)
    _, height, width, _ = pairs.shape
    sheet = pairs.reshape(-1, COLUMNS, height, width, 3).swapaxes(1, 2).reshape(-1, COLUMNS * width, 3)
    return Image.fromarray(sheet).resize((SCALE * sheet.shape[1], SCALE * len(sheet)), Image.Resampling.NEAREST)


def main() -> None:
    args = parse_arguments()
    run = results.load_run(args.run)
    if BASELINES[0] not in run.models:
        raise UserError(f"{args.run} holds no {BASELINES[0]}, whose features are compared: name another run")
    with open_world() as world:
        data = load_cifar10(args.data, world.device)
        train = join_training(data.train, data.val)
        features = [compute_features(run, split, name, world) for name, split in (("test", data.test), ("training", train))]
        if not world.is_main:
            return
        test_images, images = (split.images.permute(0, 2, 3, 1).cpu().numpy() for split in (data.test, train))
        pairs = find_duplicates(test_images, features[0], images, features[1])
    path = args.run.parent / "near_duplicates.parquet"
    results.write_near_duplicates(path, pairs)
    share = pairs["index"].nunique() / len(test_images)
    print(f"wrote {path}: {pairs['index'].nunique():,} test images ({share:.1%}) in {len(pairs):,} pairs")
    if args.sheet and len(pairs):
        least = pairs.nsmallest(COLUMNS * ROWS, "similarity")
        sheet = draw_sheet(test_images[least["index"]], images[least["train_index"]])
        results.write_whole(args.sheet, lambda aside: sheet.save(aside, "PNG"))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
