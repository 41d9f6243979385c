"""Who may import whom. Read from the sources, so that nothing has to be installed or run."""

import ast
from functools import cache
from pathlib import Path

import pytest

from core.config import ROOT

TORCH = ("torch", "torchvision", "captum", "safetensors.torch")  # seconds to import
TORCH_FREE = (
    *("core/config.py", "core/results", "core/summaries.py", "core/metrics.py", "core/findings", "core/robustness.py"),
    "core/slices.py",
)
ALLOWED = {  # of the project's own modules, by the folder or file that imports them
    "core": ("core",),
    "scripts": ("core", "report"),
    "dashboard/data.py": ("core", "selection"),
    "dashboard/selection.py": ("core.config",),
    "dashboard/filters.py": ("core.config", "selection", "theme"),
    "dashboard/traits.py": ("core.config", "core.results", "core.slices", "data", "filters", "selection", "theme"),
    "dashboard/inference.py": ("core", "data"),
    "dashboard/thumbnails.py": ("core.results", "data"),
    "dashboard/address.py": (),
    "dashboard/theme.py": ("core.config",),
    "dashboard/claim_table.py": ("core.findings", "diagram", "theme"),
    "dashboard/claims.py": ("core", "data", "figures", "selection", "theme"),
    "dashboard/figures": ("core.config", "core.metrics", "figures", "theme"),
    "dashboard/deck.py": ("core", "claims", "data", "diagram", "figures", "report", "selection", "theme", "thumbnails"),
    "dashboard/diagram.py": ("core.config", "core.explain", "core.images", "core.results", "core.robustness", "theme", "thumbnails"),
    "dashboard/report.py": ("core", "diagram", "figures", "selection", "theme"),
    "dashboard/components": (
        *("core.config", "core.explain", "core.images", "core.metrics", "core.results", "core.slices", "address", "claim_table", "claims"),
        *("components", "data", "diagram", "figures", "glossary", "filters", "inference", "selection", "theme", "thumbnails", "traits"),
    ),
    "dashboard/views": (
        *("core.config", "core.explain", "core.findings", "core.images", "core.metrics", "core.results", "core.robustness"),
        *("address", "claims", "components", "data", "deck", "diagram", "figures"),
        *("filters", "glossary", "inference", "report", "selection", "theme", "traits"),
    ),
    "dashboard/Home.py": ("address", "core.config", "core.results", "components", "data", "process"),
}


def sources(place: str) -> list[Path]:
    path = ROOT / place
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Names of the modules a file imports, `from a import b` as a.b; only those that importing it loads, unless `everywhere`."""
    names = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write whole module names"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif not everywhere and isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            pass  # read by type checkers alone
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("place", ALLOWED)
def test_project_modules_import_only_what_they_may(place):
    own = ("core", "scripts", "tests", "dashboard", "views", *(path.stem for path in sources("dashboard")))
    for path in sources(place):
        wrong = [
            n
            for n in imports(path)
            if within(n.removeprefix("dashboard."), own) and not within(n.removeprefix("dashboard."), ALLOWED[place])
        ]
        assert wrong == [], f"{path.relative_to(ROOT)} imports {wrong}"


def test_core_and_scripts_know_no_dashboard_library():
    for path in [*sources("core"), *sources("scripts")]:
        wire_format = "streamlit.proto" if path.name == "benchmark.py" else ()  # for visitors without a browser
        assert not [n for n in imports(path) if within(n, ("streamlit", "plotly")) and not n.startswith(wire_format)], path


def test_pages_and_result_readers_load_without_torch():
    for path in [*sources("dashboard"), *(path for name in TORCH_FREE for path in sources(name) if path.exists())]:
        assert not [n for n in imports(path, everywhere=False) if within(n, TORCH)], path


def find_module(name: str) -> Path | None:
    """The file of a module or package of this project; None where there is none of that name."""
    path = ROOT / name.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache  # a package is imported by many
def torch_free(name: str) -> bool:
    """Does importing a core module leave torch out, its own imports included?"""
    seen, waiting = set(), {name}  # each module is read once: packages import themselves in circles
    while waiting:
        module = waiting.pop()
        seen.add(module)
        loaded = read_imports(module)
        if any(within(n, TORCH) for n in loaded):
            return False
        waiting |= {m for n in loaded for m in (n, n.rpartition(".")[0]) if m.startswith("core.") and find_module(m)} - seen
    return True


@cache
def read_imports(module: str) -> set[str]:
    return imports(find_module(module), everywhere=False)


def test_nothing_loads_torch_through_a_detour():
    for name in TORCH_FREE:
        if (ROOT / name).exists():
            assert torch_free(name.removesuffix(".py").replace("/", ".")), name
    for path in sources("dashboard"):
        for name in imports(path, everywhere=False):
            module = name if find_module(name) else name.rpartition(".")[0]
            if module.startswith("core."):
                assert torch_free(module), f"{path.relative_to(ROOT)} loads torch through {module}"


def test_arrows_are_really_read(tmp_path):
    """The reader sees every way of importing, and what lies in functions only when asked."""
    path = tmp_path / "module.py"
    path.write_text("import a.b\nfrom c import d, e\nif True:\n    import f as g\ndef h():\n    import torch\n")
    assert imports(path) == {"a.b", "c.d", "c.e", "f", "torch"}
    assert imports(path, everywhere=False) == {"a.b", "c.d", "c.e", "f"}


def test_every_choice_and_link_goes_through_the_address():
    """Streamlit's own binding spells labels, and a bare link forgets the run: see dashboard/address.py."""
    for path in sources("dashboard"):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        bound = [node.lineno for node in calls if any(keyword.arg == "bind" for keyword in node.keywords)]
        links = [node.lineno for node in calls if isinstance(node.func, ast.Attribute) and node.func.attr == "page_link"]
        assert not bound, f"{path.relative_to(ROOT)}, lines {bound}: choose with dashboard.address"
        assert not links or path.name in ("address.py", "Home.py"), f"{path.relative_to(ROOT)}, lines {links}: link with address.link"


@pytest.mark.parametrize("place", ["core", "scripts", "dashboard"])
def test_every_text_file_is_read_and_written_with_an_encoding(place):
    """Ruff's PLW1514 finds those whose receiver it knows to be a path; this finds the rest."""
    for path in sources(place):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute):
                ours = getattr(node.func.value, "id", "") == "results"  # core.results' own functions
                text = node.func.attr in ("read_text", "write_text") and not ours
            else:
                binary = any("b" in a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
                text = getattr(node.func, "id", "") == "open" and not binary
            assert not text or any(k.arg == "encoding" for k in node.keywords), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_file_is_long():
    long = {
        str(path.relative_to(ROOT)): n
        for path in [*sources("core"), *sources("dashboard")]
        if (n := len(path.read_bytes().splitlines())) > 400
    }
    assert long == {}
