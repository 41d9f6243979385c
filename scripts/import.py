"""Make a run from logits of models that were trained elsewhere, to see them in the dashboard.

python scripts/import.py results/mine --logits resnet18=a.csv mobilenet_v2=b.csv fusion=c.npz
python scripts/import.py results/mine --logits fusion=better.npz                another model, or new logits of one

A file holds logits on validation and test images. Either a table (.csv, .parquet) with the columns
    split                val or test
    index                the image's position in torchvision's CIFAR10: of the training images for val, of the test images for test
    label                its class, 0 (airplane) to 9 (truck)
    logit_0 … logit_9    what the model gave, before any softmax
or a NumPy file (.npz) with the arrays
    val (M, 10), val_index (M,), val_label (M,)
    test (N, 10)         of the first N test images, in order
There are 10,000 test images and 5,000 for validation; with N < 10,000 test images there are N for validation, at most 5,000.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core import results
from core.config import MODELS, UserError, check_range, exit_on_user_error, run_folder


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=run_folder, help="run folder to write, beside test_images.parquet")
    parser.add_argument("--logits", nargs="+", required=True, metavar="MODEL=FILE", help=f"MODEL is one of {', '.join(MODELS)}")
    parser.add_argument("--seed", type=int, help="tells runs of one kind apart (default: the run's, else 0)")
    parser.add_argument("--image-size", type=int, help="pixels a side that the models saw (default: the run's, else 32)")
    parser.add_argument("--note", help="what a reader must know of the run (default: the files' names)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.seed is not None:
        check_range("--seed", args.seed, 0, 2**32 - 1)
    if args.image_size is not None:
        check_range("--image-size", args.image_size, 8, 1024)
    files = {}
    for pair in args.logits:
        model, sign, path = pair.partition("=")
        if not sign or model not in MODELS or model in files:
            raise UserError(f"--logits {pair}: give each model once, as MODEL=FILE with one of {', '.join(MODELS)}")
        files[model] = Path(path)
    for line in results.import_run(args.run, files, args.seed, args.image_size, args.note):
        print(line)
    print(f"wrote {args.run}: {', '.join(files)}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
