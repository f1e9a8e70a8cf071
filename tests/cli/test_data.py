# SPDX-License-Identifier: Apache-2.0
"""``pippin data``: checks before training."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_autoencoders import tiny_network

from pippin.cli.main import main


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixteen images in two classes, next to the working folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(16):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return tmp_path / "photos"


def test_a_good_folder_is_described_and_the_autoencoder_tried(photos, capsys):
    (photos / "notes.txt").write_text("")
    assert main(["data", "check", "photos", "--data.resolution", "32", "--sample", "4"]) == 0
    said = capsys.readouterr().out
    assert "photos: 16 images (class folders)" in said
    assert "shorter side: 40 to 40 pixels, median 40" in said
    assert "width / height: 1.25 to 1.25" in said
    assert "files that are not images: 1 .txt" in said
    assert "held-out images and is skipped" in said
    assert "autoencoder pippin/openmoji-f4: " in said
    assert "dB PSNR on 4 views at 32 pixels; " in said
    assert "pippin autoencoder train --data.path photos" in said  # nothing keeps noise
    assert "For photographs use stabilityai/sd-vae-ft-mse" in said
    table = {words[0]: words[1:] for words in map(str.split, said.splitlines()) if words}
    train, held_out = (np.array(list(map(int, table[n]))) for n in ("cat", "dog"))
    assert (train + held_out == list(map(int, table["total"]))).all()


def test_an_autoencoder_without_statistics_has_raw_latents(photos, tmp_path, capsys):
    tiny_network("AutoencoderKLKVAE").save_pretrained(tmp_path / "bare")
    words = f"data check {photos} --data.resolution 32 --sample 4 --autoencoder.source"
    command = [*words.split(), str(tmp_path / "bare")]
    assert main([*command, "--autoencoder.normalisation", "measured"]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"^raw latents: root mean square \d+\.\d\d on 4 views; \S+ has no sta", said, re.M
    )
    assert "normalised by the statistics" not in said and "note: outside" not in said


def test_a_refused_folder_names_every_lost_file(photos, capsys):
    for number in range(3):
        (photos / "cat" / f"bad{number}.jpg").write_bytes(b"")
    assert main(["data", "check", "photos"]) == 1
    said = capsys.readouterr().out
    assert "unreadable: 3 images (15.8%)" in said
    assert all(f"  cat/bad{number}.jpg: broken: " in said for number in range(3))
    assert "refused: photos: 3 of 19 images would be skipped" in said
    assert "dB" not in said
    options = ["--data.max-lost-share", "0.2", "--sample", "0"]
    assert main(["data", "check", "photos", *options]) == 0


def test_a_folder_without_images_is_refused(photos, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main(["data", "check", "empty"]) == 1
    assert "empty and its subfolders hold no image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nowhere"], "nowhere is not there"),
        (["check", "photos/cat/0.png"], "0.png is a file"),
        (["check"], "FOLDER is missing: pippin data check FOLDER"),
        (["check", "--sample", "4"], "FOLDER is missing: pippin data check FOLDER"),
        (["prepare"], "RECIPE is missing: pippin data prepare RECIPE"),
        (
            ["chek", "photos"],
            "unknown verb 'chek' of pippin data; choose from: import, check, recaption",
        ),
        (["prepare", "folder/none"], "no recipe 'folder/none'"),
        (
            ["prepare", "folder/mmdit-disentangled", "--shards.require-caption"],
            "--shards.require-caption has no effect without --shards.source",
        ),
        (["prepare", "folder/mmdit-disentangled"], "--data.path FOLDER"),
        (
            ["prepare", "openmoji/dit-entangled", "--data.path", "photos"],
            "--data.path works with: folder/",
        ),
    ],
)
def test_misuse_is_bad_input(photos, capsys, arguments, message):
    assert main(["data", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_prepare_builds_the_cache_that_training_opens(photos, capsys):
    from dataclasses import replace

    from rich.console import Console

    from pippin.data.cache.latent_cache import LatentCache
    from pippin.recipes.table import get_recipe
    from pippin.runs.components import Components

    options = ["--data.path", "photos", "--data.resolution", "32", "--data.views", "2"]
    assert main(["data", "prepare", "folder/mmdit-disentangled", *options]) == 0
    (folder,) = (path for path in Path("caches").iterdir() if path.is_dir())
    said = capsys.readouterr().out
    assert f"images x 2 views in {folder} (" in said
    assert len(json.loads((folder / "manifest.json").read_text())["shards"]) == 1
    recipe = get_recipe("folder/mmdit-disentangled")
    data = replace(recipe.data, path="photos", resolution=32, views=2)
    components = Components(replace(recipe, data=data), Console(quiet=True))
    opened = LatentCache.open(components.train_source, components.raw_autoencoder, recipe.cache)
    assert opened.folder == folder


def test_prepare_encodes_shards_that_training_reads(tmp_path, capsys, monkeypatch):
    pytest.importorskip("datasets")
    from dataclasses import replace

    from archives import captioned
    from rich.console import Console

    from pippin.data.cache.streamed import StreamedLatents
    from pippin.preflight.checks import failures
    from pippin.preflight.start import Start
    from pippin.recipes.table import get_recipe
    from pippin.runs.components import Components
    from pippin.runs.folder import RunFolder

    monkeypatch.chdir(tmp_path)
    Path("shards").mkdir()
    for number in range(2):
        Path(f"shards/{number}.tar").write_bytes(captioned(8 * number, 8))
    options = ["--data.path", "own", "--data.resolution", "32", "--data.views", "1"]
    command = ["data", "prepare", "folder/mmdit-disentangled", *options]
    source = ["--shards.source", "shards/{0..1}.tar", "--shards.keep", "9"]
    assert main([*command, *source, "--dry-run"]) == 0
    assert "those of the shards of shards/{0..1}.tar, unread yet" in capsys.readouterr().out
    assert main([*command, "--shards.source", "shards/{0..2}.tar", "--dry-run"]) == 2
    assert "names shards/2.tar, which is not there" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]
    assert main([*command, *source]) == 0
    said = capsys.readouterr()
    assert "images x 1 views in caches" in said.out
    assert "16 rows: 16 with image, 16 with caption" in " ".join(said.err.split())
    assert "encoding shards: 2 of 2 shards (100.0 %)" in said.err
    Path("shards").rename("elsewhere")
    assert main(command) == 0  # the source is not needed any more
    capsys.readouterr()
    assert main([*command, "--dry-run"]) == 0  # the table knows the images
    printed = " ".join(capsys.readouterr().out.split())
    known = re.search(r"images (\d+) training images", printed)
    assert known and 0 < int(known[1]) < 16 and "of it there" in printed
    assert main(["data", "check", "own", *options[2:4], "--sample", "2"]) == 0
    recipe = get_recipe("folder/mmdit-disentangled")
    recipe = replace(recipe, data=replace(recipe.data, path="own", resolution=32, views=1))
    assert failures(Start(recipe, recipe, RunFolder(Path("run")))) == []
    components = Components(recipe, Console(quiet=True))
    assert isinstance(components.moments, StreamedLatents)
    assert len(components.moments) == len(components.train_source) <= 15
    assert len(components.held_out_source) <= 9
    assert components.measured_latents.images == len(components.moments)
    capsys.readouterr()
    assert main([*command[:2], "openmoji/dit-entangled", *source]) == 2
    assert "--shards.source needs a recipe folder/..." in capsys.readouterr().err


def test_the_reference_of_a_folder_may_be_a_custom_data_set(photos, capsys):
    options = ["--data.path", "photos", "--input-size", "32", "--device", "cpu"]
    assert main(["evaluate", "photos", *options]) == 0
    assert "KID-efflite0" in capsys.readouterr().out


def test_an_autoencoder_trains_on_a_custom_data_set(photos, capsys, tmp_path):
    options = "--train.images 8 --train.block-channels 4 8 --train.device cpu --data.path photos"
    out = str(tmp_path / "autoencoder")
    assert main(["autoencoder", "train", "--out", out, *options.split()]) == 0
    quality = json.loads((tmp_path / "autoencoder" / "quality.json").read_text())
    assert 0 < quality["held_out_images"] < 16
