"""Write a run's results anew from its checkpoints, or check that its shipped weights give its shipped predictions.

python scripts/evaluate.py results/imagenet-224-seed0                           every model that has a checkpoint
torchrun --nproc-per-node 4 scripts/evaluate.py results/imagenet-224-seed0      the same, on four GPUs
python scripts/evaluate.py results/imagenet-224-seed0 --check                   needs no checkpoints
python scripts/evaluate.py results/imagenet-224-seed0 --probe                   the control that is not fine-tuned
python scripts/evaluate.py results/imagenet-224-seed0 --features                what the shipped weights give beyond predictions
python scripts/evaluate.py --images                                             only results/test_images.parquet
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from core import results
from core.config import MODELS, ROOT, TRIO, Recipe, UserError, choose_models, exit_on_user_error, label, run_folder
from core.data import load_cifar10, open_cifar10
from core.evaluate import shipped_agreement, write_from_weights, write_probes, write_results
from core.models import describe_start_weights
from core.runtime import World, open_world
from core.train import load_checkpoint

REQUIRED_AGREEMENT = 0.999  # float16 weights may turn a few close calls


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        usage="%(prog)s RUN [options]", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=run_folder, nargs="?", help="run folder, such as results/imagenet-224-seed0")
    parser.add_argument("--model", nargs="+", default=["all"], choices=["all", *MODELS], help="which models (default: all there are)")
    parser.add_argument("--data", type=Path, help="folder that holds cifar-10-batches-py (default: download to data/)")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints", help="full training state (default: checkpoints/)")
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a model agrees on fewer than 99.9 %% of images")
    task.add_argument("--images", action="store_true", help="write only the test images; RUN is then the results folder, if another")
    task.add_argument(
        "--probe",
        action="store_true",
        help="write only the predictions of linear probes: linear classifiers on the start weights' features",
    )
    task.add_argument("--features", action="store_true", help="write only train_sample, features and linear_head, from shipped weights")
    parser.add_argument("--start-weights", default="imagenet", metavar="imagenet|FOLDER", help="for --probe (default: imagenet)")
    args = parser.parse_args()
    if not args.images and args.run is None:
        parser.error("name a run folder, or pass --images")
    if args.model != ["all"] and (args.images or args.probe or args.features):
        parser.error("--images, --probe and --features are of all models: leave out --model")
    return args


def write_images(args: argparse.Namespace) -> str:
    test = open_cifar10(args.data, train=False)
    if args.run and (args.run / "run.json").exists():
        raise UserError(f"--images: {args.run} is a run, and the test images lie beside runs: leave it out, or name the results folder")
    path = (args.run or results.RESULTS) / "test_images.parquet"
    results.write_test_images(path, test.data, np.array(test.targets))
    return f"wrote {path}: {len(test):,} images"


def rewrite(args: argparse.Namespace, world: World) -> str:
    folder = args.checkpoints / args.run.name
    paths = [folder / f"{m}.pt" for m in choose_models(args.model, [m for m in MODELS if (folder / f"{m}.pt").exists()])]
    if not paths:
        raise UserError(
            f"{folder} holds no checkpoints: train them (python scripts/train.py --help), or name their folder with --checkpoints"
        )
    checkpoints = [load_checkpoint(path) for path in paths]
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        if checkpoint["model_name"] != path.stem:
            raise UserError(f"{path} is of {checkpoint['model_name']}: give it that name")
        results.check_same_run(path, checkpoint["run"], checkpoints[0]["run"])
        recipe, done = Recipe.from_dict(checkpoint["run"]["recipe"]), len(checkpoint["history"])
        if done < recipe.epochs:
            if not recipe.is_current:
                former = f"an earlier version of recipe {recipe.name}"
                raise UserError(f"{path} has {done} of {recipe.epochs} epochs, by {former}: train it anew")
            options = f" --model {path.stem} --out {results.quote(args.run)} --checkpoints {results.quote(args.checkpoints)} --resume"
            options += f" --data {results.quote(args.data)}" if args.data else ""
            options += results.start_option(checkpoint["run"])
            more = f"python scripts/train.py --recipe {recipe.name} --seed {checkpoint['run']['seed']}{options}"
            raise UserError(f"{path} has {done} of {recipe.epochs} epochs: finish it with {more}")
    write_results(args.run, checkpoints, load_cifar10(args.data, world.device), world)
    return f"wrote {args.run}: {', '.join(path.stem for path in paths)}"


def probe(args: argparse.Namespace, world: World) -> str:
    run = results.load_run(args.run)
    if run.imported:
        raise UserError(f"{args.run} was trained elsewhere, from weights that nobody told: name a run that was trained here")
    if not (models := [model for model in run.models if model in TRIO]):
        raise UserError(f"{args.run} has none of {', '.join(TRIO)}, which alone are probed: name another run")
    start = describe_start_weights(args.start_weights, models)
    if start != {backbone: run.record["start_weights"].get(backbone) for backbone in start}:
        right = results.start_option(run.record).strip() or "--start-weights imagenet"
        told = "; ".join(f"{label(name)} from {start}" for name, start in run.starts.items())
        raise UserError(f"--start-weights {args.start_weights}: {args.run} started from other weights ({told}): pass {right}")
    write_probes(run, args.start_weights, load_cifar10(args.data, world.device), world)
    return f"wrote {args.run}: probe.parquet of {', '.join(models)}"


def find_all_weights(run: results.Run, models: list[str]) -> None:
    """Raise UserError where a model's weights are missing, before the data are asked for."""
    for model in models:
        results.find_weights(run, model)


def write_features(args: argparse.Namespace, world: World) -> str:
    run = results.load_run(args.run)
    find_all_weights(run, run.models)
    write_from_weights(run, load_cifar10(args.data, world.device), world)
    return f"wrote {args.run}: train_sample.parquet and features.parquet of {', '.join(run.models)}"


def check(args: argparse.Namespace, world: World) -> str:
    run = results.load_run(args.run)
    run.check_holds(args.model)
    models = choose_models(args.model, run.models)
    find_all_weights(run, models)
    data = load_cifar10(args.data, world.device)
    shares = {model: shipped_agreement(run, model, data, world) for model in models}
    line = f"{args.run}: shipped weights and predictions agree on " + ", ".join(f"{share:.2%} ({m})" for m, share in shares.items())
    if min(shares.values()) < REQUIRED_AGREEMENT:
        print(f"error: {line}: fewer than {REQUIRED_AGREEMENT:.1%}", file=sys.stderr)
        raise SystemExit(1)
    return f"checked {line} of the test images"


def main() -> None:
    args = parse_arguments()
    if args.images:
        print(write_images(args))
        return
    with open_world() as world:
        tasks = {check: args.check, probe: args.probe, write_features: args.features}
        line = next((task for task, asked in tasks.items() if asked), rewrite)(args, world)
        if world.is_main:
            print(line)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
