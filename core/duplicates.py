"""Test images that show what a training image shows: neighbours by features first, then by pixels. No torch here.

A network may know such an image from training, so what it predicts there says little (Barz & Denzler 2020: 3.3 % of CIFAR-10's
test images). Pixels are compared as a person would: apart from brightness, contrast, a few pixels' shift and mirroring.
"""

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

NEIGHBOURS = 10  # training images that are compared with a test image
SHIFT = 4  # pixels to every side
THRESHOLD = 0.89  # of similarity. By eye, of 60 test images next above it 54 show what a training image shows, 6 have its shape alone
COARSE = 0.6  # correlation of 8x8 cells below which no finer comparison is worth its time


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


def normalise(images: np.ndarray) -> np.ndarray:
    """(P, h, w, 3) -> (P, D): each channel around its own mean, each image of length 1; zeros where there is no structure."""
    flat = (images - images.mean(axis=(1, 2), keepdims=True)).reshape(len(images), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-3)


def correlate(first: np.ndarray, second: np.ndarray, shift: int = SHIFT) -> np.ndarray:
    """Of pairs of images (P, S, S, 3) the largest correlation (P,) of the first's middle with a window of the second or its mirror
    image, of all windows up to `shift` pixels away."""
    inner, best = first.shape[1] - 2 * shift, []
    for start in range(0, len(first), 500):
        one, other = (images[start : start + 500].astype(np.float32) for images in (first, second))
        middle, found = normalise(one[:, shift : shift + inner, shift : shift + inner]), np.zeros(len(one), np.float32)
        for image in (other, other[:, :, ::-1]):
            for top, left in np.ndindex(2 * shift + 1, 2 * shift + 1):
                window = normalise(image[:, top : top + inner, left : left + inner])
                np.maximum(found, np.einsum("pd,pd->p", middle, window), out=found)
        best.append(found)
    return np.concatenate([np.zeros(0, np.float32), *best])


def keep_details(images: np.ndarray) -> np.ndarray:
    """uint8 (P, 32, 32, 3) -> what is finer than about 3 pixels and coarser than one: no noise, no sky above a horizon."""
    images = images.astype(np.float32)
    return gaussian_filter(images, (0, 0.7, 0.7, 0)) - gaussian_filter(images, (0, 3, 3, 0))


def compare_pixels(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Similarity (P,) of pairs of uint8 images (P, 32, 32, 3), at most 1: mean of two correlations, of the images and of their details.

    0 for pairs that cannot reach THRESHOLD, which the images' own correlation tells.
    """
    whole = correlate(first, second)
    near = whole >= 2 * THRESHOLD - 1
    similarity = np.zeros(len(whole), np.float32)
    similarity[near] = (whole[near] + correlate(keep_details(first[near]), keep_details(second[near]))) / 2
    return similarity


def find_duplicates(images: np.ndarray, features: np.ndarray, others: np.ndarray, other_features: np.ndarray) -> pd.DataFrame:
    """Pairs of test and training images that are near-duplicates, with the columns of near_duplicates.parquet.

    Test images are uint8 (N, 32, 32, 3) with features (N, D), training images (M, 32, 32, 3) and (M, D). A pair may be missed
    where the training image is not among the test image's NEIGHBOURS, or where it was cut, turned or enlarged.
    """
    near = find_neighbours(features, other_features)
    index, train_index = np.repeat(np.arange(len(near)), near.shape[1]), near.ravel()

    def coarsen(images: np.ndarray) -> np.ndarray:  # (P, 32, 32, 3) -> (P, 8, 8, 3)
        return images.reshape(len(images), 8, 4, 8, 4, 3).mean(axis=(2, 4))

    coarse = correlate(coarsen(images)[index], coarsen(others)[train_index], SHIFT // 4)
    index, train_index = index[coarse > COARSE], train_index[coarse > COARSE]
    similarity = compare_pixels(images[index], others[train_index])
    exact = (images[index] == others[train_index]).all(axis=(1, 2, 3))
    pairs = pd.DataFrame({"index": index, "train_index": train_index, "similarity": similarity, "kind": np.where(exact, "exact", "near")})
    return pairs[pairs["similarity"] >= THRESHOLD].sort_values(["index", "train_index"], ignore_index=True)
