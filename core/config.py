"""The names everything shares, and the recipes: frozen, complete sets of training settings."""

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

ROOT = Path(__file__).resolve().parent.parent

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class UserError(Exception):
    """Bad input: one line that says what is wrong and what to do."""

    def __init__(self, line: str) -> None:
        super().__init__(" ".join(line.split()))  # libraries' messages, quoted in it, may take several


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """What a script does with a UserError: print its line to standard error and exit with code 2; with Ctrl+C: end without a traceback."""
    for stream in (sys.stdout, sys.stderr):  # a console that lacks a character shows another, and no script fails for it
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


def choose_models(asked: Iterable[str], whole: Iterable[str]) -> list[str]:
    """The models that a command line asks for, in their order; "all" stands for those of `whole`."""
    return [model for model in MODELS if model in asked or ("all" in asked and model in whole)]


def check_range(option: str, value: float, low: float, high: float) -> None:
    """Raise UserError unless the number given with a command line's option lies from `low` to `high`; NaN lies nowhere."""
    if not low <= value <= high:
        raise UserError(f"{option} {value}: choose {low:,} to {high:,}")


def run_folder(text: str) -> Path:
    """A run's folder as a command line names it, with a name of its own where that is "." or "..": checkpoints and files aside bear it."""
    path = Path(text)
    return path if path.name not in ("", "..") else path.resolve()


@dataclass(frozen=True)
class Backbone:
    """One torchvision network and what the project must know of its insides."""

    name: str  # torchvision's; spelt so in folders, columns and URLs
    label: str  # shown
    width: int  # of the features it hands on
    classification_layer: str  # left out
    last_block: str  # its output is the last convolution's, as the pooling sees it
    stages: tuple[tuple[str, ...], ...]  # modules from the output to the input, one for each halving of the image

    def count_places(self, image_size: int) -> int:
        """How many places a side the last block's output has: there are as many halvings as stages."""
        return -(-image_size // 2 ** len(self.stages))


@dataclass(frozen=True)
class Model:
    """One classifier: a backbone, or several whose features are concatenated."""

    name: str
    label: str
    backbones: tuple[str, ...]


RESNET_STAGES = (("layer4",), ("layer3",), ("layer2",), ("layer1",), ("conv1", "bn1"))
MOBILENET_STAGES = tuple(tuple(f"features.{i}" for i in range(*ends)) for ends in ((14, 19), (7, 14), (4, 7), (2, 4), (0, 2)))
BACKBONES = {
    b.name: b
    for b in (
        Backbone("resnet18", "ResNet18", 512, "fc", "layer4", RESNET_STAGES),
        Backbone("mobilenet_v2", "MobileNetV2", 1280, "classifier", "features", MOBILENET_STAGES),
        Backbone("resnet34", "ResNet34", 512, "fc", "layer4", RESNET_STAGES),  # a control: one network that costs more than the fusion
    )
}
FUSION = Model("fusion", "Fusion", ("resnet18", "mobilenet_v2"))
BASELINES = FUSION.backbones  # the models the fusion is compared with; relative measures refer to the first
TRIO = (*BASELINES, FUSION.name)  # what a whole run holds
MODELS = {name: Model(name, BACKBONES[name].label, (name,)) for name in BASELINES}  # all that can be trained
MODELS |= {FUSION.name: FUSION} | {name: Model(name, b.label, (name,)) for name, b in BACKBONES.items() if name not in BASELINES}
CONTROLS = tuple(name for name in MODELS if name not in TRIO)  # trained beside them, where anyone asks
ENSEMBLE, ORACLE = "ensemble", "oracle"  # derived from the baselines, never trained nor stored


def label(name: str) -> str:
    """How a model, trained or derived, is called wherever it is shown."""
    derived = {ENSEMBLE: "Ensemble", ORACLE: "Oracle"}
    return derived[name] if name in derived else MODELS[name].label


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a model is trained, apart from the seed and the start weights."""

    name: str
    image_size: int  # pixels a side after the resize; without image_sizes in every epoch
    frozen_epochs: int  # phase 1: the head alone, on frozen backbones
    finetune_epochs: int  # phase 2: backbones too
    batch_size: int  # images a step, over all processes
    lr_head: float = 1e-3  # of the fusion's MLP and branch heads
    lr_baseline_head: float = 1e-3  # of the linear head of one backbone, and of a shortcut's last layer
    lr_backbone: float = 5e-4
    weight_decay: float = 0.05  # not on biases and norms
    label_smoothing: float = 0.1
    warmup_fraction: float = 0.05  # of all steps; the backbones warm up over as many when they are unfrozen
    clip_norm: float = 1.0
    crop_padding: int = 4  # pixels of the 32x32 source
    jitter: float = 0.2  # brightness, contrast and saturation factors are drawn from 1 ± jitter
    hidden: int = 512  # width of the fusion head
    dropout: float = 0.2
    bfloat16: bool = True  # autocast, where the device computes in bfloat16 (see runtime.autocast_dtype)
    compile: bool = False
    images_per_split: int | None = None  # only the first n of each split: for tests
    branch_loss: float = 0.0  # weight of a fusion's branch heads in the loss; 0: the fused head alone
    image_sizes: tuple[int, ...] | None = None  # pixels a side in each epoch, trained and evaluated; the last is image_size
    frozen_stages: int = 0  # of each backbone, from the input on: they keep their start weights in phase 2 too
    shortcut: bool = False  # the fused logits are the mean of the branch heads' and what the MLP adds

    def check(self) -> None:
        """Raises UserError where settings cannot be, or do not fit one another."""
        if not 0 <= self.branch_loss < float("inf"):
            raise UserError(f"recipe {self.name}: branch_loss is {self.branch_loss}: a weight is 0 or more")
        if self.shortcut and not self.branch_loss:
            raise UserError(f"recipe {self.name}: a shortcut adds up branch heads, which learn by their losses: choose a branch_loss")
        stages = min(len(backbone.stages) for backbone in BACKBONES.values())
        if not 0 <= self.frozen_stages <= stages:
            raise UserError(f"recipe {self.name}: frozen_stages is {self.frozen_stages}: choose 0 to {stages}")
        if self.image_sizes is not None:
            if len(self.image_sizes) != self.epochs:
                raise UserError(f"recipe {self.name}: image_sizes names {len(self.image_sizes)} sizes for {self.epochs} epochs")
            if not all(isinstance(size, int) and size >= 32 for size in self.image_sizes):
                raise UserError(f"recipe {self.name}: image_sizes holds {self.image_sizes}: a size is a whole number from 32 on")
            if self.image_sizes[-1] != self.image_size:
                raise UserError(
                    f"recipe {self.name}: image_sizes ends with {self.image_sizes[-1]}: choose {self.image_size}, its image_size"
                )

    @property
    def is_current(self) -> bool:
        """Whether training by the recipe of this name has these settings: it may have been changed since a run was trained."""
        return self.name in RECIPES and replace(self, images_per_split=None) == replace(RECIPES[self.name], images_per_split=None)

    @property
    def epochs(self) -> int:
        return self.frozen_epochs + self.finetune_epochs

    @property
    def training_sizes(self) -> tuple[int, ...]:
        """Pixels a side in each epoch of training."""
        return self.image_sizes or (self.image_size,) * self.epochs

    @property
    def size_in_words(self) -> str:
        """Of the images: '96×96 px', and where they were of other sizes in training those too, epoch by epoch."""
        training = f" (in training {', '.join(map(str, self.image_sizes))})" if self.image_sizes else ""
        return f"{self.image_size}×{self.image_size} px{training}"

    @property
    def tuned_in_words(self) -> str:
        """What phase 2 trains."""
        return f"all but the backbones' first {self.frozen_stages} stages" if self.frozen_stages else "everything"

    @property
    def rates_in_words(self) -> str:
        """Peak learning rates: '0.0005 (backbones), 0.01 (head of a baseline), 0.001 (heads of the fusion)'."""
        linear, hidden = ("linear heads", "hidden layer of the fusion") if self.shortcut else ("head of a baseline", "heads of the fusion")
        heads = f"{self.lr_baseline_head:g} ({linear}), {self.lr_head:g} ({hidden})"
        return f"{self.lr_backbone:g} (backbones), {heads if self.lr_baseline_head != self.lr_head else f'{self.lr_head:g} (heads)'}"

    @property
    def plain(self) -> "Recipe":
        """The settings alone, without a name, branch losses and their shortcut: what a run and its control share."""
        return replace(self, name="", branch_loss=0.0, shortcut=False)

    @property
    def network(self) -> dict[str, Any]:
        """What models.build_model must know."""
        return {"hidden": self.hidden, "dropout": self.dropout, "branch_heads": self.branch_loss > 0, "shortcut": self.shortcut}

    @property
    def variant(self) -> str:
        """What tells its runs from others' in their folder names: `96-branch` of `cpu-96-branch`."""
        return self.name.partition("-")[2] or str(self.image_size)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "Recipe":
        """Rebuild a recipe from run.json; settings newer than it take their defaults. Raises UserError on unknown or wrong ones."""
        if not isinstance(settings, dict):
            raise UserError("the recipe is not an object")
        kinds = get_type_hints(cls)
        unknown = sorted(settings.keys() - kinds.keys())
        if unknown:
            raise UserError(f"the recipe has settings this version does not know: {', '.join(unknown)}")
        settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}  # JSON has no tuples
        for name, value in settings.items():
            allowed = tuple(get_origin(kind) or kind for kind in get_args(kinds[name]) or (kinds[name],))
            if not isinstance(value, (*allowed, int) if float in allowed else allowed):
                raise UserError(f"the recipe's {name} is {value!r}, which is not its type")
        try:
            recipe = cls(**settings)
        except TypeError as error:
            raise UserError(f"the recipe is incomplete: {error}") from None
        recipe.check()
        return recipe


RECIPES = {
    r.name: r
    for r in (
        Recipe(
            "full-224",
            image_size=224,
            frozen_epochs=2,
            finetune_epochs=12,
            batch_size=256,
            compile=True,
            branch_loss=1.0,
            shortcut=True,
            lr_baseline_head=1e-2,
        ),
        Recipe("cpu-96", image_size=96, frozen_epochs=1, finetune_epochs=4, batch_size=128),  # plain concatenation: the control
        Recipe("cpu-96-branch", image_size=96, frozen_epochs=1, finetune_epochs=4, batch_size=128, branch_loss=1.0),
        Recipe(  # rates, sizes and frozen stages were chosen on validation images
            "cpu-224",
            image_size=224,
            frozen_epochs=1,
            finetune_epochs=4,
            batch_size=64,
            lr_baseline_head=1e-2,
            branch_loss=1.0,
            lr_backbone=2.5e-4,
            image_sizes=(128, 224, 224, 224, 224),
            frozen_stages=2,
            shortcut=True,
        ),
        Recipe(
            "smoke",
            image_size=32,
            frozen_epochs=1,
            finetune_epochs=2,
            batch_size=32,
            lr_baseline_head=2e-3,
            hidden=16,
            bfloat16=False,
            images_per_split=200,
            branch_loss=1.0,
            shortcut=True,
        ),
    )
}
