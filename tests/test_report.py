"""The README says what the results give, and human votes come in as they are: scripts/report.py and scripts/human_votes.py."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from core import config, results, summaries
from core.findings import CLAIMS
from tests.fake_run import make_run, make_test_images

BEFORE, AFTER = "# Title\n\nAbove, 95.00 % of nothing.\n\n", "\n\nBelow.\n"
EMPTY = f"{BEFORE}<!-- results:begin -->\n<!-- results:end -->{AFTER}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A results folder with one whole run and test images."""
    folder = tmp_path_factory.mktemp("made") / "results"
    make_run(folder, "imagenet-96-seed0")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The project's root as the scripts see it: a README with empty markers, results to be set."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    (tmp_path / "README.md").write_text(EMPTY)
    return tmp_path


@pytest.fixture(scope="module")
def written(made, script):
    """The README's text, its block written from the made-up results, beside which the claims lie then."""
    readme = made.parent / "README.md"
    readme.write_text(EMPTY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "ROOT", made.parent)
        patch.setattr(results, "RESULTS", made)
        finished = script("report.py")
    assert (finished.code, finished.error) == (0, "")
    assert finished.out.splitlines()[-1] == f"wrote {made / 'CLAIMS.md'} and {readme}"
    return readme.read_text()


@pytest.fixture
def readme(place, made, written):
    """The path of a README that says what the made-up results give."""
    claims = shutil.copytree(made, place / "results") / "CLAIMS.md"  # whose commands name the folder
    claims.write_text(claims.read_text(encoding="utf-8").replace(str(made), str(place / "results")), encoding="utf-8")
    (place / "README.md").write_text(written)
    return place / "README.md"


def test_the_table_holds_the_numbers_of_the_predictions(readme, made):
    text = readme.read_text()
    assert text.startswith(f"{BEFORE}<!-- results:begin -->\n**In one training, fusing beat") and text.endswith(
        f"<!-- results:end -->{AFTER}"
    )
    rows = {cells[1].strip(): [c.strip() for c in cells[2:-1]] for line in text.splitlines() if len(cells := line.split("|")) > 9}
    assert len(rows) == 7  # heads, rule, three models, two controls
    for model, name in (("resnet18", "ResNet18"), ("mobilenet_v2", "MobileNetV2"), ("fusion", "Fusion")):
        frame = pd.read_parquet(made / "imagenet-96-seed0" / model / "predictions.parquet")
        test = frame[frame["split"] == "test"]
        right = test.filter(like="logit_").to_numpy().argmax(axis=1) == test["label"]
        assert rows[name][0].startswith(f"{100 * right.mean():.2f} % [")
        assert rows[name][2].endswith(f"{100 * right.groupby(test['label']).mean().min():.2f} %")
    assert rows["Fusion"][4:6] == ["14.33 M", "389 M"]
    assert rows["*control:* either baseline correct"][1:] == ["–"] * 7


def test_the_run_is_described_as_it_was(readme):
    text = readme.read_text()
    assert "recipe `cpu-96`, 96×96 px, 1 + 4 epochs (head alone + everything), seed 0" in text
    assert "ResNet18 from made up; MobileNetV2 from made up; trained in bfloat16 on made up." in text
    assert "Accuracy on 10,000 test images" in text


def test_every_claim_stands_with_its_verdict(readme, made):
    text = (made / "CLAIMS.md").read_text(encoding="utf-8")
    verdicts = "supported|not distinguishable|contradicted|untested"
    claims = re.findall(rf"^- (.+): \*\*({verdicts})\*\*\. (.+?)(?: \*\((.+); n = [\d,]+\)\*)?$", text, re.M)
    counts = ", ".join(f"{n} {one}" for one in verdicts.split("|") if (n := [verdict for _, verdict, *_ in claims].count(one)))
    assert len(claims) == len(CLAIMS) and f"\n{len(CLAIMS)} claims: {counts}. Each is tested two-sided" in text
    assert f"\n{len(CLAIMS)} claims: {counts}; each with its numbers and its test in [results/CLAIMS.md]" in readme.read_text()
    assert claims[0][0] == "In this training fusion is more accurate than the baseline better on validation, ResNet18"
    assert all(bool(test) == (verdict != "untested") for _, verdict, _, test in claims)


def test_writing_twice_changes_nothing_and_check_agrees(readme, script):
    text = readme.read_text()
    assert script("report.py").code == 0 and readme.read_text() == text
    checked = script("report.py", "--check")
    assert (checked.code, checked.error, readme.read_text()) == (0, "", text)


def test_check_names_each_number_that_differs_and_writes_nothing(readme, script):
    text = readme.read_text()
    lines = text.splitlines()
    row = next(position for position, line in enumerate(lines) if line.startswith("| Fusion |"))
    found = re.findall(r"\d\d\.\d\d", lines[row])[0]
    lines[row] = lines[row].replace(found, "99.99", 1).replace("14.33 M", "1.43 M")
    readme.write_text("\n".join(lines) + "\n")
    changed = readme.read_text()
    checked = script("report.py", "--check")
    assert checked.code == 1 and readme.read_text() == changed
    assert checked.error.splitlines() == [
        f"README.md line {row + 1}: 99.99 should be {found}",
        f"README.md line {row + 1}: 1.43 should be 14.33",
    ]


def test_check_sees_a_lost_and_an_added_line(readme, script):
    text = readme.read_text()
    readme.write_text(re.sub(r"^\| MobileNetV2.*\n", "", text, flags=re.M))
    assert re.search(r"nothing should be .*MobileNetV2 \| 9", script("report.py", "--check").error)
    readme.write_text(text.replace("<!-- results:end -->", "Fusion wins.\n<!-- results:end -->"))
    assert "Fusion wins. should be not there" in script("report.py", "--check").error


def test_check_reads_the_claims_too(readme, script):
    path = readme.parent / "results" / "CLAIMS.md"
    text = path.read_text(encoding="utf-8")
    line = next(position for position, line in enumerate(text.splitlines(), 1) if line.startswith("- "))
    path.write_text(text.replace(": **", ": **un", 1), encoding="utf-8")
    checked = script("report.py", "--check")
    assert checked.code == 1 and checked.error.startswith(f"CLAIMS.md line {line}: **un")
    path.write_bytes(b"\xff")
    checked = script("report.py", "--check")
    assert checked.code == 2 and re.fullmatch(
        rf"error: {re.escape(str(path))} cannot be read .*: write it with .*report.py\n", checked.error
    )


def test_another_folders_results_are_not_written_into_the_readme(place, made, script, monkeypatch, tmp_path):
    folder = shutil.copytree(made, tmp_path / "elsewhere")
    monkeypatch.setattr(results, "RESULTS", folder)
    assert script("report.py").out == f"wrote {folder / 'CLAIMS.md'}\n" and (place / "README.md").read_text() == EMPTY
    assert script("report.py", "--check").out.startswith("CLAIMS.md says what elsewhere/ gives")
    (folder / "CLAIMS.md").unlink()
    assert script("report.py", "--check").code == 2


@pytest.fixture
def other_seeds(place, made):
    """A results folder of the same images with seeds 1 and 2, in which the scripts look."""
    shutil.rmtree(place / "results", ignore_errors=True)
    (place / "results").mkdir()
    shutil.copy(made / "test_images.parquet", place / "results")
    return [results.load_run(make_run(place / "results", f"imagenet-96-seed{seed}", seed=seed)) for seed in (1, 2)]


def test_check_sees_results_that_changed(readme, script, other_seeds):
    folder = other_seeds[0].path.parent
    missing = script("report.py", "--check")
    assert (missing.code, missing.error) == (
        2,
        f"error: {folder / 'CLAIMS.md'} cannot be read (No such file or directory): write it with python scripts/report.py\n",
    )
    (folder / "CLAIMS.md").touch()
    assert script("report.py", "--check").code == 1


def test_several_seeds_get_a_column(place, other_seeds, script):
    assert script("report.py").code == 0
    text = (place / "README.md").read_text()
    fusion = [summaries.per_image(run)["fusion_correct"].mean() for run in other_seeds]
    assert "mean ± std of 2 seeds" in text
    assert f"| {100 * np.mean(fusion):.2f} % ± {100 * np.std(fusion, ddof=1):.2f} |" in text
    first, second = (run.name for run in other_seeds)
    assert f"\n- `{second}`: as `{first}`, with seed 2: one of its seeds." in text  # above, the table's run being one of them
    assert re.search(r"^\*\*(?:In both|In one of two|No gain)", text, re.M) and "| Fusion's lead over | seed 1 | seed 2 |" in text


def test_a_seed_that_lacks_a_model_is_left_out_of_its_spread(place, other_seeds, script):
    path = other_seeds[1].path / "run.json"
    del other_seeds[1].record["models"]["fusion"]
    results.write_run(path, other_seeds[1].record)
    shutil.rmtree(path.with_name("fusion"))
    assert script("report.py").code == 0
    rows = [line.split(" | ") for line in (place / "README.md").read_text().splitlines()]
    spread = {row[0]: row[2] for row in rows if len(row) > 2}
    assert spread["| Fusion"] == "–" and "±" in spread["| ResNet18"]
    assert f"\n- `{other_seeds[1].name}`: This run lacks Fusion: train the rest with --resume" in (place / "README.md").read_text()


def test_a_run_of_one_model_has_a_table_and_claims_nothing(place, made, script):
    (place / "results").mkdir()
    shutil.copy(made / "test_images.parquet", place / "results")
    make_run(place / "results", "run", models=("resnet18",))
    assert script("report.py").code == 0
    text = (place / "README.md").read_text()
    assert "| ResNet18 | 9" in text and "| Fusion" not in text and "claims" not in text
    assert "**This run lacks MobileNetV2 and Fusion: train the rest with --resume before fusion can be compared.**" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        (BEFORE, "must hold the line <!-- results:begin -->"),
        ("<!-- results:end -->\n<!-- results:begin -->", "must hold the line"),
        (EMPTY + EMPTY, "once each"),
    ],
)
def test_a_readme_without_its_markers_is_named_and_left_alone(place, made, script, text, message):
    shutil.copytree(made, place / "results")
    path = place / "README.md"
    path.unlink()
    if text is not None:
        path.write_text(text)
    finished = script("report.py")
    assert finished.code == 2 and message in finished.error and finished.error.count("\n") == 1
    assert (path.read_text() if path.exists() else None) == text


def test_without_a_run_the_command_is_named(place, script):
    finished = script("report.py")
    assert finished.code == 2 and "holds no run: make one with python scripts/train.py" in finished.error
    assert (place / "README.md").read_text() == EMPTY


# --- human votes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sources(place):
    """Files in the form of CIFAR-10H's and the label errors', beside made-up test images."""
    labels = make_test_images(place / "results")
    counts = np.random.default_rng(0).multinomial(51, [0.91] + [0.01] * 9, 10_000)
    np.save(place / "counts.npy", counts)
    entries = [
        {
            "id": index,
            "url": "x",
            "given_original_label": int(labels[index]),
            "our_guessed_label": int(labels[index] + 1) % 10,
            "mturk": {"given": given, "guessed": 5 - given, "neither": 0, "both": 0},
        }
        for index, given in ((70, 2), (3, 3), (9_999, 0))
    ]
    (place / "errors.json").write_text(json.dumps(entries))
    return place / "counts.npy", place / "errors.json", counts


def test_votes_and_doubted_labels_come_back(place, sources, script):
    votes, errors, counts = sources
    finished = script("human_votes.py", votes, errors)
    assert finished.code == 0 and finished.out.startswith("wrote ")
    np.testing.assert_array_equal(results.load_human_votes(place / "results"), counts)
    frame = pd.read_parquet(place / "results" / "human_votes.parquet")
    assert list(frame.columns) == ["index", *config.CLASSES]
    doubted = results.load_label_errors(place / "results")
    assert list(doubted["index"]) == [3, 70, 9_999] and list(doubted["relabelled"]) == [False, True, True]
    labels = results.load_test_images(place / "results").labels
    assert list(doubted["given"]) == list(labels[doubted["index"]]) and list(doubted["votes_guessed"]) == [2, 3, 5]


@pytest.mark.parametrize(
    ("position", "content", "message"),
    [
        (0, b"", "counts.npy cannot be read"),
        (0, np.zeros((10_000, 10)), "does not hold 10,000 x 10 counts"),
        (0, np.zeros((10, 10), int), "does not hold 10,000 x 10 counts"),
        (0, np.zeros((10_000, 10), int), "does not hold 10,000 x 10 counts, some of each image"),
        (0, np.full((10_000, 10), -1), "does not hold 10,000 x 10 counts, some of each image"),
        (0, np.array([{}], object), "counts.npy cannot be read (ValueError)"),
        (0, b"PK\x03\x04" + bytes(100), "counts.npy cannot be read (BadZipFile)"),
        (1, b"[{", "errors.json cannot be read"),
        (1, b'{"id": 3}', "errors.json cannot be read"),
        (1, b'[{"id": 3}]', "errors.json cannot be read (KeyError"),
        (1, b'[{"id": 3, "given_original_label": "cat"}]', "errors.json cannot be read (TypeError"),
    ],
)
def test_wrong_sources_are_named_and_nothing_is_written(place, sources, script, position, content, message):
    if isinstance(content, bytes):
        sources[position].write_bytes(content)
    else:
        np.save(sources[position], content, allow_pickle=True)
    finished = script("human_votes.py", *sources[:2])
    assert finished.code == 2 and message in finished.error and finished.error.count("\n") == 1
    assert not list((place / "results").glob("[hl]*.parquet"))


@pytest.mark.parametrize("change", [{"id": 10_000}, {"id": 71}, {"our_guessed_label": 55}, {"given_original_label": 10}, {"id": 3}])
def test_doubted_labels_of_other_images_leave_what_was_there(place, sources, script, change):
    """Files of other data sets look the same: MNIST's too holds ten classes and ids below 10,000."""
    votes, errors, _ = sources
    script("human_votes.py", votes, errors)
    before = {path: path.read_bytes() for path in (place / "results").iterdir()}
    entries = json.loads(errors.read_text())
    errors.write_text(json.dumps([entries[0] | change, *entries[1:]]))
    finished = script("human_votes.py", votes, errors)
    assert finished.code == 2 and "give the label errors' cifar10_mturk.json" in finished.error
    assert {path: path.read_bytes() for path in (place / "results").iterdir()} == before


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("human_votes", lambda frame: frame.head(9_999)),
        ("human_votes", lambda frame: frame.drop(columns="cat")),
        ("human_votes", lambda frame: frame.assign(cat=-1)),
        ("human_votes", lambda frame: frame.assign(cat=0.5)),
        ("human_votes", lambda frame: frame.assign(**dict.fromkeys(config.CLASSES, 0))),
        ("label_errors", lambda frame: frame.assign(index=3)),
        ("label_errors", lambda frame: frame.assign(index=[3, 70, 10_000])),
        ("label_errors", lambda frame: frame.assign(guessed=10)),
        ("label_errors", lambda frame: frame.assign(votes_both=-1)),
    ],
)
def test_damaged_votes_are_named(place, sources, script, name, change):
    script("human_votes.py", *sources[:2])
    path = place / "results" / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(config.UserError, match=rf"{name}\.parquet.* run python scripts/human_votes\.py"):
        getattr(results, f"load_{name}")(place / "results")
