# SPDX-License-Identifier: Apache-2.0
"""``pippin data recaption``: by a tiny BLIP, by a file, stopped and resumed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_blip import save_blip

from pippin.cli.main import main
from pippin.data.config import ImagesConfig
from pippin.data.folder.metadata import read_metadata
from pippin.data.sources.images import ImageFolderSource
from pippin.encoders.captioner import Captioner
from pippin.system.lines import read_lines
from pippin.system.lock import folder_lock


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    return str(save_blip(tmp_path_factory.mktemp("blip")))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(7):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return tmp_path / "photos"


def recaption(blip, *options):
    command = ["data", "recaption", "photos", "--column", "caption_blip", "--captioner", blip]
    return main([*command, "--max-tokens", "6", "--device", "cpu", *options])


def column(path):
    return {row.file_name: row.captions.get("caption_blip") for row in read_metadata(path).rows}


def hidden(folder):
    return list(folder.glob(".caption*"))


def test_every_image_gets_a_caption_and_keeps_its_class(photos, blip, capsys):
    (photos / "cat" / "bad.png").write_bytes(b"no image")
    assert recaption(blip) == 0
    said = capsys.readouterr().out
    assert "photos/metadata.csv: 7 captions written to column caption_blip, 0 kept" in said
    assert "this new file lists" in said and "skipped: cat/bad.png: no image format" in said
    place = photos / "metadata.csv"
    assert column(place).pop("cat/bad.png") is None
    config = ImagesConfig(path="photos", max_lost_share=0.5)
    for split in ("train", "held-out"):
        source = ImageFolderSource(config, split)
        assert source.class_names == ("cat", "dog")
        for index in range(len(source)):
            kinds = source.captions(index)
            assert kinds["name"] == source.key(index)[:3]
            assert kinds["caption_blip"] == column(place)[source.key(index)]
    assert not hidden(photos)
    before = place.read_bytes()
    assert recaption(blip) == 0
    assert "0 captions written to column caption_blip, 7 kept" in capsys.readouterr().out
    assert place.read_bytes() == before


def test_a_stopped_call_goes_on_where_it_was(photos, blip, monkeypatch, capsys):
    assert recaption(blip) == 0
    whole = (photos / "metadata.csv").read_bytes()
    (photos / "metadata.csv").unlink()
    batch_sizes, generate_captions = [], Captioner.generate_captions

    def stopping(self, images):
        batch_sizes.append(len(images))
        if len(batch_sizes) == 3:
            raise KeyboardInterrupt
        return generate_captions(self, images)

    monkeypatch.setattr(Captioner, "generate_captions", stopping)
    assert recaption(blip, "--batch-size", "2") == 75
    assert not (photos / "metadata.csv").exists()
    (journal,) = hidden(photos)
    described = read_lines(journal).objects.values()
    assert [set(line) for line in described] == [{"file_name", "caption"}] * 4
    journal.write_text(journal.read_text() + '{"file_na')  # as a kill leaves it
    assert recaption(blip, "--batch-size", "2") == 0
    assert batch_sizes == [2, 2, 2, 2, 1]
    assert (photos / "metadata.csv").read_bytes() == whole
    assert not hidden(photos)


def test_captions_made_elsewhere_are_merged(photos, capsys):
    rows = "".join(f"{'cat' if n % 2 == 0 else 'dog'}/{n}.png,x,a {n}\n" for n in range(7))
    (photos / "metadata.csv").write_text(f"file_name,label,caption\n{rows}")
    given = Path("given.jsonl")
    lines = [("cat/0.png", "zero"), ("dog/1.png", ""), ("gone.png", "none")]
    given.write_text("\n".join(json.dumps({"file_name": n, "caption": c}) for n, c in lines))
    command = ["data", "recaption", "photos", "--column", "caption_llm", "--captions"]
    assert main([*command, str(given)]) == 0
    said = capsys.readouterr().out
    assert "1 captions written to column caption_llm, 0 kept, 6 images without one" in said
    assert "skipped: 1 names that are not images of the folder: gone.png" in said
    assert "--text.captions name 0.5 caption_llm 0.5" in said and "tokens" not in said
    assert (photos / "metadata.csv").read_text() == (
        f"file_name,label,caption,caption_llm\n{rows}".replace("a 0\n", "a 0,zero\n")
        .replace("\n", ",\n")
        .replace("zero,\n", "zero\n")
        .replace("caption_llm,\n", "caption_llm\n")
    )
    given.write_text(json.dumps({"file_name": "dog/1.png", "caption": "red " * 23}))
    assert main([*command, str(given)]) == 0
    said = capsys.readouterr().out
    assert "note: 1 of 2 captions (50.0%) have more than the 24 tokens that folder/" in said
    given.write_text('{"file_name": "gone.png", "caption": "none"}')
    assert main([*command, str(given)]) == 2
    assert "names no image of photos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--column", "caption_x"], "FOLDER is missing: pippin data recaption FOLDER"),
        (["photos", "--column", "caption_x"], "give either --captioner MODEL or --captions"),
        (["photos", "--captioner", "x", "--column", "blip"], "--column must be caption_ and"),
        (["photos", "--captioner", "nowhere/at/all", "--column", "caption_x"], "nowhere/at/all"),
        (["none", "--captions", "x.jsonl", "--column", "caption_x"], "none is not there"),
        (["photos", "--captions", "x.jsonl", "--column", "caption_x"], "x.jsonl"),
        (
            ["photos", "--captioner", "x", "--column", "caption_x", "--batch-size", "0"],
            "must be 1 or more",
        ),
    ],
)
def test_misuse_is_bad_input_and_writes_nothing(photos, capsys, arguments, message):
    before = sorted(Path().rglob("*"))
    assert main(["data", "recaption", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [p for p in sorted(Path().rglob("*")) if p.name != ".lock"] == before


def test_images_of_which_none_can_be_read_make_no_file(photos, blip, capsys):
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    assert recaption(blip) == 2
    assert "no image of photos gets a caption; 7 cannot be read" in capsys.readouterr().err
    assert not (photos / "metadata.csv").exists()


def test_two_at_once_are_refused(photos, blip, capsys):
    with folder_lock(photos):
        assert recaption(blip) == 2
    assert "is in use by another pippin process" in capsys.readouterr().err
