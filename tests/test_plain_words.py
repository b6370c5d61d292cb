"""Tests that README and site are plain to read."""

import re

import pytest

from tests import plain_words

ALL = "\n\n".join(page.read_text() for page in plain_words.pages())
README = (plain_words.ROOT / "README.md").read_text()


@pytest.mark.parametrize("text", [README, ALL], ids=["README", "all"])
def test_sentences_are_short_and_begin_with_their_subject(text):
    mean, inverted = plain_words.measure(text)
    assert mean <= 15
    assert inverted <= 0.02


@pytest.mark.parametrize("page", plain_words.pages(), ids=str)
def test_no_page_has_a_word_to_avoid(page):
    assert plain_words.avoided(page.read_text()) == []


def test_the_readme_is_short():
    assert len(plain_words.without_code(README).split()) <= 1200


def test_the_measure_finds_what_it_looks_for():
    text = "With data it is fine. It works!\n\n- One two three.\n- It excites!\n"
    text += "- A link\n\n| excite | a b c |"
    assert [len(words) for words in plain_words.sentences(text)] == [5, 2, 3, 2]
    assert plain_words.measure(text) == (3, 0.25)
    assert plain_words.avoided(text) == ["excite"]
    assert plain_words.avoided("`excite`\n\n```\nexcite\n```") == []


def test_the_families_of_the_readme_are_those_of_the_benchmark():
    results = (plain_words.ROOT / "benchmarks/results/real_code.md").read_text()
    shown = [line.split(" | ")[1] != "none" for line in results.splitlines()[6:]]
    table = re.search("<!-- families -->(.*)<!-- end -->", README, re.DOTALL)[1]
    rows = [line.strip("| ").split(" | ")[1:] for line in table.strip().splitlines()[2:]]
    assert sum(int(families) for families, _ in rows) == len(shown)
    assert sum(int(count) for _, count in rows) == sum(shown)
