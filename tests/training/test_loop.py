# SPDX-License-Identifier: Apache-2.0
"""Training loop: exact resume, non-finite steps, EMA, signals, progress in images."""

import json
import os
import signal
import time
from contextlib import closing, nullcontext
from dataclasses import replace

import pytest
import torch
from small_trainer import batches, make_monitor

from pippin.objective.draws import draw_step
from pippin.runs.checkpoint import CheckpointError, load_weights, newest_intact_checkpoint
from pippin.system.signals import STOPS, TrainingDivergedError, TrainingStoppedError
from pippin.training.averaging.config import ImagesHalfLife, ShareHalfLife
from pippin.training.log import RunLog
from pippin.training.loop import Trainer
from pippin.training.monitor import Monitor


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_loss_falls_on_a_learnable_batch(make_trainer):
    trainer, losses = make_trainer(images=480, learning_rate=1e-2), []
    one = next(batches())
    trainer.train(iter(lambda: one, None), [lambda report: losses.append(report.loss)])
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10])


def test_a_run_resumed_between_two_log_lines_logs_the_same_means(make_trainer, tmp_path):
    """Log lines every 56 images and at the end, checkpoints every 40."""

    def train(trainer, folder, *hooks):
        log = RunLog(folder, trainer.images_seen)
        with closing(log):
            trainer.train(batches(trainer.step_count), hooks, log=log)

    def kill(report):
        if report.images_seen == 136:
            raise KeyboardInterrupt

    for name in ("uninterrupted", "killed"):
        (tmp_path / name).mkdir()
    train(make_trainer(tmp_path / "uninterrupted", log_every=56), tmp_path / "uninterrupted")
    with pytest.raises(KeyboardInterrupt):
        train(make_trainer(tmp_path / "killed", log_every=56), tmp_path / "killed", kill)
    resumed = make_trainer(tmp_path / "killed", log_every=56)
    resumed.restore(tmp_path / "killed" / "checkpoints" / "120")
    assert resumed.log_means.count == 1  # of the step after the line at 112
    train(resumed, tmp_path / "killed")
    logged = [
        [(line["images"], line["loss"], line["grad_norm"]) for line in map(json.loads, lines)]
        for name in ("uninterrupted", "killed")
        for lines in [(tmp_path / name / "log.jsonl").read_text().splitlines()]
    ]
    assert [images for images, *_ in logged[0]] == [56, 112, 160]
    assert logged[0] == logged[1]


def test_two_resumes_end_at_the_same_bits(make_trainer, tmp_path):
    whole = make_trainer(tmp_path / "whole")
    whole.train(batches(), [])
    for _ in range(3):  # each process stops after some steps and the next one goes on
        part = make_trainer(tmp_path / "parts")
        found = sorted((tmp_path / "parts" / "checkpoints").glob("*"), key=lambda p: int(p.name))
        if found:
            part.restore(found[-1])
        limit = part.step_count + 8

        def stop_at(report, limit=limit):
            if report.images_seen == 8 * limit:
                raise KeyboardInterrupt

        try:
            part.train(batches(part.step_count), [stop_at])
        except KeyboardInterrupt:
            pass
        else:
            break
    final = make_trainer(tmp_path / "parts")
    final.restore(tmp_path / "parts" / "checkpoints" / "120")
    final.train(batches(final.step_count), [])
    assert final.images_seen == whole.images_seen == 160
    assert same(whole.model.state_dict(), final.model.state_dict())
    assert same(whole.ema.weights, final.ema.weights)


def run_to(make_trainer, folder, images, start=None, **settings):
    trainer = make_trainer(folder, images=images, **settings)
    if start is not None:
        trainer.restore(start)
    trainer.train(batches(trainer.step_count), [])
    return trainer


EXTRA = (ShareHalfLife(share=0.3), ImagesHalfLife(images=9))


def test_further_averages_are_those_of_runs_that_keep_them_alone(make_trainer, tmp_path):
    """They change neither the weights nor the main average nor the standard files."""
    plain = run_to(make_trainer, tmp_path / "plain", 48)
    several = run_to(make_trainer, tmp_path / "several", 48, ema_extra=EXTRA)
    assert same(plain.model.state_dict(), several.model.state_dict())
    assert same(plain.ema.weights, several.ema.weights)
    for half_life in EXTRA:
        alone = run_to(make_trainer, tmp_path / half_life.name, 48, ema=half_life)
        assert same(alone.ema.weights, several.extra[half_life.name].weights)
        assert not same(plain.ema.weights, alone.ema.weights)
    there, also = (
        {p.name: p for p in (tmp_path / n / "checkpoints/48").iterdir()}
        for n in ("plain", "several")
    )
    assert set(also) - set(there) == {"ema-share-0.3.safetensors", "ema-images-9.safetensors"}
    for name in ("model", "ema", "optimizer"):
        file = f"{name}.safetensors"
        assert there[file].read_bytes() == also[file].read_bytes()
    states = [json.loads(one["state.json"].read_text()) for one in (there, also)]
    assert set(states[1]) - set(states[0]) == {"half_lives"}
    assert states[1]["half_lives"] == {"ema-share-0.3": pytest.approx(14.4), "ema-images-9": 9}


def test_further_averages_are_resumed_to_the_same_bits(make_trainer, tmp_path):
    whole = run_to(make_trainer, tmp_path / "whole", 160, ema_extra=EXTRA)
    start = tmp_path / "whole/checkpoints/120"
    resumed = run_to(make_trainer, tmp_path / "resumed", 160, start, ema_extra=EXTRA)
    for name, ema in whole.extra.items():
        assert same(ema.weights, resumed.extra[name].weights)
        assert same(ema.weights, load_weights(tmp_path / "resumed/checkpoints/160", name))


def test_averages_that_a_checkpoint_lacks_do_not_start_in_the_middle(make_trainer):
    trainer = make_trainer(images=40, ema_extra=EXTRA[:1])
    trainer.train(batches(), [])
    path = trainer.folder / "checkpoints" / "40"
    for settings, here in (((), "none"), (EXTRA[1:], "ema-images-9")):
        message = rf"has the further averages: ema-share-0\.3; train\.ema_extra names: {here}"
        with pytest.raises(ValueError, match=message):
            make_trainer(ema_extra=settings).restore(path)
    with pytest.raises(
        CheckpointError, match="has no weights 'ema-images-9'; available: ema, raw, e"
    ):
        load_weights(path, "ema-images-9")
    flipped = path / "ema-share-0.3.safetensors"
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"x")
    assert "ema-share-0.3.safetensors: damaged" in newest_intact_checkpoint(path.parent)[1][0]


def test_a_non_finite_step_changes_nothing_and_is_counted(make_trainer):
    trainer = make_trainer(images=80)
    reports = []

    def spoiled():
        for step, batch in enumerate(batches()):
            if step == 5:
                batch.latents[0, 0, 0, 0] = float("nan")
            yield batch

    weights = {}

    def watch(report):
        reports.append(report)
        current = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        if not report.finite:
            assert same(weights, current)
        weights.update(current)

    trainer.train(spoiled(), [watch])
    assert [r.finite for r in reports] == [True] * 5 + [False] + [True] * 4
    assert reports[-1].bad_steps == 1
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_too_many_non_finite_steps_in_a_row_stop_the_run(make_trainer):
    trainer = make_trainer(max_bad_steps=3)

    def spoiled():
        for step, batch in enumerate(batches()):
            if step >= 6:
                batch.latents[:] = float("inf")
            yield batch

    with pytest.raises(TrainingDivergedError, match="3 non-finite steps in a row"):
        trainer.train(spoiled(), [])
    assert [p.name for p in (trainer.folder / "checkpoints").iterdir()] == ["40"]


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_stops_between_steps_with_a_checkpoint(make_trainer, number):
    trainer, before = make_trainer(), signal.getsignal(number)

    def send(report):
        if report.images_seen == 24:
            os.kill(os.getpid(), number)

    with pytest.raises(TrainingStoppedError) as stopped:
        trainer.train(batches(), [send])
    assert stopped.value.signal == number
    assert (trainer.folder / "checkpoints" / "24" / "state.json").exists()
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("no preview"), KeyboardInterrupt()])
def test_a_failing_monitor_does_not_cost_the_checkpoint_of_its_step(make_trainer, error, overlap):
    trainer = make_trainer(checkpoint_overlap=overlap)
    seen = []

    def preview(model, images):
        seen.append(images)
        if images == 40:
            raise error

    with pytest.raises(type(error)):
        trainer.train(batches(), [], [make_monitor(8, preview)])
    assert seen == [8, 16, 24, 32, 40]
    assert [p.name for p in (trainer.folder / "checkpoints").iterdir()] == ["40"]


def test_a_monitor_without_a_model_to_build_is_refused():
    """It would never run under FSDP, where rank 0 gathers the weights into a model of its own."""
    with pytest.raises(TypeError, match="'build'"):
        Monitor(every=8, run=lambda model, images: None)


def test_a_signal_while_a_monitor_runs_stops_with_a_checkpoint(make_trainer):
    trainer = make_trainer()

    def preview(model, images):
        if images == 24:  # where no checkpoint is due
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingStoppedError):
        trainer.train(batches(), [], [make_monitor(8, preview)])
    assert [p.name for p in (trainer.folder / "checkpoints").iterdir()] == ["24"]


def test_learning_rate_counts_images(make_trainer):
    rates = {}
    for batch_size in (4, 8):
        trainer = make_trainer(warmup_images=80, batch_size=batch_size, lr_at="end")
        trace = rates.setdefault(batch_size, {})
        trainer.train(
            batches(batch_size=batch_size),
            [lambda report, trace=trace: trace.update({report.images_seen: report.learning_rate})],
        )
    shared = set(rates[4]) & set(rates[8])
    assert len(shared) == 20
    assert all(rates[4][n] == rates[8][n] for n in shared)
    assert rates[8][40] == pytest.approx(0.5e-3)
    assert rates[8][160] == 1e-3


def test_old_checkpoints_are_pruned_and_the_last_step_is_kept(make_trainer):
    trainer = make_trainer(images=150, keep_checkpoints=2)  # 19 steps of 8 reach 152
    trainer.train(batches(), [])
    names = sorted(int(p.name) for p in (trainer.folder / "checkpoints").iterdir())
    assert names == [120, 152]


def test_the_wait_for_random_numbers_counts_as_data_wait(make_trainer, monkeypatch):
    def slow(*arguments, **settings):
        time.sleep(0.05)
        return draw_step(*arguments, **settings)

    monkeypatch.setattr("pippin.training.loop.draw_step", slow)
    reports = []
    make_trainer(images=24).train(batches(), [lambda report: reports.append(report)])
    assert all(0.05 <= r.data_seconds <= r.step_seconds for r in reports)
    assert reports[0].data_seconds >= 0.1  # its own draws, and the next step's


def test_prefetched_draws_are_the_steps_own(make_trainer, monkeypatch):
    """Whatever was prefetched, step k uses the draws keyed by k."""
    seen = []

    def recorded(self, batch, draws):
        seen.append((trainer.step_count, draws))
        return original(self, batch, draws)

    original = Trainer.backward
    monkeypatch.setattr(Trainer, "backward", recorded)
    trainer = make_trainer(images=40)
    trainer.train(batches(), [])
    trainer.restore(trainer.folder / "checkpoints" / "40")
    trainer.step_count = 2  # as if an older checkpoint had been restored
    trainer.train(batches(2), [])
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4, 2, 3, 4]
    for step, draws in seen:
        expected = draw_step(
            trainer.objective.config, trainer.conditioning, (8, 4, 8, 8), seed=0, step=step
        )
        assert torch.equal(draws.noise, expected.noise)
        assert torch.equal(draws.t, expected.t)


@pytest.mark.parametrize(("busy", "late"), [(True, [0]), (False, [0, 1, 2, 3])])
def test_draws_are_prefetched_for_the_shape_of_the_next_batch(
    make_trainer, monkeypatch, busy, late
):
    """Shapes alternate, as with buckets; they are known if a GPU allows prefetching."""
    monkeypatch.setattr(Trainer, "_computing", lambda _: busy)
    trainer, drawn = make_trainer(images=32), []
    draw = trainer.draw
    note = lambda step, shape: (drawn.append((step, trainer.step_count)), draw(step, shape))[1]  # noqa: E731
    monkeypatch.setattr(trainer, "draw", note)

    def of_buckets():
        for step, batch in enumerate(batches()):
            wide = batch.latents if step % 2 else batch.latents[:, :, :4]
            yield replace(batch, latents=wide)

    trainer.train(of_buckets(), [])
    assert [step for step, count in drawn if step == count] == late


def test_a_batch_is_prefetched_while_a_gpu_computes(make_trainer, tmp_path, monkeypatch):
    """At most one batch, none beyond the end, and the run's bits are the same, also of a run that
    stopped with a prefetched batch and resumes."""
    ends = {}
    for name, busy in {"plain": False, "ahead": True}.items():
        monkeypatch.setattr(Trainer, "_computing", lambda _, busy=busy: busy)
        trainer = make_trainer(tmp_path / name, images=40)
        fetched = []

        def note(start):
            for step, batch in enumerate(batches(start), start):
                fetched.append((step, trainer.step_count))  # noqa: B023 (of this turn)
                yield batch

        def stop(report):
            if report.images_seen == 16:
                trainer._stop.signal = signal.SIGTERM  # noqa: B023 (of this turn)

        with pytest.raises(TrainingStoppedError):
            trainer.train(note(0), [stop])
        trainer.train(note(2), [])
        plain = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
        early = [(0, 0), (1, 0), (2, 1), (2, 2), (3, 2), (4, 3)]
        assert fetched == (early if busy else plain)
        ends[name] = (tmp_path / name / "checkpoints/40/model.safetensors").read_bytes()
    assert ends["plain"] == ends["ahead"]


def test_a_step_names_its_parts(make_trainer):
    trainer, names = make_trainer(images=16), []

    def note(name):
        names.append(name)
        return nullcontext()

    trainer.timed = note
    trainer.train(batches(), [])
    one = ["forward", "backward", "optimizer", "draw", "optimizer", "ema"]
    assert names == ["draw", *one, *one]  # the first draws are made when they are needed
