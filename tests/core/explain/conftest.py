"""Three small models with random weights, three pictures, and a model of which everything is known by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from core.config import TRIO
from core.models import build_model


def make_model(name: str):
    """Random weights and BatchNorm statistics under which signals keep their size, as those of a trained model do."""
    torch.manual_seed(0)
    model = build_model(name, hidden=32)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.05)
            nn.init.uniform_(module.running_var, 1, 3)
            nn.init.normal_(module.bias, 0, 0.05)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.1)
    return model.eval()


@pytest.fixture(scope="session")
def models():
    return {name: make_model(name) for name in TRIO}


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Smooth pictures: blobs of colour, as neighbouring pixels of a photograph are alike."""
    blobs = torch.rand(3, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    return (F.interpolate(blobs, size=(32, 32), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


class Corner(nn.Module):
    """Features (N, 512) of which only the first is not 0: the red in the upper left 8x8 pixels, summed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, 0, :8, :8].sum((1, 2))[:, None], (0, 511))


@pytest.fixture
def corner():
    """A model whose logit 0 is Corner's feature and whose other logits are 0; linear, so that all is known by hand."""
    model = build_model("resnet18")
    model.backbones["resnet18"] = Corner()
    model.head = nn.Sequential(nn.Linear(512, 10, bias=False))
    nn.init.zeros_(model.head[0].weight)
    model.head[0].weight.data[0, 0] = 1.0
    return model.eval()
