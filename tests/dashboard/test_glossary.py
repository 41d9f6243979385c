"""One file explains every word of statistics, and the words the pages use are in it."""

import re

import pytest
import torch
from torch import nn

from core.config import ROOT, Recipe
from core.explain.score import baseline
from dashboard.glossary import WORDS, explain

FORMS = [form for word in WORDS for form in (word.name, *word.forms)]


def test_no_word_stands_twice_and_every_meaning_is_a_sentence():
    assert len(set(FORMS)) == len(FORMS)
    assert all(word.meaning.endswith(".") and len(word.meaning) > 20 for word in WORDS)


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.name)
def test_every_word_explained_is_used(word):
    files = [path for folder in ("dashboard", "core") for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".html", ".js")]
    text = " ".join(path.read_text(encoding="utf-8") for path in files if path.name != "glossary.py")
    assert any(re.search(rf"(?<!\.)\b{re.escape(form)}\b", text) for form in (word.name, *word.forms))


def test_meanings_are_those_of_the_code():
    start = baseline(torch.zeros(1, 3, 2, 2))  # far from black, of hardly any colour
    assert "from the mean colour" in explain("Integrated Gradients") and start.min() > 0.3 and start.max() - start.min() < 0.1
    aim = nn.functional.one_hot(torch.tensor(3), 10) * (1 - Recipe.label_smoothing) + Recipe.label_smoothing / 10
    assert f"towards {aim[3]:.2f} for the true class and {aim[0]:.2f} for each other" in explain("label smoothing")


def test_the_glossary_page_lists_every_word(visit):
    text = visit("glossary").markdown[0].value
    assert all(f"- **{word.name}**: {word.meaning}" in text for word in WORDS)
