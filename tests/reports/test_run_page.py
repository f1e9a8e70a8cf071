# SPDX-License-Identifier: Apache-2.0
"""The page of one run: its prompts, its previews over time, and no verdicts."""

import json
import re

import pytest
from edited_json import edit
from html_page import Page
from PIL import Image

from pippin.reports.figures.previews import NO_PROMPTS, SHOWN, evenly_spaced
from pippin.reports.report import render_report

HOSTILE = "<script>alert('x')</script> & `code`"


@pytest.fixture
def run(finished):
    """The folder of a finished run."""
    return finished / "runs/entangled-seed0"


def write_previews(run, count, prompts=()):
    folder = run / "previews"
    folder.mkdir(exist_ok=True)
    for index in range(count):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / f"{1000 * (index + 1):09d}.png")
    if prompts:
        rows = [{"seed": seed, "prompt": prompt} for seed, prompt in enumerate(prompts)]
        (folder / "manifest.json").write_text(json.dumps({"images": rows}))


def page(run):
    return render_report(run).read_text(encoding="utf-8")


def visible(text):
    return " ".join(Page(text).text)


def test_previews_stand_in_the_order_of_training_with_their_prompts(run):
    write_previews(run, 3, ["a red circle", HOSTILE, ""])
    text = page(run)
    labels = re.findall(r"<figcaption>([\d,]+) images seen", text)
    assert labels == ["1,000", "2,000", "3,000"]
    found = Page(text)
    assert "script" not in found.tags and "&lt;script&gt;" in text
    prompts = re.findall(r"<li>(.*?)</li>", text.partition('id="previews"')[2])[:3]
    assert prompts[0] == "a red circle (seed 0)" and prompts[2] == "(empty) (seed 2)"
    assert "3 previews, by the averaged weights (EMA)" in text and NO_PROMPTS not in text


def test_many_previews_are_thinned_and_both_ends_stay(run):
    write_previews(run, 20)
    (run / "previews" / "mine.png").write_bytes(b"of the user")
    text = page(run)
    labels = re.findall(r"<figcaption>([\d,]+) images seen", text)
    assert len(labels) == SHOWN and (labels[0], labels[-1]) == ("1,000", "20,000")
    assert f"{SHOWN} of 20 previews" in text
    assert evenly_spaced([1, 2, 3]) == [1, 2, 3]


def test_a_text_run_without_recorded_prompts_says_so(run):
    write_previews(run, 1)
    assert NO_PROMPTS not in page(run)
    edit(run / "config.json", conditioning={"semantic": {"kind": "text"}})
    assert NO_PROMPTS in page(run)


def test_samples_of_a_text_run_have_their_prompts(run):
    manifest = run / "evaluation/samples/manifest.json"
    rows = [{"seed": 4, "prompt": HOSTILE}, {"seed": 5, "prompt": "two squares"}]
    manifest.write_text(json.dumps({"images": rows}))
    text = page(run)
    assert "<details open><summary>Prompts, row by row" in text
    assert "<li>two squares (seed 5)</li>" in text
    assert "script" not in Page(text).tags and "Classes of the samples" not in text


def test_a_study_with_captions_lists_them_once_for_each_seed(finished):
    for place in finished.glob("runs/*/evaluation/samples/manifest.json"):
        rows = [{"seed": 4, "prompt": "one"}, {"seed": 5, "prompt": "two"}]
        place.write_text(json.dumps({"images": rows}))
    text = page(finished)
    assert text.count("<li>one (seed 4)</li>") == 3
    place = finished / "runs/entangled-seed0/evaluation/samples/manifest.json"
    place.write_text(json.dumps({"images": [{"seed": 4, "prompt": "other"}]}))
    assert "do not compare them" in page(finished)


def test_a_page_without_a_comparison_does_not_speak_of_verdicts(run):
    write_previews(run, 1)
    text = page(run)
    assert "verdict" not in visible(text).lower() and "decides" not in visible(text)
    assert 'id="verdict"' not in text and 'id="summary"' in text


def test_an_unfinished_run_says_how_far_it_is(run):
    log = run / "log.jsonl"
    log.write_text('{"images": 5000, "loss": 1.0}\n')
    assert "Trained on 5,000 of 10,000 images with seed 0." in page(run)
    log.unlink()
    assert "Not trained yet, or without a log, with seed 0." in page(run)
