# SPDX-License-Identifier: Apache-2.0
"""``pippin train RECIPE --captioner MODEL``: images without a caption get one, by a tiny BLIP."""

import json
from pathlib import Path

import pytest
from noise_images import write_noise
from tiny_blip import save_blip

from pippin.cli.main import main
from pippin.data.folder.metadata import read_metadata
from pippin.encoders.captioner import Captioner, stated_max_tokens
from pippin.runs.data.missing_captions import caption_column

SMALL = (
    *("--data.path", "photos", "--data.resolution", "32", "--data.views", "1"),
    *("--denoiser.depth", "1", "--denoiser.width", "32", "--denoiser.num-heads", "2"),
    *("--train.device", "cpu", "--train.images", "8", "--train.batch-size", "4"),
    *("--train.preview-every", "0", "--train.validate-every", "0"),
)
COLUMN = "caption_blip"


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    return str(save_blip(tmp_path_factory.mktemp("models") / "blip"))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(12):
        write_noise(
            Path("photos") / ("cat", "dog")[number % 2] / f"{number}.png", number, (40, 36)
        )
    return tmp_path / "photos"


def train(*options):
    recipe = "folder/mmdit-disentangled-text"
    return main(["train", recipe, "--folder", "run", *SMALL, *options])


def column(folder):
    rows = read_metadata(folder / "metadata.csv").rows
    return {row.file_name: row.captions.get(COLUMN) for row in rows}


def files():
    return {path for path in Path().rglob("*") if path.name != ".lock"}


def test_one_command_captions_trains_and_resumes_without_the_model(
    photos, blip, monkeypatch, capsys
):
    (photos / "cat" / "bad.png").write_bytes(b"no image")
    assert train("--captioner", blip, "--data.max-lost-share", "0.5") == 0
    said = capsys.readouterr().err
    assert f"metadata.csv: 12 captions written to column {COLUMN}, 0 kept" in said
    captions = column(photos)
    assert captions.pop("cat/bad.png") is None
    assert len(captions) == 12 and all(captions.values())
    assert not list(photos.glob(".caption*"))
    record = json.loads(Path("run/config.json").read_text())
    assert record["text"]["captions"] == {COLUMN: 1.0}

    def unloadable(self, *args, **options):
        raise AssertionError("all images have a caption")

    monkeypatch.setattr(Captioner, "__init__", unloadable)
    assert train("--captioner", blip, "--data.max-lost-share", "0.5", "--resume") == 0
    assert column(photos) == {**captions, "cat/bad.png": None}


def test_own_captions_stay_and_the_others_are_filled(photos, blip):
    rows = "".join(
        f"{('cat', 'dog')[n % 2]}/{n}.png,own {n}\n"
        if n < 5
        else f"{('cat', 'dog')[n % 2]}/{n}.png,\n"
        for n in range(12)
    )
    (photos / "metadata.csv").write_text(f"file_name,caption\n{rows}")
    command = ["data", "prepare", "folder/mmdit-disentangled-text", *SMALL, "--captioner", blip]
    assert main(command) == 0
    filled = {name for name, caption in column(photos).items() if caption}
    assert filled == {f"{('cat', 'dog')[n % 2]}/{n}.png" for n in range(5, 12)}
    assert len((photos / "metadata.csv").read_text().split("own ")) == 6


def test_a_kill_while_captioning_costs_one_batch(photos, blip, monkeypatch):
    monkeypatch.setattr("pippin.runs.data.missing_captions.BATCH_SIZE", 5)
    batch_sizes, generate_captions = [], Captioner.generate_captions

    def stopping(self, images):
        batch_sizes.append(len(images))
        if len(batch_sizes) == 2:
            raise KeyboardInterrupt
        return generate_captions(self, images)

    monkeypatch.setattr(Captioner, "generate_captions", stopping)
    command = ["data", "prepare", "folder/mmdit-disentangled-text", *SMALL, "--captioner", blip]
    assert main(command) == 75
    assert not (photos / "metadata.csv").exists()
    assert main(command) == 0
    assert batch_sizes == [5, 5, 5, 2]
    assert all(column(photos).values())


def test_the_dry_run_counts_and_writes_nothing(photos, blip, capsys):
    before = files()
    assert train("--captioner", blip, "--dry-run") == 0
    said = capsys.readouterr().out
    assert f"12 images without one: by {blip}, as {COLUMN}" in said
    assert "the features of 12 captions" in said
    assert files() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--captioner", "nowhere/at/all"], "captioner 'nowhere/at/all' is no folder"),
        (["--captioner", "bert"], "captioner 'bert' is a 'bert'; supported: blip, "),
        (["--captioner", "torn"], "captioner in torn cannot be loaded"),
        (
            ["--captioner", "torn", "--text.captions", "class", "1"],
            "--captioner torn writes captions to the column caption_torn, which --text.captions",
        ),
    ],
)
def test_a_useless_captioner_is_refused_before_anything_is_written(
    photos, blip, capsys, monkeypatch, options, message
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Path("bert").mkdir()
    Path("bert/config.json").write_text('{"model_type": "bert"}')
    Path("torn").mkdir()
    Path("torn/config.json").write_bytes((Path(blip) / "config.json").read_bytes())
    before = files()
    assert train(*options) == 2
    assert message in capsys.readouterr().err
    assert files() == before


def test_a_class_recipe_and_a_captioned_folder_are_refused(photos, blip, capsys):
    command = ["train", "folder/mmdit-disentangled", *SMALL, "--captioner", blip]
    assert main(command) == 2
    assert "this recipe reads no text. Add --text-encoder" in capsys.readouterr().err
    for path in photos.rglob("*.png"):
        path.with_suffix(".txt").write_text("an owl")
    assert train("--captioner", blip) == 2
    assert "photos have a caption. Leave it out" in capsys.readouterr().err
    assert not Path("run").exists()


def test_columns_are_named_after_models(tmp_path):
    assert caption_column("Salesforce/blip-image-captioning-base") == (
        "caption_blip-image-captioning-base"
    )
    (tmp_path / "mon modèle").mkdir()
    assert caption_column(f"{tmp_path}/mon modèle/") == "caption_mon-mod-le"


def test_a_short_decoder_limits_the_length_of_captions(blip):
    assert stated_max_tokens(blip, 40) == 31
    assert stated_max_tokens(blip, 6) == 6
