"""One contract for every model in MODELS, and the ways in which start weights can be wrong."""

import hashlib
import re

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from core.config import BACKBONES, BASELINES, MODELS, RECIPES, UserError
from core.evaluate import apply_head
from core.models import build_backbone, build_model, count_costs, describe_start_weights, load_weights
from core.train import build_optimizer, train_step

WIDTHS = {"resnet18": 512, "mobilenet_v2": 1280, "fusion": 512 + 1280, "resnet34": 512}
HIDDEN = {"resnet18": 512, "mobilenet_v2": 1280, "fusion": 16, "resnet34": 512}  # what the last layer sees, with hidden=16


@pytest.fixture(params=MODELS)
def name(request) -> str:
    return request.param


@pytest.fixture
def model(name):
    torch.manual_seed(0)
    return build_model(name, "none", hidden=16)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def values(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}


def step(model, x, steps: int = 1) -> list[float]:
    """Losses of `steps` updates on one batch."""
    labels = torch.arange(len(x)) % 10
    optimizer = build_optimizer(model, RECIPES["smoke"])
    model.train()
    return [train_step(model, optimizer, x, labels, RECIPES["smoke"], torch.float32)[0].item() for _ in range(steps)]


# --- the contract -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_shapes_and_the_penultimate_layer(name, model, x):
    model.eval()
    features, logits = model.forward_features(x), model(x)
    same, hidden = apply_head(model, features)
    assert features.shape == (4, WIDTHS[name]) and logits.shape == (4, 10) and hidden.shape == (4, HIDDEN[name])
    torch.testing.assert_close(same, logits)
    torch.testing.assert_close(model.head[-1](hidden), logits)


@torch.no_grad()
def test_features_are_torchvisions(name, model, x):
    """The pooled features that torchvision's own network hands to its classification layer, one backbone after the other."""
    expected = []
    for backbone_name, backbone in model.backbones.items():
        original = torchvision.models.get_model(backbone_name, weights=None)
        original.load_state_dict(backbone.state_dict(), strict=False)
        layer = {"mobilenet_v2": "classifier"}.get(backbone_name, "fc")
        handle = getattr(original, layer).register_forward_pre_hook(lambda _, inputs: expected.append(inputs[0]))
        original.eval()(x)
        handle.remove()
    torch.testing.assert_close(model.eval().forward_features(x), torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)


def test_frozen_backbones_and_their_statistics_stay(model, x):
    model.freeze(True)
    backbones, head = values(model.backbones), values(model.head)
    step(model, x)
    assert not any(module.training for module in model.backbones.modules())
    assert model.head.training
    assert changed(model.backbones, backbones) == set()
    assert changed(model.head, head) == set(head)


def test_thawed_backbones_learn_and_take_statistics(model, x):
    model.freeze(True)
    step(model, x)
    model.freeze(False)
    before = values(model)
    step(model, x)
    assert changed(model, before) == set(before)


def test_the_first_stages_alone_can_stay_frozen(name, model, x):
    model.freeze(False, stages=2)
    before = values(model)
    step(model, x)
    first = re.compile(r"backbones\.(resnet\d+\.(conv1|bn1|layer1)|mobilenet_v2\.features\.[0-3])\.")
    stay = set(filter(first.match, before))
    assert changed(model, before) == set(before) - stay and stay
    model.freeze(False)
    step(model, x)
    assert changed(model, before) == set(before)


def test_the_head_alone_learns(model):
    x = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # take these images' statistics at once: without them random features vanish
    model(x)
    model.freeze(True)
    losses = step(model, x, 15)
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("shortcut", [False, True])
def test_the_optimizer_holds_every_parameter_once_and_spares_vectors(name, shortcut):
    model = build_model(name, "none", hidden=16, branch_heads=True, shortcut=shortcut)
    optimizer = build_optimizer(model, RECIPES["smoke"])
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) and set(held) == {id(p) for p in model.parameters()}
    backbone = {id(p) for p in model.backbones.parameters()}
    linear = {id(p) for p in (model.head[-1] if shortcut or len(model.backbones) == 1 else nn.Identity()).parameters()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            assert group["part"] == ("backbone" if id(p) in backbone else "baseline_head" if id(p) in linear else "head")
            assert group["weight_decay"] == (RECIPES["smoke"].weight_decay if p.ndim > 1 else 0)


def test_parameters_by_hand_and_operations_as_torchvision_states_them(name, model):
    classification = {"resnet18": 512 * 1000 + 1000, "mobilenet_v2": 1280 * 1000 + 1000, "resnet34": 512 * 1000 + 1000}
    meta = {b: torchvision.models.get_model_weights(b).IMAGENET1K_V1.meta for b in BACKBONES}
    backbones = {b: meta[b]["num_params"] - classification[b] for b in BACKBONES}
    parameters = {
        "resnet18": backbones["resnet18"] + 512 * 10 + 10,
        "mobilenet_v2": backbones["mobilenet_v2"] + 1280 * 10 + 10,
        "resnet34": backbones["resnet34"] + 512 * 10 + 10,
        "fusion": sum(backbones[b] for b in BASELINES) + 2 * 1792 + (1792 * 16 + 16) + (16 * 10 + 10),
    }
    costs = count_costs(model, 224)
    assert costs["parameters"] == parameters[name]
    assert costs["macs"] == pytest.approx(1e9 * sum(meta[b]["_ops"] for b in model.backbones), rel=0.01)
    assert model.training  # as before


@pytest.mark.parametrize("size", [32, 96, 100])
@torch.no_grad()
def test_the_last_block_has_as_many_places_as_are_counted(size):
    for name, backbone in BACKBONES.items():
        module, shapes = build_model(name, "none").eval().backbones[name], []
        getattr(module, backbone.last_block).register_forward_hook(lambda _, __, out, shapes=shapes: shapes.append(tuple(out.shape[2:])))
        module(torch.zeros(1, 3, size, size))
        assert shapes == [(backbone.count_places(size),) * 2]


def test_an_unknown_model_is_refused():
    with pytest.raises(UserError, match="unknown model 'resnet50': choose from resnet18, mobilenet_v2, fusion"):
        build_model("resnet50")


@torch.no_grad()
def test_branch_heads_see_their_own_branch_alone(x):
    """Each branch head takes its own backbone's features; the fused logits are those without branch heads."""
    torch.manual_seed(0)
    model = build_model("fusion", "none", hidden=16, branch_heads=True).eval()
    assert list(model.branch_heads) == list(BASELINES)
    logits = model(x, branches=True)  # (3, N, 10)
    torch.testing.assert_close(logits[0], model(x))
    for own, name in zip(logits[1:], BASELINES, strict=True):
        torch.testing.assert_close(own, model.branch_heads[name](model.backbones[name](x)))
    plain = build_model("fusion", "none", hidden=16)
    assert not any(key.startswith("branch_heads") for key in plain.state_dict()) and plain(x, branches=True).shape == (1, 4, 10)


def test_a_shortcut_starts_as_the_mean_of_its_branches_and_the_mlp_learns_what_to_add(x):
    torch.manual_seed(0)
    model = build_model("fusion", "none", hidden=16, shortcut=True).eval()
    weight, bias = model.head[-1].parameters()
    with torch.no_grad():
        logits = model(x, branches=True)  # (3, N, 10)
        torch.testing.assert_close(logits[0], model(x))
        torch.testing.assert_close(logits[0], logits[1:].mean(dim=0))
        for own, name, columns in zip(logits[1:], BASELINES, weight[:, 16:].split([512, 1280], dim=1), strict=True):
            torch.testing.assert_close(own, model.backbones[name](x) @ columns.T + bias)
        same, seen = apply_head(model, model.forward_features(x))
        assert seen.shape == (4, 16 + 1792)
        torch.testing.assert_close(same, logits[0])
        weight[:, :16] = 1
        later = model(x, branches=True)
        torch.testing.assert_close(later[1:], logits[1:])
        torch.testing.assert_close(later[0] - logits[0], seen[:, :16].sum(dim=1, keepdim=True).expand(4, 10))
        weight[:, :16] = 0
    before = values(model)
    step(model, x, 2)
    assert changed(model, before) == set(before)


# --- start weights ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, torch.Tensor]]:
    """State dicts as torchvision's downloads are: with the classification layers of ImageNet."""
    torch.manual_seed(1)
    return {b: torchvision.models.get_model(b, weights=None).state_dict() for b in BACKBONES}


@pytest.fixture
def weights(states, tmp_path):
    for name, state in states.items():
        save_file(state, tmp_path / f"{name}.safetensors")
    return tmp_path


def test_start_weights_reach_every_backbone(name, weights, states):
    model = build_model(name, str(weights))
    for backbone_name, backbone in model.backbones.items():
        assert changed(backbone, states[backbone_name]) == set()


def test_imagenet_weights_are_torchvisions_files(states, tmp_path, monkeypatch):
    """Files that lie in torch.hub's folder are used as they are; torchvision checks their hash on download.

    Those of ResNets were saved before BatchNorm counted batches.
    """
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    for name, state in states.items():
        if name == "resnet18":
            state = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
            assert len(state) == 102
        torch.save(state, tmp_path / "checkpoints" / torchvision.models.get_model_weights(name).IMAGENET1K_V1.url.split("/")[-1])
    model = build_model("fusion", "imagenet")
    for backbone_name, backbone in model.backbones.items():
        assert changed(backbone, states[backbone_name]) == set()
    assert describe_start_weights("imagenet")["resnet18"]["name"] == "torchvision IMAGENET1K_V1"


def test_no_network_for_imagenet_weights(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"resnet18 weights could not be downloaded .*--start-weights"):
        build_model("resnet18", "imagenet")


@pytest.mark.parametrize("damage", [b"", b"version https://git-lfs.github.com/spec/v1"])
def test_a_damaged_download_is_named(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    path = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir()
    path.write_bytes(damage)
    with pytest.raises(UserError, match=rf"{re.escape(str(path))} cannot be read as weights .*: delete it"):
        build_model("resnet18", "imagenet")


def test_what_was_used_is_described(weights):
    described = describe_start_weights(str(weights))
    for name in BASELINES:
        sha256 = hashlib.sha256((weights / f"{name}.safetensors").read_bytes()).hexdigest()
        assert described[name] == {"name": f"state dict {name}.safetensors", "file": f"{name}.safetensors", "sha256": sha256}
    assert describe_start_weights("none")["resnet18"] == {"name": "random", "file": None, "sha256": None}


def test_half_precision_is_widened(states, tmp_path):
    module = build_backbone("mobilenet_v2")
    state = {key: value.half() for key, value in states["mobilenet_v2"].items() if not key.startswith("classifier.")}
    save_file(state, tmp_path / "half.safetensors")
    load_weights(module, tmp_path / "half.safetensors")
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    torch.testing.assert_close(module.features[0][0].weight, state["features.0.0.weight"].float())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: state.pop("layer1.0.conv1.weight"), r"lacks layer layer1\.0\.conv1\.weight \(1 missing, 0 unknown\)"),
        (lambda state: state.update({"layer9.weight": torch.zeros(1)}), r"has an unknown layer layer9\.weight"),
        (
            lambda state: state.update({"conv1.weight": torch.zeros(8, 3, 3, 3)}),
            r"conv1\.weight has shape \(8, 3, 3, 3\), .*\(64, 3, 7, 7\)",
        ),
    ],
)
def test_weights_of_another_architecture_are_refused(states, weights, damage, message):
    state = dict(states["resnet18"])
    damage(state)
    save_file(state, weights / "resnet18.safetensors")
    with pytest.raises(UserError, match=message) as error:
        build_model("fusion", str(weights))
    assert str(weights / "resnet18.safetensors") in str(error.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0, 1_000])
def test_a_truncated_weights_file_is_refused(states, tmp_path, suffix, kept):
    path = tmp_path / f"resnet18{suffix}"
    save_file(states["resnet18"], path) if suffix == ".safetensors" else torch.save(states["resnet18"], path)
    with path.open("r+b") as file:
        file.truncate(kept)
    with pytest.raises(UserError, match=rf"resnet18{suffix} cannot be read as weights"):
        load_weights(build_backbone("resnet18"), path, "fc")


@pytest.mark.parametrize("content", [b"no pickle" * 20, b"\x80\x02.", b"\x80\x02]q\x00.", b"\x80\x04\x95\xff", b"PK\x03\x04" + b"\0" * 50])
def test_a_damaged_pickle_is_refused_in_a_line(tmp_path, content):
    path = tmp_path / "resnet18.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"resnet18\.pth cannot be read as weights .*: fetch it again"):
        load_weights(build_backbone("resnet18"), path, "fc")


def test_a_changed_byte_in_weights_is_refused_or_read(states, tmp_path):
    """Wherever in the file's structure it lies, no other error comes out."""
    path = tmp_path / "resnet18.pth"
    small = {key: value for key, value in states["resnet18"].items() if value.numel() < 100}
    torch.save(small, path)
    content, generator = path.read_bytes(), np.random.default_rng(0)
    for place in generator.integers(0, len(content), 60):
        spoiled = bytearray(content)
        spoiled[place] ^= int(generator.integers(1, 256))
        path.write_bytes(spoiled)
        with pytest.raises(UserError, match=r"resnet18\.pth"):  # whole or not, it lacks layers
            load_weights(build_backbone("resnet18"), path, "fc")
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="it does not hold one tensor a name"):
        load_weights(build_backbone("resnet18"), path, "fc")


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"resnet18\.safetensors is missing: --start-weights takes imagenet, none, or a folder"):
        build_model("resnet18", str(tmp_path / "nowhere"))
