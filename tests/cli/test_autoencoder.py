# SPDX-License-Identifier: Apache-2.0
"""``pippin autoencoder train``: from images to a loadable folder."""

import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from noise_images import write_noise
from safetensors.torch import load_file

from pippin.cli import autoencoder as verb
from pippin.data.config import OpenMojiConfig
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig, AutoencoderTrainConfig
from pippin.encoders.source import WEIGHTS_FILE
from pippin.system.lock import FolderBusyError, folder_lock
from pippin.training.autoencoder.trainer import AutoencoderTrainer

TRAIN = AutoencoderTrainConfig(batch_size=3)
DATA = OpenMojiConfig(resolution=16, max_pictures=5)


def test_it_leaves_a_folder_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "AFFINE_IMAGES", 8)
    options = "--train.images 8 --train.batch-size 4 --train.block-channels 4 8 --train.device cpu"
    data = "--data.resolution 16 --data.max-pictures 8"
    assert verb.main(["train", "--out", str(tmp_path), *options.split(), *data.split()]) == 0
    quality = json.loads((tmp_path / "quality.json").read_text())
    loaded = Autoencoder.load(AutoencoderConfig(source=str(tmp_path)))
    assert quality["fingerprint"] == loaded.fingerprint
    assert quality["images_trained_on"] == 8
    printed = capsys.readouterr()
    assert f"psnr_mean_of_images: {quality['psnr_mean_of_images']}" in printed.out
    time, values = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", r"(?:, [a-z ]+ [-+.e\d]+)+"
    expected = (
        rf"{time} pippin autoencoder train: cpu, from image 0\n"
        rf"{time} training: 8 of 8 images \(100\.0 %\), \S+ (?:images/s|s/image){values}, in \S+\n"
        rf"{time} checkpoint written: \S+state\.safetensors\n"
    )
    assert re.fullmatch(expected, printed.err), printed.err

    before = (tmp_path / WEIGHTS_FILE).read_bytes()
    with pytest.raises(ValueError, match="already holds an autoencoder"):
        verb.main(["train", "--out", str(tmp_path)])
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == before


@pytest.mark.parametrize(("largest", "dtype"), [(6e4, torch.float16), (1e5, torch.float32)])
def test_weights_beyond_the_range_of_float16_are_stored_in_float32(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    largest: float,
    dtype: torch.dtype,
) -> None:
    real = AutoencoderTrainer.ema_network

    def with_a_large_weight(trainer: AutoencoderTrainer) -> AutoencoderKL:
        network = real(trainer)
        with torch.no_grad():
            network.decoder.conv_out.bias[0] = largest
        return network

    monkeypatch.setattr(AutoencoderTrainer, "ema_network", with_a_large_weight)
    monkeypatch.setattr(verb, "AFFINE_IMAGES", 8)
    options = "--train.images 4 --train.batch-size 4 --train.block-channels 4 8 --train.device cpu"
    data = "--data.resolution 16 --data.max-pictures 8"
    assert verb.main(["train", "--out", str(tmp_path), *options.split(), *data.split()]) == 0
    stored = load_file(tmp_path / WEIGHTS_FILE)
    assert {value.dtype for value in stored.values()} == {dtype}
    assert max(float(value.abs().max()) for value in stored.values()) == pytest.approx(
        largest, rel=1e-3
    )
    said = "stored in float32" in capsys.readouterr().err
    assert said == (dtype == torch.float32)


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path / "run"),
        pytest.raises(FolderBusyError, match="in use by another"),
    ):
        verb.main(["train", "--out", str(tmp_path), "--train.device", "cpu"])


def test_a_training_is_resumed_on_the_same_images_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verb, "AFFINE_IMAGES", 4)
    Path("photos").mkdir()
    for number in range(6):
        write_noise(Path("photos") / "all" / f"{number}.png", number, (20, 20))
    options = "--train.images 8 --train.batch-size 4 --train.block-channels 4 8 --data.resolution"
    command = ["train", "--out", "out", *options.split(), "16", "--train.device", "cpu"]
    again = [*command, "--resume", "True", "--data.path"]
    assert verb.main([*command, "--data.path", "photos"]) == 0
    Path("photos").rename("moved")
    assert verb.main([*again, "moved"]) == 0
    for number in range(6):
        write_noise(Path("moved") / "all" / f"{number}.png", 100 + number, (20, 20))
    with pytest.raises(ValueError, match=r"(?s)data\.content: .*another data\.content"):
        verb.main([*again, "moved"])


def test_batches_depend_on_the_position_only() -> None:
    command = verb.TrainAutoencoderCommand(train=TRAIN, data=DATA)
    whole = list(islice(verb.training_batches(command, 0), 5))
    assert torch.equal(next(verb.training_batches(command, 9)), whole[3])


def test_every_epoch_shows_every_image_once_with_new_views() -> None:
    command = verb.TrainAutoencoderCommand(train=replace(TRAIN, batch_size=5), data=DATA)
    first, second = islice(verb.training_batches(command, 0), 2)
    assert len(first.flatten(1).unique(dim=0)) == 5
    assert not torch.equal(first.flatten(1).sort(0)[0], second.flatten(1).sort(0)[0])


def test_an_unknown_verb_is_refused() -> None:
    with pytest.raises(
        ValueError, match="unknown verb 'fly' of pippin autoencoder; choose train or measure"
    ):
        verb.main(["fly"])
