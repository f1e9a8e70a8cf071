# SPDX-License-Identifier: Apache-2.0
"""Commands and programs of any prompt and setting read back as they were."""

import shlex
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.app.commands import changed_settings, python_program, sample_commands
from pippin.app.play_model import PlayModel
from pippin.app.sheet import Request, Sheet
from pippin.cli.parsing.options import parse, parse_seeds
from pippin.cli.sample import SampleCommand
from pippin.control import ColourJitter
from pippin.sampling.config import ControlRequest, GuidanceConfig, SamplingConfig

DEFAULT = SamplingConfig()
MODEL = object.__new__(PlayModel)  # without weights
MODEL.__dict__.update(
    source="runs/a b",
    kind="text",
    sampling=DEFAULT,
    run=SimpleNamespace(recipe=SimpleNamespace(sampling=DEFAULT), weights="ema"),
)
CHANGED = SamplingConfig(
    solver="heun",
    steps=7,
    guidance=GuidanceConfig(
        semantic_scale=-1.5,
        control_scale=2.25,
        log_snr_interval=(-4.5, 3.0),
        guide_scale=2.5,
        rescale=0.7,
    ),
    guide="runs/weak one",
    guide_checkpoint=32,
    guide_weights="raw",
    control=ControlRequest(
        original_size=(48, 96),
        crop_corner=(3, 5),
        crop_size=(40, 80),
        flip=True,
        colour_jitter=ColourJitter(brightness=0.5, contrast=1.25),
        jpeg_quality=20,
        grain=3.5,
    ),
    negative_prompt="-green; $HOME",
    size="64x96",
    weights="raw",
    batch_size=4,
)


def sheet_of(prompt, config, seeds=(4, 5, 6), label=""):
    request = Request(model=0, prompt=prompt, seeds=seeds, config=config, label=label)
    return Sheet(kind="images", prompt=prompt, requests=(request,))


def read_back(prompt, config):
    words = shlex.split(sample_commands((MODEL,), sheet_of(prompt, config)))
    assert words[:3] == ["pippin", "sample", MODEL.source]
    return parse(SampleCommand, "", words[3:], SampleCommand(sampling=DEFAULT))


def test_every_setting_of_a_command_reads_back():
    command = read_back("-x", CHANGED)
    assert command.sampling == CHANGED
    assert command.prompts == ("-x",) and parse_seeds(command.seeds) == [4, 5, 6]


def test_a_default_configuration_needs_no_options():
    words = shlex.split(sample_commands((MODEL,), sheet_of("cat", DEFAULT, (7,))))
    assert words[3:] == ["--prompts", "cat", "--seeds", "7"]


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40))
def test_any_prompt_reads_back(prompt):
    config = replace(DEFAULT, negative_prompt=prompt or None)
    command = read_back(prompt, config)
    assert command.prompts == (prompt,) and command.sampling == config
    program = python_program((MODEL,), sheet_of(prompt, config))
    compile(program, "program", "exec")
    assert repr(prompt) in program


@pytest.mark.parametrize(
    "prompt",
    [
        "--seeds",
        "'; rm -rf x; '",
        "$(x) `x`",
        '"\\"',
        "a\nb",
        "",
        " ",
        "None",
        "/etc/passwd",
        "x.txt",
        "a,b",
    ],
)
def test_prompts_that_a_shell_or_a_parser_could_misread(prompt):
    assert read_back(prompt, CHANGED).prompts == (prompt,)


def test_the_program_replaces_changed_settings_only():
    program = python_program((MODEL,), sheet_of("cat", CHANGED))
    names = {"replace": replace, "run": MODEL.run}
    (line,) = (line for line in program.splitlines() if line.startswith("config = "))
    exec(line, names)
    assert names["config"] == CHANGED
    assert "spacing" not in line and set(changed_settings(DEFAULT, DEFAULT)) == set()
