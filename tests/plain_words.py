"""Measure how plain the words of README and site are.

    python tests/plain_words.py

Code, tables, headings and lists of links are no sentences, and are left out of both
numbers. Words to avoid are looked for everywhere but in code.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
AVOIDED = (
    "excite", "untouched", "quiet ground", "hues", "held inputs", "drift floor", "namer",
)  # fmt: skip
INVERTED = ("Of", "What", "Where", "With")


def pages():
    """Return README and every page of the site."""
    included = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    return [ROOT / "README.md", *included, *sorted((ROOT / "docs").rglob("*.md"))]


def without_code(text):
    """Return text in which a word stands for each piece of code, and blocks are gone."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<[^>]+>", "", text)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"`[^`]+`", "code", text)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def sentences(text):
    """Return the sentences of paragraphs and lists, each a list of words."""
    prose = [
        line
        for line in without_code(text).splitlines()
        if not line.lstrip().startswith(("|", "#", "```"))
    ]
    # A line that begins an item ends the sentence before it.
    blocks = re.split(r"\n\s*\n|\n\s*(?=[-*] |\d+\. )", "\n".join(prose))
    found = []
    for block in blocks:
        plain = re.sub(r"^\s*(?:[-*]|\d+\.)\s+", "", block).replace("*", "")
        found += [one.split() for one in re.split(r"(?<=[.!?])[\"')]*\s+", plain)]
    # A title or the name of a link is no sentence.
    return [words for words in found if words and words[-1].endswith((".", "!", "?", ":"))]


def measure(text):
    """Return the words a sentence, and the share of inverted sentences."""
    all_of_them = sentences(text)
    mean = sum(map(len, all_of_them)) / len(all_of_them)
    inverted = sum(words[0] in INVERTED for words in all_of_them) / len(all_of_them)
    return mean, inverted


def avoided(text):
    """Return the words to avoid that a text has."""
    plain = without_code(text).lower()
    return [word for word in AVOIDED if re.search(rf"\b{word}", plain)]


if __name__ == "__main__":
    for page in pages():
        text = page.read_text()
        if sentences(text):
            mean, inverted = measure(text)
            print(f"{mean:5.1f} words, {inverted:4.0%} inverted  {page.relative_to(ROOT)}")
    mean, inverted = measure("\n\n".join(page.read_text() for page in pages()))
    print(f"{mean:5.1f} words, {inverted:.1%} inverted  all")
