"""Why a model predicts as it does: Captum's attributions as maps on the 32x32 source pixels, and tests of how far to trust them.

score      what is explained: a Question is a model, images and a target class; the Score is its logit as a function of the pixels
methods    the Question's maps, a method a function
branches   what each branch of a fusion carries
trust      whether a map follows the weights, the pixels and the score

This file is what a page must know of the methods to show maps computed before; it does without torch.
"""

from collections.abc import Callable
from dataclasses import dataclass

WHOLE = "whole"  # names a map that is not divided by branch
PIECE = 5  # Gauss-Legendre points on one piece of Integrated Gradients' path


@dataclass(frozen=True)
class Method:
    """What a reader must know of a method. methods.py computes it, in the function of the same name."""

    label: str
    meaning: str
    misleads: str
    parameters: dict[str, float]  # defaults
    evaluations: Callable[..., float]  # images put through the model for one map, at most
    signed: bool  # does a value above 0 speak for the score, below 0 against it? Else maps tell strength alone
    by_branch: bool = False  # one map a backbone, which add up to the whole

    @property
    def passes(self) -> float:
        """`evaluations` with the defaults."""
        return self.evaluations(**self.parameters)


METHODS = {
    "saliency": Method(
        "Saliency",
        "How strongly the score reacts to a small change of each pixel, up or down.",
        "Noisy, and silent about evidence the model is already sure of: where the score is flat, the gradient vanishes.",
        {},
        lambda: 1,
        signed=False,
    ),
    "integrated_gradients": Method(
        "Integrated Gradients",
        "How many logits each pixel adds or takes on the way from the mean colour to this image; the map adds up to the whole change.",
        "A pixel of the mean colour gets nothing, however much it matters; the image is a factor of its map and so shows through.",
        {"steps": 25, "max_steps": 200},
        lambda steps, max_steps: max(steps, max_steps) * (PIECE + 2) / PIECE,
        signed=True,
        by_branch=True,
    ),
    "grad_cam": Method(
        "Grad-CAM",
        "Where the last convolution of each backbone saw evidence for the target.",
        "Coarse: it knows only the last block's places; evidence against the target is cut off, and an earlier layer may tell otherwise.",
        {},
        lambda: 2,
        signed=True,
        by_branch=True,
    ),
    "grad_cam_signed": Method(
        "Signed Grad-CAM",
        "Where the last convolution of each backbone saw evidence for the target, and where against it.",
        "As coarse as Grad-CAM; its published form cuts the negative half off, so it has been studied less.",
        {},
        lambda: 2,
        signed=True,
        by_branch=True,
    ),
    "smoothgrad": Method(
        "SmoothGrad",
        "The strength of the gradient averaged over noisy copies of the image: what of it is stable.",
        "Shows the noisy images' gradients: much noise explains images the model was never trained on.",
        {"samples": 25, "noise": 0.1},  # noise: standard deviation, of the pixels' range
        lambda samples, noise: samples,
        signed=False,
    ),
    "occlusion": Method(
        "Occlusion",
        "By how many logits the score falls when a square of the mean colour hides a place.",
        "The painted square is itself new to the model; evidence that lies in two places goes unnoticed, and detail finer than it is lost.",
        {"window": 8, "stride": 4},  # pixels
        lambda window, stride: (-(-(32 - window) // stride) + 1) ** 2 + 1,
        signed=True,
    ),
    "guided_backprop": Method(
        "Guided Backprop",
        "The gradient along paths on which every ReLU passes a positive one: sharp outlines of what excites the target, light or dark.",
        "Close to an edge detector: it changes little when upper layers are randomised, so it says more of the image than of the model.",
        {},
        lambda: 1,
        signed=False,
    ),
}
