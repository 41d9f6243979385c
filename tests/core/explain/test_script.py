"""scripts/explain.py writes what attribute gives, and refuses bad choices in a line."""

import numpy as np
import pytest
import torch

import core.explain.methods
from core import results
from core.config import TRIO, UserError
from core.evaluate import extract_features, load_shipped_model
from core.explain import WHOLE
from core.explain.methods import attribute
from core.explain.score import Question, pick_images
from core.models import build_model
from tests.fake_run import make_run

about = Question.about


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, models):
    """A made-up run of 200 test images whose weights are random ones."""
    run = make_run(tmp_path_factory.mktemp("results"), "run", n_test=200)
    for name in TRIO:
        model = build_model(name)
        model.load_state_dict({k: v for k, v in models[name].state_dict().items() if not k.startswith("head")}, strict=False)
        state = {key: value.numpy() for key, value in model.state_dict().items()}
        results.write_weights(run / name / "weights.safetensors", state, {key for key, _ in model.named_parameters()})
    return run


def test_the_script_writes_what_attribute_gives(shipped, script, data, fake_cifar, world):
    chosen = ["--model", "fusion", "--errors", "--method", "saliency", "grad_cam", "--target", "difference"]
    finished = script("explain.py", shipped, *chosen, "--branches", "--data", fake_cifar)
    assert finished.code == 0, finished.error
    run = results.load_run(shipped)
    predictions = results.load_predictions(run, "fusion")
    predicted = predictions.logits.argmax(1)
    errors = np.flatnonzero(predicted != predictions.labels)
    *speeds, last = finished.out.splitlines()
    assert last == f"wrote {shipped}/fusion/attributions.npz: {len(errors)} images, saliency, grad_cam, branches"
    assert [line.split(":")[0] for line in speeds] == ["saliency", "grad_cam"] and all(line.endswith(" images/s") for line in speeds)

    found = results.load_attributions(run, "fusion")
    assert np.array_equal(found.index, errors)
    assert np.array_equal(found.target, predicted[errors]) and np.array_equal(found.contrast, predictions.labels[errors])
    assert {method: set(parts) for method, parts in found.maps.items()} == {"saliency": {WHOLE}, "grad_cam": {"resnet18", "mobilenet_v2"}}
    assert found.record == {"image_size": 96, "target": "difference", "methods": {"saliency": {}, "grad_cam": {}}}
    model, test_images = load_shipped_model(run, "fusion"), results.load_test_images(shipped.parent)
    images = pick_images(test_images, errors[:2])
    expected = attribute(about(model, images, found.target[:2], 96, found.contrast[:2]), "saliency")[WHOLE]
    np.testing.assert_allclose(found.maps["saliency"][WHOLE][:2], expected, rtol=0.01, atol=0.002 * expected.max())

    features = extract_features(model, pick_images(test_images, range(200)), 96, world)
    mean = extract_features(model, data.train.images[:200], 96, world).mean(0, keepdim=True)
    with torch.no_grad():
        change = model.head(features) - model.head(mean)
    contributions = sum(found.branches["contribution"].values())
    np.testing.assert_allclose(contributions, change.numpy()[np.arange(200), predicted], rtol=0.01, atol=0.01)
    assert found.branches["ablated"]["resnet18"].shape == (200, 10)


def test_a_subset_of_the_errors_has_equally_many_of_each_class(shipped, script):
    finished = script("explain.py", shipped, "--model", "resnet18", "--errors", "--images", "5", "--method", "grad_cam")
    assert finished.code == 0, finished.error
    run = results.load_run(shipped)
    predictions, found = results.load_predictions(run, "resnet18"), results.load_attributions(run, "resnet18")
    (shipped / "resnet18" / "attributions.npz").unlink()
    wrong = predictions.logits.argmax(1) != predictions.labels
    assert len(found.index) == 5 and wrong[found.index].all()
    drawn, there = (np.bincount(predictions.labels[rows], minlength=10) for rows in (found.index, wrong))
    assert (drawn[drawn < there] >= drawn.max() - 1).all()


def test_what_is_not_asked_again_is_kept_while_it_is_true(shipped, script):
    """Branches are of every test image, whatever is explained; maps of other methods are of the images they were made for."""
    run, path = results.load_run(shipped), shipped / "fusion" / "attributions.npz"
    rows = {"index": np.array([3]), "target": results.load_predictions(run, "fusion").logits[[3]].argmax(1), "minus": np.array([-1])}
    maps = {"saliency": {WHOLE: np.ones((1, 32, 32))}}
    branches = {"contribution": {"resnet18": np.ones(200)}, "ablated": {"resnet18": np.ones((200, 10))}}
    results.write_attributions(path, rows, maps, branches, {"methods": {"saliency": {"old": 1}}})
    for index, methods in (("3", ["saliency", "grad_cam"]), ("4", ["grad_cam"])):
        finished = script("explain.py", shipped, "--model", "fusion", "--index", index, "--method", "grad_cam")
        assert finished.out.splitlines()[-1].endswith(f"1 images, {', '.join(methods)}, branches"), finished.error
        found = results.load_attributions(run, "fusion")
        assert list(found.maps) == list(found.record["methods"]) == methods
        assert (found.branches["contribution"]["resnet18"] == 1).all() and (found.branches["ablated"]["resnet18"] == 1).all()
    maps["smoothgrad"] = maps["saliency"]

    def explain_meanwhile(*asked):
        results.write_attributions(path, rows, {"smoothgrad": maps["smoothgrad"]}, branches, {"methods": {"smoothgrad": {}}})
        return attribute(*asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.explain.methods, "attribute", explain_meanwhile)
        assert script("explain.py", shipped, "--model", "fusion", "--index", "3", "--method", "grad_cam").code == 0
    assert list(results.load_attributions(run, "fusion").maps) == ["smoothgrad", "grad_cam"]  # what another wrote since it began is kept
    path.write_bytes(b"damaged")
    assert script("explain.py", shipped, "--model", "fusion", "--index", "3", "--method", "grad_cam").code == 0
    assert list(results.load_attributions(run, "fusion").maps) == ["grad_cam"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet18", "--index", "0", "--images", "1"], "--images: --index names the images already; give one of the two"),
        (["--model", "resnet18", "--errors", "--images", "201"], "--images 201: choose 1 to "),
        (["--model", "resnet18", "--index", "200"], "--index 200: the run's test images are 0 to 199"),
        (["--model", "resnet18", "--index", "0", "--branches"], "--branches: resnet18 has no branches, only fusion has"),
        (["--model", "resnet18"], "one of the arguments --errors --index is required"),
        (["--model", "resnet18", "--index", "0", "--method", "lime"], "argument --method: invalid choice: 'lime'"),
    ],
)
def test_the_script_refuses_bad_choices(arguments, message, shipped, script):
    finished = script("explain.py", shipped, *arguments)
    assert finished.code == 2 and message in finished.error.splitlines()[-1] and "Traceback" not in finished.error
    assert not (shipped / "resnet18" / "attributions.npz").exists()


def test_the_script_names_weights_that_are_missing(tmp_path, script):
    run = make_run(tmp_path, "run", n_test=200)
    finished = script("explain.py", run, "--model", "fusion", "--index", "3")
    assert (finished.code, finished.out) == (2, "")
    assert "weights.safetensors is missing: run python scripts/evaluate.py" in finished.error


def test_damaged_attributions_name_their_repair(shipped, tmp_path):
    run = results.load_run(shipped)
    with pytest.raises(
        UserError, match=r"attributions.npz cannot be read .*: run python scripts/explain.py .*run --model mobilenet_v2 --errors"
    ):
        results.load_attributions(run, "mobilenet_v2")
    path = shipped / "mobilenet_v2" / "attributions.npz"
    rows = {"index": np.array([4, 9]), "target": np.array([1, 2]), "minus": np.array([-1, -1])}
    maps = {"saliency": {WHOLE: np.ones((2, 32, 32))}}
    results.write_attributions(path, rows, maps, {}, {})
    assert results.load_attributions(run, "mobilenet_v2").branches == {}
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="cannot be read"):
        results.load_attributions(run, "mobilenet_v2")
    results.write_attributions(path, rows, {"saliency": {WHOLE: np.ones((2, 31, 32))}}, {}, {})
    with pytest.raises(UserError, match="saliency of whole is not whole"):
        results.load_attributions(run, "mobilenet_v2")
    results.write_attributions(path, rows | {"index": np.array([9, 4])}, maps, {}, {})
    with pytest.raises(UserError, match="does not hold test images in order"):
        results.load_attributions(run, "mobilenet_v2")
    with pytest.raises(UserError, match="gave values that do not fit float16"):
        results.write_attributions(path, rows, {"saliency": {WHOLE: np.full((2, 32, 32), np.nan)}}, {}, {})
    path.unlink()


def test_images_out_of_range_are_named(shipped):
    with pytest.raises(UserError, match="image 10000 does not exist: the test images are 0 to 9999"):
        pick_images(results.load_test_images(shipped.parent), [3, 10_000])
