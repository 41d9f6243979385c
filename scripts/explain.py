"""Write the attributions of a selection of test images to results/RUN/MODEL/attributions.npz.

python scripts/explain.py results/imagenet-224-seed0 --model fusion --errors                all that the model gets wrong
python scripts/explain.py results/imagenet-224-seed0 --model fusion --errors --branches     and what each branch carries, over the test set
python scripts/explain.py results/imagenet-224-seed0 --model resnet18 --index 3 17 --method grad_cam --target true
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from tqdm import tqdm

from core import results
from core.config import MODELS, UserError, check_range, exit_on_user_error, run_folder
from core.data import load_cifar10
from core.evaluate import extract_features, load_shipped_model
from core.explain import METHODS
from core.explain.branches import ablate_branches, branch_contributions
from core.explain.methods import attribute
from core.explain.score import Question, pick_images
from core.models import Classifier
from core.robustness import pick_subset
from core.runtime import World, open_world, synchronize


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=run_folder, help="run folder, such as results/imagenet-224-seed0")
    parser.add_argument("--model", required=True, choices=MODELS)
    selection = parser.add_mutually_exclusive_group(required=True)
    selection.add_argument("--errors", action="store_true", help="the test images that the model gets wrong")
    selection.add_argument("--index", type=int, nargs="+", metavar="I", help="test images by position")
    parser.add_argument("--images", type=int, help="explain this many of the errors, evenly over the true classes (default: all)")
    parser.add_argument("--method", nargs="+", default=list(METHODS), choices=METHODS, help="which methods (default: all)")
    parser.add_argument(
        "--target",
        default="predicted",
        choices=["predicted", "true", "difference"],
        help="the logit explained; difference: predicted - true",
    )
    parser.add_argument("--branches", action="store_true", help="for fusion: also each branch's contribution to every test image")
    parser.add_argument("--data", type=Path, help="for --branches: folder that holds cifar-10-batches-py (default: download to data/)")
    return parser.parse_args()


def select(args: argparse.Namespace, predictions: results.Predictions) -> dict[str, np.ndarray]:
    """Positions of the chosen images, ascending, and the classes whose logits are explained."""
    predicted = predictions.logits.argmax(axis=1)
    if args.errors:
        index = np.flatnonzero(predicted != predictions.labels)
        if not len(index):
            raise UserError(f"{args.model} predicts all test images correctly: choose some with --index")
        if args.images is not None:
            check_range("--images", args.images, 1, len(index))
            index = index[pick_subset(predictions.labels[index], args.images)]
    else:
        index = np.unique(args.index)
        outside = index[(index < 0) | (index >= len(predicted))]
        if len(outside):
            raise UserError(f"--index {outside[0]}: the run's test images are 0 to {len(predicted) - 1}")
    true, predicted = predictions.labels[index], predicted[index]
    if args.target == "difference" and (true == predicted).any():
        raise UserError(f"--target difference: image {index[true == predicted][0]} is predicted correctly, so there is no difference")
    return {
        "index": index,
        "target": true if args.target == "true" else predicted,
        "minus": true if args.target == "difference" else np.full(len(index), -1),
    }


def explain_images(
    model: Classifier, images: torch.Tensor, method: str, image_size: int, rows: dict[str, np.ndarray], batch: int
) -> tuple[dict[str, np.ndarray], float]:
    """One method's maps of all images, by part, and the images done a second."""
    batches, start = [], time.perf_counter()
    with tqdm(total=len(images), desc=method, unit="img", leave=False) as bar:
        for first in range(0, len(images), batch):
            part = slice(first, first + batch)
            contrast = rows["minus"][part] if (rows["minus"] >= 0).all() else None
            batches.append(attribute(Question.about(model, images[part], rows["target"][part], image_size, contrast, batch), method))
            bar.update(len(images[part]))
    synchronize(images.device)
    maps = {name: np.concatenate([one[name] for one in batches]) for name in batches[0]}
    return maps, len(images) / (time.perf_counter() - start)


def measure_branches(
    model: Classifier, train: torch.Tensor, images: torch.Tensor, image_size: int, predicted: np.ndarray, world: World
) -> dict[str, dict[str, np.ndarray]]:
    """What each branch adds to the predicted class's logit, from the training images' mean features on, and the logits without it."""

    titles = {"mean training features": train, "branches": images}
    of_train, features = (extract_features(model, one, image_size, world, label=title).clone() for title, one in titles.items())
    mean = of_train.mean(dim=0)
    contributions = branch_contributions(model, features, mean, predicted)
    return {
        "contribution": dict(zip(model.backbones, contributions.T.astype(np.float32), strict=True)),
        "ablated": ablate_branches(model, features, mean),
    }


def load_previous(run: results.Run, model: str) -> results.Attributions | None:
    """What the file to be written holds already, of the same weights: retraining removes it. None where there is nothing to keep."""
    try:
        return results.load_attributions(run, model)
    except UserError:  # missing, or damaged: then this is its repair
        return None


def main() -> None:
    args = parse_arguments()
    if args.branches and args.model != "fusion":
        raise UserError(f"--branches: {args.model} has no branches, only fusion has")
    if args.images is not None and not args.errors:
        raise UserError("--images: --index names the images already; give one of the two")
    run = results.load_run(args.run)
    run.check_holds([args.model])
    test_images = results.load_test_images(args.run.parent)
    predictions = results.load_predictions(run, args.model, "test", test_images.labels)
    rows, size = select(args, predictions), run.recipe.image_size
    weights = results.fingerprint(run, [args.model])
    with open_world() as world:
        model = load_shipped_model(run, args.model).to(world.device)
        train = load_cifar10(args.data, world.device).train.first(run.recipe.images_per_split) if args.branches else None
        images = pick_images(test_images, rows["index"]).to(world.device)
        batch = 256 if world.device.type == "cuda" else 10
        maps, branches = {}, {}
        for method in args.method:
            maps[method], speed = explain_images(model, images, method, size, rows, batch)
            print(f"{method}: {len(images):,} images, {speed:,.1f} images/s")
        if args.branches:
            predicted = predictions.logits.argmax(axis=1)
            every = pick_images(test_images, range(len(predicted))).to(world.device)
            branches = measure_branches(model, train.images, every, size, predicted, world)
    path = run.path / args.model / "attributions.npz"
    methods = {method: METHODS[method].parameters for method in maps}
    with results.still_of(run, weights):
        if previous := load_previous(run, args.model):  # another of these may have written since this one began
            branches = branches or previous.branches
            if all(map(np.array_equal, rows.values(), (previous.index, previous.target, previous.contrast))):  # the same question
                maps, methods = previous.maps | maps, previous.record.get("methods", {}) | methods
        record = {"image_size": size, "target": args.target, "methods": methods}
        results.write_attributions(path, rows, maps, branches, record)
    print(f"wrote {path}: {len(images):,} images, {', '.join(maps)}{', branches' if branches else ''}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
