"""Every command line that is printed somewhere can be copied: its script knows each of its options, and the README's do what they say."""

import ast
import re
import runpy
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path

import pytest

from core import results
from core.config import ROOT

PAGES = ("README.md", "results/README.md", ".github/CONTRIBUTING.md", ".github/SERVING.md")
START = r"(?:python|torchrun --nproc-per-node \d+) scripts/(\w+)\.py"
END = r"(?=$|[`'\"#,.:;)\]\n]|  | #| \|)"
LINE = re.compile(START + r"((?: [\w./<>{}=-]*[\w/<>{}=])*)" + END, re.M)
# what fills {…}, by a word in it
BLANKS = {"seed": "1", "recipe": "cpu-96", "with": "cpu-96", "model": "fusion", "other": "fusion", "option": ""}
RUNS = re.compile(r"results/(?:RUN\b|<run>|imagenet-[\w-]+)|\{run\}|\bRUN\b")


def texts_of(path: Path) -> list[str]:
    """A page's text, or all the texts in a source file, the blanks of f-strings filled."""
    if path.suffix == ".md":
        return [path.read_text(encoding="utf-8")]
    tree, inner = ast.parse(path.read_text(encoding="utf-8")), set()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner.update(map(id, node.values))
            parts = [part.value if isinstance(part, ast.Constant) else fill(ast.unparse(part.value)) for part in node.values]
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            found.append(node.value)
    return found


def fill(blank: str) -> str:
    return next((text for word, text in BLANKS.items() if word in blank), "results/RUN")


def printed_commands() -> list[tuple[str, str, str]]:
    """Where a command line stands, its script and its arguments; each once."""
    places = [ROOT / name for name in PAGES if (ROOT / name).exists()]
    places += [path for folder in ("core", "dashboard", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
    found = {}
    for path in places:
        for text in texts_of(path):
            for match in LINE.finditer(text):
                arguments = RUNS.sub("results/run", match[2]).replace("{start}", " --start-weights none").strip()
                found.setdefault((match[1], arguments), str(path.relative_to(ROOT)))
            cut = len(re.findall(START, text)) - len(LINE.findall(text))
            assert cut == 0, f"{path}: put a mark after the command, so that one sees where it ends: {text}"
    return [(place, script, arguments) for (script, arguments), place in sorted(found.items())]


@cache
def load_script(name: str) -> dict:
    return runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name=name)


@pytest.mark.parametrize(("place", "script", "arguments"), printed_commands())
def test_a_printed_command_is_understood(place, script, arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *shlex.split(arguments)])
    try:
        load_script(script)["parse_arguments"]()
    except SystemExit as end:
        assert end.code == 0, f"{place}: python scripts/{script}.py {arguments}\n{capsys.readouterr().err}"


def test_commands_are_found_wherever_they_stand():
    commands = {(place, script): arguments for place, script, arguments in printed_commands()}
    assert len(commands) > 15
    assert {script for _, script in commands} == {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert LINE.findall("run `python scripts/a.py results/RUN --check`, or python scripts/b.py --seed 2.") == [
        ("a", " results/RUN --check"),
        ("b", " --seed 2"),
    ]


def readme_table() -> list[tuple[str, str]]:
    """The script and arguments of each command in the README's tables, but for benchmark.py (see test_scripts.py)."""
    rows = re.findall(r"^\| `python scripts/(\w+)\.py ?([^`]*)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    return [(script, arguments) for script, arguments in rows if script != "benchmark"]


def test_the_commands_of_the_readme_run_as_printed(fake_cifar, trained, script, tmp_path, monkeypatch):
    """On made-up data, with only the options that say where it lies and how little to do."""
    run = shutil.copytree(trained, tmp_path / "results" / "run")
    shutil.copy(trained.parent / "test_images.parquet", tmp_path / "results")
    shutil.copytree(trained.parent.parent / "checkpoints" / "run", tmp_path / "checkpoints" / "run")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(results.SPLIT_SIZES, "test", 300)
    here = {
        "evaluate": ["--data", fake_cifar, "--checkpoints", tmp_path / "checkpoints"],
        "explain": ["--method", "saliency"],
        "duplicates": ["--data", fake_cifar],
        "robustness": ["--images", 10],
    }
    started = {"--probe": ["--start-weights", "none"], "--features": ["--start-weights", "none"]}
    assert len(readme_table()) > 5
    for name, arguments in readme_table():
        words = [str(run) if word == "results/RUN" else word for word in shlex.split(arguments)]
        if name == "report":
            words = ["--html", tmp_path / "report.html"]  # the README itself is left alone
        more = [option for flag, options in started.items() if flag in words for option in options]
        finished = script(f"{name}.py", *words, *here.get(name, []), *more)
        assert finished.code == 0, f"{name} {arguments}: {finished.error[-1500:]}"
