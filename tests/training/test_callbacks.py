# SPDX-License-Identifier: Apache-2.0
"""Callbacks of a training: their order, their errors, and checkpoints that a thread writes."""

import traceback
from contextlib import closing

import pytest
from small_trainer import batches, make_monitor

from pippin import Callback
from pippin.recipes.table import get_recipe
from pippin.training.callbacks import Callbacks, RunStart
from pippin.training.log import RunLog


class Recorder(Callback):
    """Keeps each call."""

    def __init__(self):
        self.calls = []

    def on_start(self, start):
        self.calls.append(("start", start.images_seen))

    def on_step(self, record):
        self.calls.append(("step", record.images_seen))

    def on_log(self, images_seen, values):
        self.calls.append(("log", images_seen))

    def on_checkpoint(self, path):
        assert (path / "state.json").is_file()
        self.calls.append(("checkpoint", int(path.name)))

    def on_validation(self, images_seen, values):
        self.calls.append(("validation", values["held_out_loss"]))

    def on_end(self, error):
        self.calls.append(("end", type(error).__name__))


def trained(trainer, *callbacks):
    """Train with a log, its callbacks and a validation."""
    log = RunLog(trainer.folder, trainer.images_seen, callbacks)
    start = RunStart(
        recipe=get_recipe("openmoji/mmdit-disentangled"),
        folder=trainer.folder,
        images_seen=trainer.images_seen,
        images=trainer.config.images,
        parameters=1,
        world_size=1,
    )
    validation = make_monitor(16, lambda model, images: log.validation(images, held_out_loss=0.5))
    with closing(log), log.callbacks.running(start):
        hooks = [log.callbacks.step]
        trainer.train(batches(trainer.step_count), hooks, [validation], log)


@pytest.fixture
def short(make_trainer, tmp_path):
    """short(folder, **settings): trainer of four steps with a checkpoint after two."""
    settings = {"images": 32, "log_every": 16, "checkpoint_every": 16}

    def make(name="run", **others):
        (tmp_path / name).mkdir()
        return make_trainer(tmp_path / name, **(settings | others))

    return make


def test_callbacks_follow_a_run_in_the_order_of_its_events(short):
    own = Recorder()
    trained(short(), own)
    half = [("checkpoint", 16), ("validation", 0.5)]
    assert own.calls == [
        ("start", 0),
        *[("step", 8), ("log", 16), ("step", 16), *half],
        *[("step", 24), ("log", 32), ("step", 32), ("checkpoint", 32), ("validation", 0.5)],
        ("end", "NoneType"),
    ]


def test_a_checkpoint_of_a_thread_is_told_by_the_thread_that_trains(short):
    import threading

    class Named(Recorder):
        def on_checkpoint(self, path):
            super().on_checkpoint(path)
            assert threading.current_thread() is threading.main_thread()

    own = Named()
    trained(short(checkpoint_overlap=True), own)
    saved = [call for call in own.calls if call[0] == "checkpoint"]
    assert saved == [("checkpoint", 16), ("checkpoint", 32)]
    assert own.calls[-1] == ("end", "NoneType")


@pytest.mark.parametrize("method", ["on_start", "on_step", "on_log", "on_checkpoint", "on_end"])
def test_an_error_names_the_callback_and_ends_the_others(short, method):
    class Broken(Callback):
        pass

    def fail(*_):
        raise ZeroDivisionError("of the program")

    setattr(Broken, method, fail)
    before, after = Recorder(), Recorder()
    with pytest.raises(ZeroDivisionError, match="of the program") as caught:
        trained(short(), before, Broken(), after)
    text = "".join(traceback.format_exception_only(caught.value))
    assert f"raised by the callback {Broken.__qualname__}, in {method}" in text
    assert before.calls[-1] == ("end", "ZeroDivisionError")
    expected = [] if method == "on_start" else [("start", 0)]
    assert after.calls[:1] == expected


def test_a_method_that_would_never_be_called_is_refused():
    with pytest.raises(TypeError, match=r"on_chekpoint would never be called.*near it are on_che"):
        type("Wrong", (Callback,), {"on_chekpoint": lambda self, path: None})
    with pytest.raises(TypeError, match=r"subclasses of pippin\.Callback; got <built-in"):
        Callbacks([print])


def test_a_resumed_run_starts_at_its_checkpoint(short, make_trainer):
    first = short()
    trained(first, Recorder())
    again = make_trainer(first.folder, images=48, log_every=16, checkpoint_every=16)
    again.restore(first.folder / "checkpoints" / "32")
    own = Recorder()
    trained(again, own)
    assert own.calls[:3] == [("start", 32), ("step", 40), ("log", 48)]
