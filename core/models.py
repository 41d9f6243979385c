"""The three classifiers, and the weights they start from.

A classifier is one or two torchvision backbones without their classification layers, their features side by side, and
a head that ends in a linear layer: ResNet18 (N, 512) and MobileNetV2 (N, 1280) alone, or both (N, 1792) for the fusion.
"""

import hashlib
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from core.config import BACKBONES, CLASSES, FEATURES, MODELS, UserError

CLASSIFICATION_LAYER = {"resnet18": "fc", "mobilenet_v2": "classifier"}
REBUILT = {  # sha256 -> the right name of weights that are not what torchvision's download gives
    "20b711b860eeb84e42a87712170445151b8100910f15f13534547fd929eedddf": "ImageNet weights as rebuilt (without the last residual block)",
    "2edcd6724e55cfcd85a2ddeafb02a2dae2db321e44a719394d4c9b2a55fc1986": "ImageNet weights as rebuilt",
}


def build_backbone(name: str) -> nn.Module:
    """torchvision's network without its classification layer: (N, 3, H, W) -> (N, FEATURES[name]). Random weights."""
    backbone = torchvision.models.get_model(name, weights=None)
    setattr(backbone, CLASSIFICATION_LAYER[name], nn.Identity())
    return backbone


class Classifier(nn.Module):
    """Backbones, their features side by side, and a head whose last layer is linear."""

    def __init__(self, backbones: tuple[str, ...], head: nn.Sequential):
        super().__init__()
        self.backbones = nn.ModuleDict({name: build_backbone(name) for name in backbones})
        self.head = head
        self.frozen = False

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 512), (N, 1280) or, for the fusion, (N, 1792)."""
        return torch.cat([backbone(x) for backbone in self.backbones.values()], dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> logits (N, 10)."""
        return self.head(self.forward_features(x))

    def forward_penultimate(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 3, H, W) -> what the last layer sees (N, D), and logits (N, 10)."""
        hidden = self.head[:-1](self.forward_features(x))
        return hidden, self.head[-1](hidden)

    def freeze(self, frozen: bool) -> None:
        """Freeze the backbones, BatchNorm statistics included, or thaw them."""
        self.frozen = frozen
        self.backbones.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        if self.frozen:
            self.backbones.eval()
        return self


class BaselineNet(Classifier):
    """One backbone and a linear layer."""

    def __init__(self, backbone: str, dropout: float):
        super().__init__((backbone,), nn.Sequential(nn.Dropout(dropout), nn.Linear(FEATURES[backbone], len(CLASSES))))


class FusionNet(Classifier):
    """Both backbones; their 512 + 1280 features concatenated, normalised and fed to one hidden layer."""

    def __init__(self, hidden: int, dropout: float):
        width = sum(FEATURES[name] for name in BACKBONES)
        head = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),  # (N, 1792) -> (N, hidden)
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, len(CLASSES)),
        )
        super().__init__(BACKBONES, head)


def build_model(name: str, start_weights: str = "none", hidden: int = 512, dropout: float = 0.2) -> Classifier:
    """Build one of MODELS, its backbones loaded from `start_weights` (see find_start_weights). Raises UserError."""
    if name == "fusion":
        model = FusionNet(hidden, dropout)
    elif name in BACKBONES:
        model = BaselineNet(name, dropout)
    else:
        raise UserError(f"unknown model {name!r}: choose from {', '.join(MODELS)}")
    if start_weights != "none":
        for backbone_name, backbone in model.backbones.items():
            load_weights(backbone, find_start_weights(start_weights)[backbone_name], CLASSIFICATION_LAYER[backbone_name])
    return model.to(memory_format=torch.channels_last)


def find_start_weights(source: str) -> dict[str, Path]:
    """Each backbone's weights file: `imagenet` (torchvision's IMAGENET1K_V1, downloaded) or a folder of NAME.safetensors."""
    if source == "imagenet":
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        paths = {}
        for name in BACKBONES:
            weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
            try:
                weights.get_state_dict(progress=True, check_hash=True)
            except (OSError, RuntimeError) as error:
                raise UserError(
                    f"torchvision's {name} weights could not be downloaded ({error}); "
                    "pass a folder of safetensors files with --start-weights"
                ) from None
            paths[name] = folder / Path(weights.url).name
        return paths
    paths = {name: Path(source) / f"{name}.safetensors" for name in BACKBONES}
    for path in paths.values():
        if not path.is_file():
            raise UserError(f"{path} is missing: --start-weights takes imagenet, none, or a folder that holds it")
    return paths


def describe_start_weights(source: str) -> dict:
    """For run.json: each backbone's weights by name, file and sha256."""
    if source == "none":
        return {name: {"name": "random", "file": None, "sha256": None} for name in BACKBONES}
    described = {}
    for name, path in find_start_weights(source).items():
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        default = "torchvision IMAGENET1K_V1" if source == "imagenet" else f"state dict {path.name}"
        described[name] = {"name": REBUILT.get(sha256, default), "file": path.name, "sha256": sha256}
    return described


def load_weights(module: nn.Module, path: Path, ignored_prefix: str | None = None) -> None:
    """Load a safetensors file, or one torchvision downloaded, into `module`; every other layer must be there and fit.

    Half-precision values are widened. Raises UserError that names the file and what is wrong with it.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        raise UserError(f"{path} cannot be read as weights ({error}): fetch it again") from None
    if ignored_prefix:
        state = {key: value for key, value in state.items() if not key.startswith(f"{ignored_prefix}.")}
    expected = module.state_dict()
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
