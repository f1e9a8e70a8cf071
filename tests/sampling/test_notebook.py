# SPDX-License-Identifier: Apache-2.0
"""Runs and samples in a notebook, whose cells run inside an event loop."""

import asyncio
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from html_page import Page
from rich.console import Console

import pippin
from pippin import draw, load_run, show_images
from pippin.system import progress
from pippin.system.progress import Progress, prints_lines

MODEL = "pippin/openmoji-mmdit-disentangled"


@pytest.fixture(scope="module")
def shipped():
    return load_run(MODEL, console=Console(file=io.StringIO()))


def test_a_run_is_a_table_of_facts(shipped):
    page = Page(shipped._repr_html_())
    text = " ".join(page.text)
    for name in ("recipe", "weights", "prompts", "control", "sampling"):
        assert name in page.text
    assert f"{len(shipped.class_names)} classes: {shipped.class_names[0]}" in text
    assert shipped.description in text and shipped.sha256[:12] in text
    assert len(shipped._repr_markdown_().splitlines()) == 2 + 6


def test_a_terminal_shows_the_facts_as_lines(shipped):
    lines = repr(shipped).splitlines()
    assert [line.partition(": ")[0] for line in lines][:2] == ["recipe", "model"]
    assert len(lines) == 6 and shipped.description in lines[2]


def test_names_of_classes_are_escaped(shipped, monkeypatch):
    monkeypatch.setattr(type(shipped), "class_names", ("<img src=x onerror=evil()>", "b"))
    page = Page(shipped._repr_html_())
    assert "img" not in {tag for tag, _ in page.elements}
    assert "2 classes: <img src=x onerror=evil()>, b" in page.text
    assert "<" not in shipped._repr_markdown_()


def test_drawing_inside_a_running_loop_gives_the_same_images(shipped):
    config = replace(shipped.recipe.sampling, solver="dpm++", steps=2)

    async def cell():
        task = asyncio.create_task(asyncio.sleep(0, "another task"))
        images = draw(shipped, [0, 1], [0, 1], config)
        return images, show_images(images)._repr_html_(), await task

    images, html, other = asyncio.run(cell())
    assert torch.equal(images, draw(shipped, [0, 1], [0, 1], config))
    assert html.count("<img") == 2 and other == "another task"


def test_nothing_starts_an_event_loop():
    """A second one in the same thread is an error where a notebook runs one."""
    starts = re.compile(r"asyncio\.run\(|run_until_complete|new_event_loop")
    for path in Path(pippin.__file__).parent.rglob("*.py"):
        assert not starts.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_without_widgets_gets_lines(monkeypatch, widgets):
    monkeypatch.setattr(progress, "_has_widgets", lambda: widgets)
    console = Console(file=io.StringIO(), force_jupyter=True)
    assert prints_lines(console) is not widgets
    assert Progress(console, "sampling", total=2).is_bar is widgets
