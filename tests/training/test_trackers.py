# SPDX-License-Identifier: Apache-2.0
"""Trackers, with stand-ins for the libraries of Weights & Biases and MLflow."""

import io
import json
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pippin.config import ConfigError, fingerprint
from pippin.recipes.recipe import Recipe
from pippin.runs.folder import RunFolder
from pippin.system.offline import offline_mode
from pippin.system.signals import TrainingStoppedError
from pippin.training.callbacks import Callback, RunStart
from pippin.training.trackers import TensorBoard, build_tracker
from pippin.training.train import train

VARIABLES = ("WANDB_PROJECT", "WANDB_NAME", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.fixture
def wandb(monkeypatch):
    """Stand-in that keeps what a library would send."""
    module = ModuleType("wandb")
    module.inits, module.logged, module.metrics, module.ends = [], [], [], []

    def init(**options):
        module.inits.append(options)
        return SimpleNamespace(
            log=module.logged.append,
            define_metric=lambda name, step_metric=None: module.metrics.append(
                (name, step_metric)
            ),
            finish=lambda exit_code: module.ends.append(exit_code),
        )

    module.init, module.Settings, module.Image = init, dict, lambda path: ("image", path)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture
def mlflow(monkeypatch):
    """Stand-in with one store for each address."""
    module = ModuleType("mlflow")
    module.stores = {}

    class Client:
        def __init__(self, tracking_uri):
            self.calls = module.stores.setdefault(tracking_uri, [])

        def get_experiment_by_name(self, name):
            known = [call for call in self.calls if call == ("create_experiment", name)]
            return SimpleNamespace(experiment_id="7") if known else None

        def create_experiment(self, name):
            self.calls.append(("create_experiment", name))
            return "7"

        def create_run(self, experiment, run_name):
            self.calls.append(("create_run", experiment, run_name))
            return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

        def update_run(self, run, status):
            self.calls.append(("update_run", run, status))

        def log_batch(self, run, metrics=(), params=()):
            assert len(params) <= 100
            self.calls.append(("log_batch", run, [*metrics], len(params)))

        def log_artifact(self, run, path, folder):
            self.calls.append(("log_artifact", run, Path(path).name, folder))

        def set_terminated(self, run, status):
            self.calls.append(("set_terminated", run, status))

    module.MlflowClient = Client
    module.entities = SimpleNamespace(
        Param=namedtuple("Param", "key value"),
        Metric=namedtuple("Metric", "key value timestamp step"),
    )
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


def follow(tracker, recipe, folder, seen=0, error=None):
    """Events of a short run."""
    preview = folder / "000000032.png"
    Image.new("RGB", (8, 4), "red").save(preview)
    tracker.on_start(
        RunStart(
            recipe=recipe, folder=folder, images_seen=seen, images=64, parameters=1, world_size=1
        )
    )
    tracker.on_log(seen + 32, {"loss": 0.5, "grad_norm": float("inf")})
    tracker.on_validation(seen + 32, {"held_out_loss": 0.25})
    tracker.on_preview(seen + 32, preview)
    tracker.on_end(error)


def test_tensorboard_gets_numbers_and_previews(recipe, tmp_path):
    follow(TensorBoard(tmp_path, 0), recipe, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("held_out_loss")] == [(32, 0.25)]
    (image,) = events.Images("preview")
    assert (image.width, image.height, image.step) == (8, 4, 32)


def test_wandb_resumes_its_run_by_the_id_in_the_folder(recipe, wandb, tmp_path):
    console = Console(file=io.StringIO())
    stopped = TrainingStoppedError(15, tmp_path)
    follow(build_tracker("wandb", tmp_path, 0, console), recipe, tmp_path, error=stopped)
    follow(build_tracker("wandb", tmp_path, 32, console), recipe, tmp_path, seen=32)
    first, second = wandb.inits
    assert (
        first["id"] == second["id"] == json.loads((tmp_path / "tracker.json").read_text())["wandb"]
    )
    assert first["resume"] == "allow" and first["dir"] == str(tmp_path)
    assert (first["project"], first["name"], first["mode"]) == ("pippin", tmp_path.name, None)
    assert first["config"] == recipe.to_dict()
    assert ("*", "images") in wandb.metrics  # a resumed run may go back in images
    assert wandb.logged[0]["images"] == 32 and wandb.logged[0]["loss"] == 0.5
    assert wandb.logged[1:3] == [
        {"images": 32, "held_out_loss": 0.25},
        {"images": 32, "preview": ("image", str(tmp_path / "000000032.png"))},
    ]
    assert wandb.ends == [1, 0]
    follow(build_tracker("wandb", tmp_path, 0, console), recipe, tmp_path)  # from scratch
    assert wandb.inits[2]["id"] != first["id"]
    (tmp_path / "tracker.json").write_text("[]")  # damaged
    follow(build_tracker("wandb", tmp_path, 64, console), recipe, tmp_path, seen=64)
    assert wandb.inits[3]["id"] not in {first["id"], wandb.inits[2]["id"]}


def test_wandb_writes_files_in_offline_mode(recipe, wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "emoji")
    with offline_mode(True):
        follow(build_tracker("wandb", tmp_path, 0, Console(quiet=True)), recipe, tmp_path)
    assert wandb.inits[0]["mode"] == "offline" and wandb.inits[0]["project"] == "emoji"


def test_mlflow_writes_into_the_run_folder_or_to_its_server(recipe, mlflow, tmp_path, monkeypatch):
    quiet = Console(quiet=True)
    follow(build_tracker("mlflow", tmp_path, 0, quiet), recipe, tmp_path, error=KeyError())
    follow(build_tracker("mlflow", tmp_path, 32, quiet), recipe, tmp_path, seen=32)
    (store,) = mlflow.stores
    assert store == (tmp_path / "mlflow").as_uri()
    calls = mlflow.stores[store]
    assert calls[:2] == [("create_experiment", "pippin"), ("create_run", "7", tmp_path.name)]
    assert sum(call[3] for call in calls if call[0] == "log_batch") > 50  # settings, once
    metrics = [metric for call in calls if call[0] == "log_batch" for metric in call[2]]
    assert [(m.key, m.value, m.step) for m in metrics] == [
        ("loss", 0.5, 32),
        ("held_out_loss", 0.25, 32),
        ("loss", 0.5, 64),
        ("held_out_loss", 0.25, 64),
    ]
    assert ("log_artifact", "abc", "000000032.png", "previews") in calls
    states = [call for call in calls if call[0] in ("update_run", "set_terminated")]
    assert [state[2] for state in states] == ["FAILED", "RUNNING", "FINISHED"]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    follow(build_tracker("mlflow", tmp_path, 0, quiet), recipe, tmp_path)
    with offline_mode(True):
        follow(build_tracker("mlflow", tmp_path, 0, quiet), recipe, tmp_path)
    assert list(mlflow.stores) == [store, "http://server:5000"]
    assert len([c for c in mlflow.stores[store] if c[0] == "create_run"]) == 2


def test_a_tracker_that_fails_ends_with_a_message_and_the_training_goes_on(
    recipe, wandb, tmp_path
):
    console = Console(file=io.StringIO(), width=20)
    tracker = build_tracker("wandb", tmp_path, 0, console)

    def lost(values):
        raise ConnectionError("https://user:secret@server is gone")

    wandb.logged = SimpleNamespace(append=lost)
    follow(tracker, recipe, tmp_path)
    (line,) = console.file.getvalue().splitlines()
    assert line.startswith("wandb stopped: ConnectionError: https://server is gone; log.jsonl has")
    assert wandb.ends == []


def test_a_tracker_that_cannot_start_says_what_to_type(recipe, wandb, tmp_path):
    def refuse(**options):
        raise RuntimeError("api_key not configured")

    wandb.init = refuse
    tracker = build_tracker("wandb", tmp_path, 0, Console(quiet=True))
    message = (
        r"wandb cannot start: api_key not configured; type: wandb login, or export WANDB_MODE"
    )
    with pytest.raises(ConfigError, match=message):
        follow(tracker, recipe, tmp_path)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_folder_whose_tracker_could_not_start_is_free_for_another(
    recipe, request, tmp_path, name
):
    library = request.getfixturevalue(name)

    def refuse(*_, **options):
        (tmp_path / "run" / name).mkdir()  # as the libraries do before they fail
        raise RuntimeError("no server")

    setattr(library, {"wandb": "init", "mlflow": "MlflowClient"}[name], refuse)
    tracked = replace(recipe, train=replace(recipe.train, tracker=name))
    with pytest.raises(ConfigError, match=rf"{name} cannot start: no server"):
        train(tracked, tmp_path / "run", console=Console(quiet=True))
    (tmp_path / "run" / "tracker.json").write_text("{}")  # of a kill before the first checkpoint
    run = RunFolder(tmp_path / "run")
    assert run.config.exists() and run.is_reusable
    run.check(recipe, resume=False)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_library_is_refused_before_any_work(recipe, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # as if it was not installed
    missing = replace(recipe, train=replace(recipe.train, tracker=name))
    message = rf"train\.tracker {name} needs the package {name}.*type: pip install .*\[{name}\]"
    with pytest.raises(ConfigError, match=message):
        train(missing, tmp_path / "run", console=Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_a_run_with_a_tracker_and_one_without(recipe, wandb, tmp_path):
    tracked = replace(recipe, train=replace(recipe.train, tracker="wandb", images=32))
    train(tracked, tmp_path / "tracked", console=Console(quiet=True))
    names = {name for values in wandb.logged for name in values}
    assert {"images", "loss", "images_per_second", "held_out_loss", "preview"} <= names
    assert not (tmp_path / "tracked" / "tensorboard").exists()
    assert type(build_tracker("none", tmp_path, 0, Console(quiet=True))) is Callback


def test_the_tracker_changes_no_fingerprint_and_older_records_load(recipe):
    tracked = replace(recipe, train=replace(recipe.train, tracker="wandb"))
    assert fingerprint(tracked) == fingerprint(recipe)
    record = recipe.to_dict()
    del record["train"]["tracker"]
    assert Recipe.from_dict(record) == recipe
