# SPDX-License-Identifier: Apache-2.0
"""The page of samples shows all prompts, escaped, and loads nothing."""

import json

import pytest
from html_page import Page
from PIL import Image

from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.reports.samples_page import SHOWN, has_sample_manifest, render_samples


@pytest.fixture
def folder(tmp_path):
    """Write images of these prompts, and a manifest."""

    def make(prompts):
        rows = []
        for seed, asked in enumerate(prompts):
            Image.new("RGB", (8, 8), (seed % 256, 0, 0)).save(tmp_path / f"{seed}.png")
            words = {"prompt": asked} if isinstance(asked, str) else {"label": asked, "class": "x"}
            rows.append({"file": f"{seed}.png", "seed": seed, **words})
        content = {"images": rows, "protocol": {"sampling.steps": 3}}
        (tmp_path / "manifest.json").write_text(json.dumps(content))
        return tmp_path

    return make


def test_samples_stand_below_what_was_asked_for(folder):
    place = folder(["a cat", "a dog", "a cat"])
    text = render_samples(place).read_text()
    assert has_sample_manifest(place)
    assert text.count("data:image/png;base64,") == 3
    assert text.count("<figcaption>a cat<") == text.count("<figcaption>a dog<") == 1
    assert "seed 0, 2" in text and "sampling.steps" in text
    assert "3 of 3 samples" in text


def test_hostile_prompts_are_text(folder):
    text = render_samples(folder(["<script>alert(1)</script>", ""])).read_text()
    found = Page(text)
    assert "script" not in found.tags
    assert all(one.startswith("data:image/png") for one in found.addresses)
    assert "&lt;script&gt;" in text and "(empty)" in text


def test_classes_have_their_names_and_many_samples_are_cut(folder):
    text = render_samples(folder([4] * (SHOWN + 5))).read_text()
    assert "<figcaption>x<" in text
    assert f"{SHOWN} of {SHOWN + 5} samples" in text


def test_files_outside_and_missing_ones_are_left_out(folder):
    place = folder(["a", "b"])
    (place / "0.png").unlink()
    manifest = json.loads((place / "manifest.json").read_text())
    Image.new("RGB", (8, 8)).save(place.parent / "outside.png")
    manifest["images"].append({"file": "../outside.png", "seed": 3, "prompt": "c"})
    (place / "manifest.json").write_text(json.dumps(manifest))
    assert "1 of 3 samples" in render_samples(place).read_text()
    (place / "1.png").unlink()
    with pytest.raises(ConfigError, match="no samples to show"):
        render_samples(place)


def test_report_takes_a_folder_of_samples(folder, capsys):
    place = folder(["a cat"])
    assert main(["report", str(place)]) == 0
    assert capsys.readouterr().out.strip() == str(place / "report.html")
