"""The three classifiers, and the weights they start from.

A classifier is one or two torchvision backbones without their classification layers, their features side by side, and
a head that ends in a linear layer: ResNet18 (N, 512) and MobileNetV2 (N, 1280) alone, or both (N, 1792) for the fusion.
"""

import hashlib
import pickle
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from core.config import BACKBONES, CLASSES, MODELS, TRIO, UserError

REBUILT = {  # sha256 -> the right name of weights that are not what torchvision's download gives
    "20b711b860eeb84e42a87712170445151b8100910f15f13534547fd929eedddf": "ImageNet weights as rebuilt (without the last residual block)",
    "2edcd6724e55cfcd85a2ddeafb02a2dae2db321e44a719394d4c9b2a55fc1986": "ImageNet weights as rebuilt",
}


def build_backbone(name: str) -> nn.Module:
    """torchvision's network without its classification layer: (N, 3, H, W) -> (N, width). Random weights."""
    backbone = torchvision.models.get_model(name, weights=None)
    setattr(backbone, BACKBONES[name].classification_layer, nn.Identity())
    return backbone


def build_head(width: int, dropout: float) -> nn.Sequential:
    """One linear layer: (N, width) -> logits (N, 10)."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, len(CLASSES)))


def build_fusion_head(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """Concatenated features, normalised, through one hidden layer: (N, width) -> (N, hidden) -> logits (N, 10)."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, len(CLASSES)),
    )


class Beside(nn.Module):
    """A layer's output and, beside it, its input divided by `parts`: (N, width) -> (N, hidden + width)."""

    def __init__(self, layer: nn.Module, parts: int) -> None:
        super().__init__()
        self.layer = layer
        self.parts = parts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.layer(x), x / self.parts], dim=1)


def build_shortcut_head(width: int, hidden: int, dropout: float, branches: int) -> nn.Sequential:
    """A fusion head whose last layer sees the hidden layer and, past it, the features: (N, width) -> logits (N, 10).

    It starts as the mean of its branches' own linear heads (see Classifier): the hidden layer's weights in it start from zero.
    """
    last = nn.Linear(hidden + width, len(CLASSES))
    with torch.no_grad():
        last.weight[:, :hidden] = 0
    return nn.Sequential(
        Beside(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.ReLU()), branches),
        nn.Dropout(dropout),
        last,
    )


class Classifier(nn.Module):
    """Backbones, their features side by side, and a head whose last layer is linear.

    A fusion may have branch heads: a linear head on each backbone's features alone, trained beside the fused head so that no
    branch is starved (Wang et al., CVPR 2020; Du et al., ICML 2023). They are layers of their own, which are no part of the
    shipped weights, or, where the head has a shortcut, the columns of its last layer that see that backbone's features.
    """

    def __init__(self, backbones: tuple[str, ...], head: nn.Sequential, branch_heads: dict[str, nn.Sequential] | None = None) -> None:
        super().__init__()
        self.backbones = nn.ModuleDict({name: build_backbone(name) for name in backbones})
        self.head = head
        self.branch_heads = nn.ModuleDict(branch_heads or {})
        self.frozen = False
        self.frozen_parts: list[nn.Module] = []

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 512), (N, 1280) or, for the fusion, (N, 1792)."""
        return torch.cat([backbone(x) for backbone in self.backbones.values()], dim=1)

    def forward(self, x: torch.Tensor, branches: bool = False) -> torch.Tensor:
        """(N, 3, H, W) -> logits (N, 10); with `branches` those of the branch heads too, (1 + branch heads, N, 10)."""
        features = self.forward_features(x)
        if not branches:
            return self.head(features)
        return torch.stack([self.head(features), *self.forward_branch_heads(features).values()])

    def split_features(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Features side by side (N, D) -> each backbone's own."""
        return dict(zip(self.backbones, features.split([BACKBONES[name].width for name in self.backbones], dim=1), strict=True))

    @property
    def shortcut(self) -> bool:
        """Does the head's last layer see the features too?"""
        return isinstance(self.head[0], Beside)

    def forward_branch_heads(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Features side by side (N, D) -> the logits (N, 10) of each branch head; of none where the model has none."""
        parts = self.split_features(features)
        if not self.shortcut:
            return {name: head(parts[name]) for name, head in self.branch_heads.items()}
        _, dropout, last = self.head
        weight, bias = last.parameters()
        columns = self.split_features(weight[:, -features.shape[1] :])
        return {name: F.linear(dropout(part), columns[name], bias) for name, part in parts.items()}

    def freeze(self, frozen: bool, stages: int = 0) -> None:
        """Freeze the backbones, BatchNorm statistics included, or unfreeze all but each one's first `stages` stages."""
        self.frozen = frozen
        self.frozen_parts = [self.backbones] if frozen else []
        if not frozen:
            for name, backbone in self.backbones.items():
                first = BACKBONES[name].stages[::-1][:stages]
                self.frozen_parts += [backbone.get_submodule(module) for stage in first for module in stage]
        self.backbones.requires_grad_(True)
        for part in self.frozen_parts:
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        for part in self.frozen_parts:
            part.eval()
        return self


def build_model(
    name: str, start_weights: str = "none", hidden: int = 512, dropout: float = 0.2, branch_heads: bool = False, shortcut: bool = False
) -> Classifier:
    """Build one of MODELS, its backbones loaded from `start_weights` (see find_start_weights). Raises UserError.

    One backbone has a linear head; several have an MLP of `hidden` units and, where asked for, a linear head a branch, whose
    mean the MLP only corrects with a `shortcut`.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}: choose from {', '.join(MODELS)}")
    backbones = MODELS[name].backbones
    width = sum(BACKBONES[one].width for one in backbones)
    if len(backbones) == 1:
        model = Classifier(backbones, build_head(width, dropout))
    elif shortcut:
        model = Classifier(backbones, build_shortcut_head(width, hidden, dropout, len(backbones)))
    else:
        branches = {one: build_head(BACKBONES[one].width, dropout) for one in backbones} if branch_heads else {}
        model = Classifier(backbones, build_fusion_head(width, hidden, dropout), branches)
    if start_weights != "none":
        paths = find_start_weights(start_weights, backbones)
        for one, backbone in model.backbones.items():
            load_weights(backbone, paths[one], BACKBONES[one].classification_layer)
    return model.to(memory_format=torch.channels_last)


def find_start_weights(source: str, backbones: Iterable[str]) -> dict[str, Path]:
    """Each of the `backbones`'s weights file: `imagenet` (torchvision's IMAGENET1K_V1, downloaded) or a folder of NAME.safetensors."""
    if source == "imagenet":
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        paths = {}
        for name in backbones:
            weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
            path = paths[name] = folder / Path(weights.url).name
            try:
                weights.get_state_dict(progress=True, check_hash=True)
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                if path.exists():
                    raise UserError(f"{path} cannot be read as weights ({str(error)[:200]}): delete it, it is then fetched again") from None
                raise UserError(
                    f"torchvision's {name} weights could not be downloaded ({error}); "
                    "pass a folder of safetensors files with --start-weights"
                ) from None
        return paths
    paths = {name: Path(source) / f"{name}.safetensors" for name in backbones}
    for path in paths.values():
        if not path.is_file():
            raise UserError(f"{path} is missing: --start-weights takes imagenet, none, or a folder that holds it")
    return paths


def describe_start_weights(source: str, models: Iterable[str] = TRIO) -> dict[str, dict[str, str | None]]:
    """For run.json: the weights of each backbone of `models` by name, file and sha256."""
    backbones = dict.fromkeys(backbone for model in models for backbone in MODELS[model].backbones)
    if source == "none":
        return {name: {"name": "random", "file": None, "sha256": None} for name in backbones}
    described: dict[str, dict[str, str | None]] = {}
    for name, path in find_start_weights(source, backbones).items():
        try:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): make it readable") from None
        default = "torchvision IMAGENET1K_V1" if source == "imagenet" else f"state dict {path.name}"
        described[name] = {"name": REBUILT.get(sha256, default), "file": path.name, "sha256": sha256}
    return described


def load_weights(module: nn.Module, path: Path, ignored_prefix: str | None = None) -> None:
    """Load a safetensors file, or one torchvision downloaded, into `module`; every other layer must be there and fit.

    Half-precision values are widened; a file may lack BatchNorm's counters. Raises UserError that names the file and what is wrong with it.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("it does not hold one tensor a name")
    except Exception as error:  # torch.load raises many kinds on damaged files
        raise UserError(f"{path} cannot be read as weights ({str(error)[:200]}): fetch it again") from None
    if ignored_prefix:
        state = {key: value for key, value in state.items() if not key.startswith(f"{ignored_prefix}.")}
    expected = module.state_dict()
    # BatchNorm's counters of batches, which nothing here reads, are younger than torchvision's files of ResNets
    state = {key: value for key, value in expected.items() if key.endswith(".num_batches_tracked")} | state
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        what = f"lacks layer {missing[0]}" if missing else f"has an unknown layer {unknown[0]}"
        raise UserError(f"{path} {what} ({len(missing)} missing, {len(unknown)} unknown): it is not of this architecture")
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise UserError(f"{path}: {key} has shape {tuple(value.shape)}, the model needs {tuple(expected[key].shape)}")
    module.load_state_dict(state)


def count_costs(model: Classifier, image_size: int) -> dict[str, int]:
    """Parameters, and multiply-accumulates of one image (convolutions and linear layers, as torch's FlopCounterMode counts)."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, image_size, image_size, device=device))
    model.train(was_training)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": counter.get_total_flops() // 2,
    }
