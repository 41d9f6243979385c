"""Measure accuracy on corrupted test images and write results/RUN/MODEL/robustness.csv.

python scripts/robustness.py results/imagenet-224-seed0                    2,000 images on a CPU, all 10,000 on a GPU
python scripts/robustness.py results/imagenet-224-seed0 --images 500
python scripts/robustness.py results/imagenet-224-seed0 --model fusion     one alone; the ensemble is measured with both baselines
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from core import results
from core.config import CLASSES, MODELS, check_range, choose_models, exit_on_user_error, run_folder
from core.evaluate import load_shipped_model, measure_robustness
from core.runtime import open_world

CPU_IMAGES = 2_000


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=run_folder, help="run folder, such as results/imagenet-224-seed0")
    parser.add_argument("--model", nargs="+", default=["all"], choices=["all", *MODELS], help="which models (default: all there are)")
    parser.add_argument("--images", type=int, help=f"size of the stratified subset (default: {CPU_IMAGES:,} on a CPU, all on a GPU)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    run = results.load_run(args.run)
    run.check_holds(args.model)
    test, total = results.load_test_images(args.run.parent), results.split_size(run, "test")
    with open_world() as world:
        n = args.images
        if n is None:
            n = total if world.device.type == "cuda" else min(CPU_IMAGES, total)
        check_range("--images", n, len(CLASSES), total)
        results.load_predictions(run, run.models[0], "test", test.labels)  # are these the images it was trained beside?
        images = np.stack([test.decode(index) for index in range(total)])
        chosen = choose_models(args.model, run.models)
        predicted = results.fingerprint(run, chosen)
        models = {name: load_shipped_model(run, name).to(world.device) for name in chosen}
        correct = measure_robustness(models, images, test.labels[:total], n, run.recipe.image_size, world)
        if world.is_main:
            with results.still_of(run, predicted):
                for name, rows in correct.items():
                    results.write_robustness(run.path / name / "robustness.csv", rows)
            print(f"wrote {run.path}: {n:,} images in {len(rows)} conditions, {', '.join(correct)}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
