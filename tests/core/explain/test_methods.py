"""Attributions against values by hand, autograd or a second computation, on all three models with random weights."""

import copy
import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients
from torch import nn

from core.config import TRIO, UserError
from core.data import MEAN, STD, to_input
from core.explain import METHODS, WHOLE
from core.explain.methods import COMPUTE, FLOOR, TOLERANCE, HookedReLU6, attribute, whole
from core.explain.score import SIDE, Question, score_change
from core.models import build_model
from tests.core.explain.by_hand import changes_of, corner_map

SIZE = 64
GREY = torch.tensor(MEAN)[:, None, None]
about = Question.about


def resize_matrix(size: int) -> torch.Tensor:
    """(size, 32): bilinear weights of the source pixels, from the definition with half-pixel centres."""
    matrix = torch.zeros(size, 32)
    for row in range(size):
        at = min(max((row + 0.5) * 32 / size - 0.5, 0), 31)
        low = int(at)
        matrix[row, low] += 1 - (at - low)
        matrix[row, min(low + 1, 31)] += at - low
    return matrix


def input_gradient(model, images: torch.Tensor, target: int) -> torch.Tensor:
    """Gradient of a logit with respect to the network's own input (N, 3, SIZE, SIZE), by autograd."""
    x = to_input(images, SIZE).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, target].sum(), x)
    return gradient


@pytest.mark.parametrize("name", TRIO)
def test_saliency_is_autograds_gradient_summed_over_the_footprint(name, models, images):
    matrix = resize_matrix(SIZE)
    torch.testing.assert_close(
        torch.einsum("ri,ncij,sj->ncrs", matrix, (images / 255 - GREY) / torch.tensor(STD)[:, None, None], matrix), to_input(images, SIZE)
    )
    gradient = torch.einsum("ri,ncrs,sj->ncij", matrix, input_gradient(models[name], images, 4), matrix)
    expected = (gradient / torch.tensor(STD)[:, None, None]).abs().sum(1)
    maps = attribute(about(models[name], images, 4, SIZE), "saliency")
    assert maps.keys() == {WHOLE} and maps[WHOLE].shape == (3, 32, 32) and maps[WHOLE].dtype == np.float32
    np.testing.assert_allclose(maps[WHOLE], expected.numpy(), atol=1e-4 * expected.max().item())


@pytest.mark.parametrize("name", TRIO)
def test_integrated_gradients_add_up(name, models, images):
    target, change = changes_of(models[name], images)
    parts = attribute(about(models[name], images, target, 32), "integrated_gradients")
    np.testing.assert_allclose(score_change(about(models[name], images, target, 32)), change, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(whole(parts).sum((1, 2)), change, rtol=0.0101, atol=len(parts) * FLOOR)
    assert list(parts) == list(models[name].backbones) and all(abs(one).max() > 0 for one in parts.values())


@pytest.mark.parametrize("name", TRIO)
def test_a_map_keeps_the_total_of_the_networks_own_input(name, models, images):
    """One piece of five points is Captum's own method with five steps, there on the resized input."""
    parts = attribute(about(models[name], images, 2, SIZE), "integrated_gradients", steps=5, max_steps=5)
    x = to_input(images, SIZE)
    expected = IntegratedGradients(models[name]).attribute(x, torch.zeros_like(x), target=2, n_steps=5).detach().sum((1, 2, 3))
    np.testing.assert_allclose(whole(parts).sum((1, 2)), expected.numpy(), rtol=1e-3, atol=1e-4)


def test_refining_spends_steps_only_where_they_are_missing(models, images):
    model, told = models["fusion"], []
    target, change = changes_of(model, images)

    def missed(max_steps: int) -> tuple[np.ndarray, float]:
        maps = whole(attribute(about(model, images, target, 32), "integrated_gradients", max_steps=max_steps, progress=told.append))
        return abs(maps.sum((1, 2)) / change - 1), told[-2]  # the share done before it ended early

    (rough, _), (fine, spent) = missed(25), missed(200)
    assert rough.max() > 0.01 >= fine.max() and spent < 0.7


class Bend(nn.Module):
    """Features (N, width) of which only the first is not 0: a wave of the mean red, and so much of it plainly."""

    def __init__(self, width: int, wave: float, plain: float):
        super().__init__()
        self.width, self.wave, self.plain = width, wave, plain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red = x[:, 0].mean((1, 2))
        return F.pad((self.wave * torch.sin(300 * red) + self.plain * red)[:, None], (0, self.width - 1))


def test_each_branch_is_bounded_by_itself(images):
    """Two branches bend against each other: what one misses the other makes good, so the whole never shows it."""
    model = build_model("fusion")
    model.backbones["resnet18"], model.backbones["mobilenet_v2"] = Bend(512, 1.0, 0.0), Bend(1280, -1.0, 50.0)
    model.head = nn.Sequential(nn.Linear(1792, 10, bias=False))
    model.head[0].weight.data[0, [0, 512]] = 1.0
    red = to_input(images, 32)[:, 0].mean((1, 2)).numpy()
    waves, total = np.sin(300 * red), 50 * red
    rough = attribute(about(model.eval(), images, 0, 32), "integrated_gradients", steps=5, max_steps=5)
    fine = attribute(about(model, images, 0, 32), "integrated_gradients", steps=5, max_steps=200)
    assert abs(whole(rough).sum((1, 2)) - total).max() < 0.01 * abs(total).max()  # and yet
    assert abs(rough["resnet18"].sum((1, 2)) - waves).max() > 0.1
    for part, expected in (("resnet18", waves), ("mobilenet_v2", total - waves)):
        missed = abs(fine[part].sum((1, 2)) - expected)
        assert (missed < 1.5 * np.maximum(TOLERANCE * abs(expected), FLOOR)).all()


def test_a_score_that_hardly_changes_takes_no_steps_without_end(images):
    model, told = build_model("resnet18"), []
    model.backbones["resnet18"] = Bend(512, 0.02, 0.0)
    model.head = nn.Sequential(nn.Linear(512, 10, bias=False))
    attribute(about(model.eval(), images, 0, 32), "integrated_gradients", steps=5, max_steps=500, progress=told.append)
    assert told[-2] < 0.1


def test_many_steps_in_pieces_give_captums_map_of_many_steps(models, images):
    pixels, model = images[:1].float() / 255, models["resnet18"]
    method = IntegratedGradients(lambda p: model(to_input(p, 32)))
    expected = method.attribute(pixels, GREY.expand_as(pixels), target=7, n_steps=200, internal_batch_size=40)
    maps = attribute(about(model, images[:1], 7, 32), "integrated_gradients", steps=50, max_steps=50)["resnet18"]
    assert np.corrcoef(maps.ravel(), expected.detach().sum(1).numpy().ravel())[0, 1] > 0.99


def test_integrated_gradients_of_a_linear_model_by_hand(corner, images):
    maps = attribute(about(corner, images, 0, 32), "integrated_gradients")
    np.testing.assert_allclose(maps["resnet18"], corner_map(images), atol=1e-5)


@pytest.mark.parametrize("stride", [8, 4])
def test_occlusion_sees_the_only_corner_that_matters(stride, corner, images):
    maps = attribute(about(corner, images, 0, 32), "occlusion", window=8, stride=stride)[WHOLE]
    corners = corner_map(images)
    falls = np.zeros((3, 32, 32))  # by hand: the mean, over the squares that hide a pixel, of what they hide of the corner
    for y in range(32):
        for x in range(32):
            starts = [[s for s in range(0, 25, stride) if s <= at < s + 8] for at in (y, x)]
            hidden = [corners[:, a : a + 8, b : b + 8].sum((1, 2)) for a in starts[0] for b in starts[1]]
            falls[:, y, x] = np.mean(hidden, axis=0)
    np.testing.assert_allclose(maps, falls, atol=1e-3)
    assert abs(maps[:, :8, :8]).min() > 0 and (maps[:, 16:] == 0).all() and (maps[:, :, 16:] == 0).all()


class GuidedStep(torch.autograd.Function):
    """ReLU, or ReLU6, whose backward pass lets through only what is positive, where the unit is not clipped."""

    @staticmethod
    def forward(context, x, ceiling):
        context.save_for_backward(x)
        context.ceiling = ceiling
        return x.clamp(0, ceiling)

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return gradient.clamp_min(0) * ((x > 0) & (x < context.ceiling)), None


class GuidedUnit(nn.Module):
    def __init__(self, ceiling: float):
        super().__init__()
        self.ceiling = ceiling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return GuidedStep.apply(x, self.ceiling)


@pytest.mark.parametrize("name", TRIO)
def test_guided_backprop_is_guided_at_every_relu_and_relu6(name, models, images):
    guided = copy.deepcopy(models[name])
    for module in list(guided.modules()):
        for key, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(module, key, GuidedUnit(6.0 if isinstance(child, nn.ReLU6) else torch.inf))
    pixels = (images.float() / 255).requires_grad_()
    expected, plain = (torch.autograd.grad(m(to_input(pixels, SIZE))[:, 1].sum(), pixels)[0].sum(1).numpy() for m in (guided, models[name]))
    maps = attribute(about(models[name], images, 1, SIZE), "guided_backprop")[WHOLE]
    np.testing.assert_allclose(maps, abs(expected), atol=1e-4 * abs(expected).max())
    assert abs(np.corrcoef(maps.ravel(), abs(plain).ravel())[0, 1]) < 0.9
    assert not any(isinstance(m, HookedReLU6) for m in models[name].modules())


def last_activations(name: str, backbone: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the backbone pools, (N, C, h, w), without hooks."""
    if name == "mobilenet_v2":
        return backbone.features(x)
    x = backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(x))))
    return backbone.layer4(backbone.layer3(backbone.layer2(backbone.layer1(x))))


@pytest.mark.parametrize("name", TRIO)
def test_grad_cam_by_hand_one_map_a_branch(name, models, images):
    model = models[name]
    with torch.no_grad():
        seen = {n: last_activations(n, backbone, to_input(images, SIZE)) for n, backbone in model.backbones.items()}
    seen = {n: one.requires_grad_() for n, one in seen.items()}
    logits = model.head(torch.cat([one.mean((2, 3)) for one in seen.values()], dim=1))
    torch.testing.assert_close(logits, model(to_input(images, SIZE)), atol=1e-3, rtol=1e-3)
    target = logits.argmax(1)
    target[1] = logits[1].argmin()  # a class that the images speak against
    gradients = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), list(seen.values()))
    question = about(model, images, target.tolist(), SIZE)
    maps, signed = attribute(question, "grad_cam"), attribute(question, "grad_cam_signed")
    assert list(maps) == list(signed) == list(model.backbones)

    def enlarge(cells: torch.Tensor) -> np.ndarray:  # (N, 1, 2, 2), at least 0 -> (N, 32, 32) of the same sums
        enlarged = F.interpolate(cells, size=(32, 32), mode="bilinear", align_corners=False)[:, 0]
        return (enlarged * (cells.sum((1, 2, 3)) / enlarged.sum((1, 2)).clamp_min(1e-30))[:, None, None]).numpy()

    for (n, one), gradient in zip(seen.items(), gradients, strict=True):
        cells = (gradient.mean((2, 3), keepdim=True) * one).sum(1, keepdim=True).detach()
        assert cells.shape == (3, 1, 2, 2) and (cells > 0).any() and (cells < 0).any()
        speaks_for, speaks_against = enlarge(cells.clamp_min(0)), enlarge((-cells).clamp_min(0))
        np.testing.assert_allclose(maps[n], speaks_for, atol=1e-3 * speaks_for.max())
        np.testing.assert_allclose(signed[n], speaks_for - speaks_against, atol=1e-3 * abs(signed[n]).max())
        np.testing.assert_allclose(signed[n].sum((1, 2)), cells.sum((1, 2, 3)), rtol=1e-3, atol=1e-3 * speaks_for.sum((1, 2)).max())


def test_smoothgrad_without_noise_is_saliency_and_with_it_smoother(models, images):
    plain = attribute(about(models["mobilenet_v2"], images, 3, SIZE), "saliency")[WHOLE]
    quiet, loud = (attribute(about(models["mobilenet_v2"], images, 3, SIZE), "smoothgrad", samples=4, noise=n)[WHOLE] for n in (1e-6, 0.2))
    np.testing.assert_allclose(quiet, plain, rtol=0.05, atol=0.01 * plain.max())
    assert np.corrcoef(loud.ravel(), plain.ravel())[0, 1] < 0.99 and (loud >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_map_repeats_itself_alone_or_in_a_batch_and_leaves_no_trace(method, models, images):
    model = copy.deepcopy(models["fusion"]).train()
    before = torch.get_rng_state()
    first, again = (attribute(about(model, images[:2], [3, 8], 32), method) for _ in range(2))
    alone = attribute(about(model, images[1:2], 8, 32, batch=3), method)
    assert first.keys() == (set(model.backbones) if METHODS[method].by_branch else {WHOLE})
    for part, maps in first.items():
        assert np.isfinite(maps).all() and np.array_equal(maps, again[part])
        assert METHODS[method].signed or (maps >= 0).all()
        np.testing.assert_allclose(alone[part][0], maps[1], atol=1e-3 * abs(maps[1]).max() + 1e-9)
    assert model.training and all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_difference_of_classes_has_the_difference_of_their_maps(models, images):
    def maps(target, contrast=None):
        return whole(attribute(about(models["fusion"], images, target, 32, contrast), "integrated_gradients", steps=5, max_steps=5))

    difference = maps([3, 1, 9], contrast=[5, 2, 0])
    for i, (target, contrast) in enumerate(((3, 5), (1, 2), (9, 0))):
        expected = maps(target)[i] - maps(contrast)[i]
        np.testing.assert_allclose(difference[i], expected, atol=1e-4 * abs(expected).max())


def test_captum_warns_of_nothing(models, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", module="captum")
        for method in METHODS:
            assert attribute(about(models["resnet18"], images[:1], 0, 32), method)


def test_progress_grows_to_one_and_can_end_a_method(models, images):
    for method, options in (("integrated_gradients", {"max_steps": 50}), ("smoothgrad", {}), ("occlusion", {})):
        told = []
        attribute(about(models["resnet18"], images[:1], 0, 32), method, progress=told.append, **options)
        assert len(told) > 3 and told == sorted(told) and told[-1] == 1 and max(told[:-1]) > 0.2

    def stop(share: float) -> None:
        if share > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attribute(about(models["resnet18"], images[:1], 0, 32), "occlusion", progress=stop)


def test_two_threads_on_one_model_get_what_one_gets(models, images):
    """120 explanations, and plain predictions in between."""
    model, wrong = models["fusion"], []
    jobs = [(method, target) for method in ("saliency", "grad_cam", "guided_backprop", "smoothgrad") for target in range(5)]
    options = {"smoothgrad": {"samples": 2}}

    def compute(method: str, target: int) -> np.ndarray:
        return np.stack(list(attribute(about(model, images[:1], target, 32), method, **options.get(method, {})).values()))

    expected = {job: compute(*job) for job in jobs}
    with torch.no_grad():
        logits = model(to_input(images, 32))

    def visit(order: list[tuple[str, int]]) -> None:
        for job in order:
            if not np.allclose(compute(*job), expected[job], rtol=1e-3, atol=1e-4 * abs(expected[job]).max() + 1e-12):
                wrong.append(job)
            with torch.no_grad():
                if not torch.allclose(model(to_input(images, 32)), logits, atol=1e-4):
                    wrong.append("prediction")

    threads = [threading.Thread(target=visit, args=(order * 3,)) for order in (jobs, jobs[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "lime"}, "unknown method 'lime': choose from saliency"),
        ({"target": 10}, "target 10 is not a class: they are 0 to 9"),
        ({"target": -1}, "target -1 is not a class"),
        ({"target": [1, 2]}, "target [1, 2]: give one class position, or one for each of the 3 images"),
        ({"target": 1.0}, "target 1.0: give one class position"),
        ({"contrast": 12}, "contrast 12 is not a class"),
        ({"contrast": [3, 0, 2]}, "target and contrast are the same class"),
        ({"samples": 5}, "saliency has no parameter samples: it takes none"),
        ({"method": "smoothgrad", "samples": 0}, "smoothgrad: samples 0 is not a positive int"),
        ({"method": "smoothgrad", "samples": 2.5}, "smoothgrad: samples 2.5 is not a positive int"),
        ({"method": "smoothgrad", "noise": float("nan")}, "smoothgrad: noise nan is not a positive float"),
        ({"method": "occlusion", "window": 4, "stride": 8}, "occlusion: window 4 and stride 8 leave pixels out"),
        ({"method": "occlusion", "window": 33}, "occlusion: window 33 and stride 4"),
        ({"images": torch.zeros(3, 3, 28, 28)}, "the images' shape is (3, 3, 28, 28): it must be (N, 3, 32, 32)"),
        ({"images": torch.zeros(0, 3, 32, 32)}, "the images' shape is (0, 3, 32, 32)"),
    ],
)
def test_bad_input_is_named(change, message, models, images):
    asked = {"images": images, "target": 3, "image_size": 32} | {k: v for k, v in change.items() if k in ("images", "target", "contrast")}
    parameters = {"method": "saliency"} | {k: v for k, v in change.items() if k not in asked and k != "contrast"}
    with pytest.raises(UserError) as error:
        attribute(about(models["resnet18"], **asked), **parameters)
    assert str(error.value).startswith(message)


def test_every_described_method_is_computed():
    assert list(COMPUTE) == list(METHODS)
    assert SIDE == 32  # which METHODS' occlusion counts on
