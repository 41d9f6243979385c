"""What several tests of attributions compare with, computed by other means."""

import numpy as np
import torch

from core.data import MEAN, STD, to_input


def corner_map(images: torch.Tensor) -> np.ndarray:
    """What each pixel adds to Corner's logit over the baseline's: (N, 32, 32)."""
    red = (images[:, 0].float() / 255 - MEAN[0]) / STD[0]
    expected = torch.zeros(len(images), 32, 32)
    expected[:, :8, :8] = red[:, :8, :8]
    return expected.numpy()


def changes_of(model, images: torch.Tensor) -> tuple[list[int], np.ndarray]:
    """For each image the class whose logit is furthest from the baseline's, and by how much."""
    with torch.no_grad():
        changes = model(to_input(images, 32)) - model(torch.zeros(len(images), 3, 32, 32))
    target = changes.abs().argmax(1)
    return target.tolist(), changes[range(len(images)), target].numpy()
