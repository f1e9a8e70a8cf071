# SPDX-License-Identifier: Apache-2.0
"""``pippin plan``: estimates of training, without data, weights or a GPU."""

import json

import pytest

from pippin.cli.main import main

NAME = "openmoji/dit-entangled"


def planned(capsys, *arguments):
    assert main(["plan", NAME, "--json", "True", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["plan", NAME, "--devices", "2", "--device", "4090", "--utilisation", "0.3"]) == 0
    text = capsys.readouterr().out
    options = [line for line in text.splitlines() if line.startswith("--train.micro-batch-size")]
    assert len(options) == 4  # whole lines, to be pasted
    assert max(len(line) for line in text.splitlines() if line not in options) <= 80
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in text.splitlines()
        if line.startswith("│")
    ]
    left = {row[0]: row[1:] for row in rows}
    assert left["devices"][0].startswith("2 x 4090: 82.6 TFLOP/s dense fp32, 24 GB each")
    assert left["assumed"][0].startswith("30% of the peak")
    assert left["latent"] == ["4 x 16 x 16"]
    assert left["fits in 21.6 GB"] == ["yes"] * 4
    assert "FSDP" in text
    for row in ("weights", "gradients", "optimizer", "ema", "activations", "passing", "memory"):
        assert len(left[row]) == 4, row


def test_settings_of_the_recipe_and_of_the_devices_are_options(capsys):
    base = planned(capsys)
    assert base["recipe"] == NAME
    assert (base["cluster"]["devices"], base["cluster"]["device"]) == (8, "h100")
    other = planned(
        capsys, "--devices", "1", "--train.batch-size", "256", "--denoiser.depth", "8",
        "--latent-shape", "4", "32", "32", "--num-classes", "3", "--images", "10",
    )  # fmt: skip
    assert other["local_batch"] == 256
    assert other["parameters"] > base["parameters"]
    assert other["latent_shape"] == [4, 32, 32]
    assert other["cache_bytes"] == 10 * other["latent_bytes"] > 0
    assert [one["layout"] for one in other["placements"]] == ["one device"] * 2


def test_micro_batches_are_said(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    settings = ["--devices", "2", "--train.micro-batch-size", "16", "--denoiser.depth", "1"]
    assert main(["plan", NAME, *settings]) == 0
    text = capsys.readouterr().out
    assert "128, 64 per device, micro-batch 16; " in text
    assert "largest micro-batch" in text
    option = text.partition("options that fit, fewest hours first:\n")[2].splitlines()[0]
    wanted = "--train.micro-batch-size 64 --train.gradient-checkpointing 0 --train.parallel ddp"
    assert option.partition("#")[0].strip() == wanted


def test_what_is_not_known_is_said(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    small = ["--denoiser.depth", "1", "--autoencoder.source", "someone/else"]
    assert main(["plan", "folder/dit-entangled", *small]) == 0
    text = capsys.readouterr().out
    assert "--images N gives the total" in text
    assert "(assumed: factor 8)" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "v100"], "no device 'v100'; there are: a100-40"),
        (["--devices", "7"], "train.batch_size must be a multiple of the 7 processes; got 128"),
        (["--train.micro-batch-size", "0"], "train.micro_batch_size must be 1 or more"),
        (["--sampling.weights", "ema-share-0.3"], "sampling.weights ema-share-0.3 is no average"),
        (["--devices", "0"], "devices must be 1 or more"),
        (["--utilisation", "2"], "utilisation must be more than 0"),
        (["--images", "0"], "--images must be 1 or more"),
        (["--memory-gb", "0"], "memory_gb must be more than 0"),
    ],
)
def test_misuse_names_what_was_given_and_what_is_allowed(arguments, message, capsys):
    try:
        code = main(["plan", NAME, *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
