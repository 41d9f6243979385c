"""Test images that have a near-duplicate in the training images: neighbours by features first, then by pixels. No torch here.

A network may know such an image from training, so its accuracy there says little (Barz & Denzler 2020). Two images are compared
as a person would: colours relative to each channel's mean and spread, shifted by up to 4 pixels, mirrored or not.
"""

import numpy as np

NEIGHBOURS = 10  # a test image's candidates
SHIFT = 4  # pixels to every side
SIDE = 32


def find_neighbours(features: np.ndarray, others: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Positions (N, k) of the `others` (M, D) with the largest cosine to each of `features` (N, D), the nearest first."""
    features, others = (one / np.linalg.norm(one, axis=1, keepdims=True).clip(np.finfo(np.float32).tiny) for one in (features, others))
    nearest = []
    for start in range(0, len(features), 500):  # (500, M) at a time: 100 MB for all of CIFAR-10
        cosine = features[start : start + 500] @ others.T
        few = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(cosine, few, axis=1), axis=1, kind="stable")
        nearest.append(np.take_along_axis(few, order, axis=1))
    return np.concatenate(nearest)


def compare_pixels(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Similarity (P,) of P pairs of uint8 images (P, 32, 32, 3): 1 where equal but for brightness, contrast, shift and mirroring.

    The largest correlation of the first's middle (24, 24, 3) with a window of the second or of its mirror image, each channel
    around its own mean; 0 for images without any structure.
    """
    inner = SIDE - 2 * SHIFT
    pieces = [slice(start, start + 500) for start in range(0, len(first), 500)]
    return np.concatenate([_correlate(first[piece].astype(np.float32), second[piece].astype(np.float32), inner) for piece in pieces])


def _correlate(first: np.ndarray, second: np.ndarray, inner: int) -> np.ndarray:
    def centre(window: np.ndarray) -> np.ndarray:  # (P, inner, inner, 3) -> (P, D) of length 1
        flat = (window - window.mean(axis=(1, 2), keepdims=True)).reshape(len(window), -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-3)

    middle, best = centre(first[:, SHIFT : SHIFT + inner, SHIFT : SHIFT + inner]), np.zeros(len(first), np.float32)
    for image in (second, second[:, :, ::-1]):
        for top in range(2 * SHIFT + 1):
            for left in range(2 * SHIFT + 1):
                window = centre(image[:, top : top + inner, left : left + inner])
                np.maximum(best, np.einsum("pd,pd->p", middle, window), out=best)
    return best
