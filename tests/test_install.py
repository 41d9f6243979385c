"""The installation: pyproject names what the requirements files pin."""

import re
import tomllib

from core.config import ROOT


def names(text: str) -> set[str]:
    """What a requirements file asks for, without versions."""
    return {match[1].lower() for line in text.splitlines() if (match := re.match(r"([A-Za-z][\w.-]*)==[\w.]+\s", line + " "))}


def test_pyproject_asks_for_what_the_requirements_pin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    light, whole = ((ROOT / place / "requirements.txt").read_text(encoding="utf-8") for place in ("dashboard", "."))
    assert names(light) and not names(light) & names(whole)
    assert set(project["optional-dependencies"]["compute"]) == names(whole)
    assert "-r dashboard/requirements.txt" in whole.splitlines()
