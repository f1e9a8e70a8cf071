# SPDX-License-Identifier: Apache-2.0
"""The whole output of runs whose standard error is a file, line by line in form."""

import re
from dataclasses import replace

import pytest
from rich.console import Console

from pippin import Callback, evaluate_run, load_run, train
from pippin.cli.main import main
from pippin.data.config import CacheConfig
from pippin.sampling.sample import draw_into
from pippin.system import progress
from pippin.system.output import verbose_progress

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
SPAN = r"\d+:\d\d:\d\d"
RATE = r"[\d.]+ (?:(?:images|views|parts)/s|s/(?:image|view|part))"
PATH = r"\S+"
HEADER = [
    rf"{TIME} pippin train {PATH}/run",
    r"  recipe       openmoji/\S+, \d+ settings changed; fingerprint [0-9a-f]{16}",
    r"  device       cpu, threads 1; world size 1",
    r"  precision    fp32",
    r"  batch        16 images, 16 on each rank",
    r"  steps        4, 64 images",
    rf"  latents      cached in {PATH}",
    rf"  log          {PATH}/log\.jsonl, every 16 images; tracker tensorboard",
    rf"  checkpoints  {PATH}/checkpoints, every 32 images",
    r"  validation   every 32 images",
    r"  quality      none",
    rf"  previews     {PATH}/previews, every 32 images",
]
CACHE = [
    rf"{TIME} caching latents: 0 of 48 views \(0\.0 %\)",
    rf"{TIME} caching latents: 48 of 48 views \(100\.0 %\), {RATE}, in {SPAN}",
]


def step(images):
    """Line of training at a number of images."""
    end = f"in {SPAN}" if images == 64 else f"ETA {SPAN}"
    share = re.escape(f"({images / 64:.1%})").replace("%", " %")
    values = r"loss \d\.\d{4}, data wait \d+\.\d %, learning rate \d\.\d\de[-+]\d\d"
    return rf"{TIME} training: {images} of 64 images {share}, {RATE}, {values}, {end}"


def events(images):
    """Lines of a checkpoint with its validation and preview."""
    return [
        rf"{TIME} checkpoint written: {PATH}/checkpoints/{images}",
        rf"{TIME} validation at image {images}: held_out_loss \d\.\d{{4}}",
        rf"{TIME} preview written: {PATH}/previews/0*{images}\.png",
    ]


STARTED = rf"{TIME} started: 0\.\d+ M parameters, 64 images in all"


@pytest.fixture(autouse=True)
def _no_line_by_time(monkeypatch):
    """First and last lines only, however slow the machine is."""
    monkeypatch.setattr(progress, "SHORTEST", 1e9)
    monkeypatch.setattr(progress, "LONGEST", 1e9)


@pytest.fixture
def own(recipe, tmp_path):
    """The recipe with a cache of its own."""
    return replace(recipe, cache=CacheConfig(folder=str(tmp_path / "caches")))


def output(path, function):
    """Lines that a function prints into a file, at its console."""
    with path.open("a") as file:
        try:
            function(Console(file=file))
        finally:
            file.flush()
    return path.read_text().splitlines()


def assert_lines(lines, patterns):
    for line, pattern in zip(lines, patterns, strict=False):
        assert re.fullmatch(pattern, line), f"{line!r} is not of the form {pattern}"
    assert len(lines) == len(patterns), lines[len(patterns) :] or patterns[len(lines) :]


def stop_at(images):
    """Callback that ends a run after so many images."""

    class Stop(Callback):
        def on_step(self, record):
            if record.images_seen == images:
                raise KeyboardInterrupt

    return Stop()


def test_the_log_file_of_a_run_and_of_its_resume(own, tmp_path):
    run = tmp_path / "run"

    def stopped(console):
        with pytest.raises(KeyboardInterrupt):
            train(own, run, console=console, callbacks=[stop_at(48)])

    lines = output(tmp_path / "first.log", stopped)
    assert_lines(lines, [*HEADER, *CACHE, STARTED, step(16), *events(32)])
    lines = output(tmp_path / "second.log", lambda c: train(own, run, console=c, resume=True))
    resumed = [
        rf"resuming {PATH}/run at 32 images",
        rf"{TIME} resumed at image 32: 0\.\d+ M parameters, 64 images in all",
    ]
    assert_lines(lines, [*HEADER, *resumed, step(48), *events(64), step(64)])
    lines = output(tmp_path / "third.log", lambda c: train(own, run, console=c, resume=True))
    assert_lines(lines, [*HEADER, resumed[0].replace("32", "64")])  # nothing is left to do


def test_verbose_prints_each_line_of_the_log_and_quiet_none(own, tmp_path, capsys):
    with verbose_progress():
        lines = output(tmp_path / "log", lambda c: train(own, tmp_path / "run", console=c))
    steps = [step(16), step(32), *events(32), step(48), step(64), *events(64)]
    assert_lines(lines, [*HEADER, *CACHE, STARTED, *steps])
    own.save(tmp_path / "config.json")
    command = ["train", "--config", str(tmp_path / "config.json")]
    assert main([*command, "--folder", str(tmp_path / "quiet"), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.startswith("trained: ")


def test_sampling_and_evaluation_print_what_is_done(finished_run, recipe, tmp_path):
    evaluation = replace(recipe.evaluation, parts=("held-out", "quality"))
    chosen = replace(recipe, evaluation=evaluation)
    sampling = replace(recipe.sampling, batch_size=4)

    def work(console):
        run = load_run(finished_run, recipe=chosen, console=console)
        draw_into(run, [0] * 6, range(6), sampling, tmp_path / "samples")
        evaluate_run(run, tmp_path / "evaluated")

    lines = output(tmp_path / "log", work)
    assert_lines(
        [line for line in lines if re.match(TIME, line)],
        [
            rf"{TIME} sampling: 4 of 6 images \(66\.7 %\), {RATE}, ETA {SPAN}",
            rf"{TIME} sampling: 6 of 6 images \(100\.0 %\), {RATE}, in {SPAN}",
            rf"{TIME} evaluating: 0 of 2 parts \(0\.0 %\), now held-out",
            rf"{TIME} evaluating: 1 of 2 parts \(50\.0 %\), {RATE}, now quality, ETA {SPAN}",
            rf"{TIME} sampling: 12 of 12 images \(100\.0 %\), {RATE}, in {SPAN}",
            rf"{TIME} evaluating: 2 of 2 parts \(100\.0 %\), {RATE}, in {SPAN}",
        ],
    )
    assert "" not in lines


def test_a_step_that_is_not_finite_is_part_of_the_line(tmp_path):
    from pippin.training.monitor import StepRecord
    from pippin.training.progress import TrainingProgress

    def work(console):
        bar = progress.Progress(console, "training", total=64)
        shown = TrainingProgress(console, bar)
        bar.__enter__()
        shown._progress = bar
        record = StepRecord(
            images_seen=16,
            batch_size=16,
            loss=float("nan"),
            grad_norm=1.0,
            learning_rate=1e-3,
            finite=False,
            bad_steps=1,
            data_seconds=1.0,
            step_seconds=4.0,
        )
        shown.on_step(record)

    (line,) = output(tmp_path / "log", work)
    values = r"loss not finite, data wait 25\.0 %, learning rate 1\.00e-03, skipped steps 1"
    assert re.search(values, line)
