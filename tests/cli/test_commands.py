# SPDX-License-Identifier: Apache-2.0
"""Commands that messages name: quoted, complete, and with the option that resumes."""

import pytest

from pippin.cli.failures import retry_command, whole_command


def test_arguments_are_quoted_for_a_shell():
    command = whole_command("sample", ["runs/x", "--prompts", "a red apple", "it's"])
    assert command == "pippin sample runs/x --prompts 'a red apple' 'it'\"'\"'s'"


@pytest.mark.parametrize(
    "given",
    [
        "R --folder runs/a",
        "R --folder runs/a --resume True",
        "R --resume auto --folder runs/a",
        "R --resume=False --folder runs/a",
        "R --resume --folder runs/a",
        "R --no-resume --folder runs/a",
    ],
)
def test_training_resumes_whether_or_not_there_is_a_checkpoint(given):
    expected = "pippin train R --folder runs/a --resume auto"
    assert retry_command("train", given.split()) == expected


def test_other_verbs_resume_by_themselves():
    assert retry_command("study", ["run", "demo"]) == "pippin study run demo"
    trained = retry_command("autoencoder", ["train", "--out", "a"])
    assert trained == "pippin autoencoder train --out a --resume True"
    assert retry_command("autoencoder", ["measure"]) == "pippin autoencoder measure"


def test_under_torchrun_its_options_are_dots(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert retry_command("sample", ["runs/x"]) == "torchrun ... -m pippin sample runs/x"
