"""Train models and write a whole run to results/.

python scripts/train.py --recipe cpu-96 --seed 3                               all three models, on what the machine has
torchrun --nproc-per-node 4 scripts/train.py --recipe full-224 --seed 3        the same, on four GPUs
python scripts/train.py --recipe cpu-96 --seed 3 --resume                      go on after an interruption
"""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core import results
from core.config import MODELS, RECIPES, ROOT, TRIO, UserError, check_range, choose_models, exit_on_user_error, run_folder
from core.data import load_cifar10
from core.evaluate import write_results
from core.runtime import open_world
from core.train import describe_run, fit, load_checkpoint, load_checkpoint_of


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, choices=RECIPES, help="a named, complete set of training settings")
    parser.add_argument(
        "--model", nargs="+", default=["all"], choices=["all", *MODELS], help="which models (default: baselines and fusion)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of shuffle, augmentation, dropout and heads (default: 0)")
    parser.add_argument("--data", type=Path, help="folder that holds cifar-10-batches-py (default: download to data/)")
    parser.add_argument(
        "--start-weights",
        default="imagenet",
        metavar="imagenet|none|FOLDER",
        help="torchvision's ImageNet weights (default), random ones, or a folder of resnet18.safetensors and mobilenet_v2.safetensors",
    )
    parser.add_argument("--out", type=run_folder, help="run folder (default: results/START-SIZE-seedSEED, or as the recipe is named)")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints", help="full training state (default: checkpoints/)")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoints, or add models to the run")
    return parser.parse_args()


def stop(signum: int, _: object) -> None:
    """The last checkpoint is at most ten minutes of steps old, so there is nothing to save but a word."""
    print(f"stopped by {signal.Signals(signum).name}: the last checkpoint is kept; go on with --resume", file=sys.stderr)
    raise SystemExit(128 + signum)


def main() -> None:
    args = parse_arguments()
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, stop)
    recipe = RECIPES[args.recipe]
    recipe.check()
    out = args.out or results.RESULTS / results.name_run(recipe, args.seed, args.start_weights == "none")
    models = choose_models(args.model, TRIO)
    check_range("--seed", args.seed, 0, 2**32 - 1)
    if out.exists() and not args.resume:
        raise UserError(f"{out} exists: choose another --seed or --out, or continue it with --resume")
    paths = [args.checkpoints / out.name / f"{model}.pt" for model in models]
    for path in paths:
        if path.exists() and not args.resume:
            raise UserError(f"{path} exists: continue it with --resume, or delete it")
    with open_world() as world:
        data = load_cifar10(args.data, world.device)
        run = describe_run(recipe, args.seed, args.start_weights, data, world, models)
        if out.exists():
            results.check_same_run(out / "run.json", results.load_run(out).record, run)
        for model, path in zip(models, paths, strict=True):  # all of them before anything is trained
            if path.exists():
                load_checkpoint_of(model, run, path)
        for model, path in zip(models, paths, strict=True):
            fit(model, recipe, args.start_weights, data, run, world, path)
        write_results(out, [load_checkpoint(path) for path in paths], data, world)
        if world.is_main:
            images = out.parent / "test_images.parquet"
            with results.one_at_a_time(images):
                if not images.exists():
                    results.write_test_images(images, data.test.images.permute(0, 2, 3, 1).cpu().numpy(), data.test.labels.cpu().numpy())
            print(f"wrote {out}: {', '.join(models)}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
