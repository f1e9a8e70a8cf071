# SPDX-License-Identifier: Apache-2.0
"""Code, tests and documentation use the terms of the field, not those that they once had."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RETIRED = {
    r"pictures?": "image",
    r"(two|several|other|each|the|a) cards?": "GPU, device",
    r"the first process|crews?": "rank 0, ranks",
    r"deaf|hears|listens|obeys?|obeyed": "unresponsive, responds",
    r"twins?": "shared weights",
    r"laps?|duels?": "timer, comparison",
    r"made[- ]up": "synthetic",
    r"passed over": "skipped",
    r"day[- ]zero": "before fine-tuning",
    r"half the side|at other sides": "low resolution",
    r"put(ting)? back": "load, restore",
    r"one's own|of your own pictures|own pictures": "custom data set",
    r"made anew|make anew|make again": "rebuild",
    r"by heart": "memorised",
}
"""Retired terms, as patterns of whole words, and what is said instead."""
SERIALISED = (
    "model card",
    "wild card",
    "twin.json",
    '"made-up"',
    "made-up:",
    "held-out pictures",
    "--pictures",
    "max_pictures",
    "num_pictures",
    '"pictures',
    '" pictures',
    'Path("pictures")',
    '"picture"',
    "named `picture`",
    "`picture`, ",
    "its class (picture)",
    "--data.path pictures",
    "`made-up`",
    "made-up ",
)
"""Exceptions: terms of others, and names in files and on the command line that stay readable."""
FOLDERS = ("src", "tests", "scripts", "examples")
"""Folders whose Python files are held."""
SKIPPED = (
    "tests/test_vocabulary.py",  # lists the terms
    "src/pippin/studies/shipped",  # texts of declarations are part of kept results
    "docs/results.md",  # quotes them
    "docs/images",
)


def lines():
    code = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    files = [*code, *pages, *(ROOT / "examples").rglob("*.sbatch")]
    for path in sorted(files):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(SKIPPED):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                yield f"{name}:{number}", line


LINES = list(lines())


@pytest.mark.parametrize("term", RETIRED)
def test_retired_terms_do_not_come_back(term):
    pattern = re.compile(rf"(?<![\w.-])(?:{term})(?![\w(-])", re.IGNORECASE)
    found = [
        f"{place}: {line.strip()}"
        for place, line in LINES
        if pattern.search(line.replace("_", " ")) and not any(name in line for name in SERIALISED)
    ]
    assert not found, f"say {RETIRED[term]!r} instead:\n" + "\n".join(found)


@pytest.mark.parametrize("first", ["Of", "What"])
def test_docstrings_start_with_a_noun_or_a_verb(first):
    found = [place for place, line in LINES if re.match(rf'\s*r?"""{first} ', line)]
    assert not found, f"docstrings start with {first!r}: {', '.join(found)}"


@pytest.mark.parametrize(
    "term",
    [
        *("prefetch", "all_reduce", "augmentation", "barrier", "checkpoint", "resume"),
        *("world_size", "ema", "classifier-free guidance", "aspect ratio", "full_tensor"),
        *("learning rate", "gradient checkpointing", "autocast", "data parallel", "fine-tun"),
    ],
)
def test_the_terms_of_the_field_are_found(term):
    """By grep, ignoring case, in code or documentation."""
    assert any(term in line.lower() for _, line in LINES)
