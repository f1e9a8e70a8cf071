# SPDX-License-Identifier: Apache-2.0
"""From images to a checkpoint: the same weights with a cache, without one, and after a stop."""

import json
import re
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from archives import files_of
from safetensors.torch import load_file
from small_trainer import make_monitor

from pippin.cli.main import main
from pippin.cli.train import _with_recorded_settings
from pippin.conditioning.config import ConditioningConfig, DropConfig
from pippin.config import ConfigError, fingerprint
from pippin.data.config import CacheConfig, OpenMojiConfig
from pippin.encoders.config import AutoencoderConfig
from pippin.recipes.recipe import Recipe
from pippin.runs.components import Parts
from pippin.runs.folder import RunFolder
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw
from pippin.studies.execution import pretrain
from pippin.system.lock import FolderBusyError, folder_lock
from pippin.training.train import build_trainer, train


def final(folder: Path, part: str = "model"):
    return load_file(folder / "checkpoints" / "64" / f"{part}.safetensors")


def largest_difference(first, second):
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_a_run_folder_has_what_the_docs_say(finished_run, recipe):
    names = {path.name for path in finished_run.iterdir()}
    assert {"config.json", "log.jsonl", "tensorboard", "previews", "checkpoints"} <= names
    assert Recipe.load(finished_run / "config.json") == recipe
    assert [p.name for p in sorted((finished_run / "previews").iterdir())] == [
        "000000032.png",
        "000000064.png",
    ]
    lines = [json.loads(x) for x in (finished_run / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["images"] for line in steps] == [16, 32, 48, 64]
    assert {"images_per_second", "data_wait", "grad_norm", "bad_steps"} <= set(steps[0])
    assert [line["images"] for line in lines if "held_out_loss" in line] == [32, 64]


def test_training_changed_the_weights(finished_run, recipe):
    from rich.console import Console

    initial = Parts(recipe, Console(quiet=True)).new_model().state_dict()
    assert largest_difference(initial, final(finished_run)) > 1e-4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_thread_trains_to_the_bits_of_the_main_one(finished_run, recipe, tmp_path, workers):
    """As web interfaces and executors call it."""
    ours = replace(recipe, train=replace(recipe.train, workers=workers))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(train, ours, tmp_path / "run").result()
        drawn = pool.submit(lambda: draw(load_run(tmp_path / "run"), [0], [3])).result()
    for part in ("model", "ema", "optimizer"):
        assert largest_difference(final(finished_run, part), final(tmp_path / "run", part)) == 0.0
    assert torch.equal(drawn, draw(load_run(finished_run), [0], [3]))


def test_a_command_may_be_called_in_a_thread(finished_run, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        command = ["sample", str(finished_run), "--seeds", "0:2", "--out", str(tmp_path)]
        assert pool.submit(main, command).result() == 0
    assert (tmp_path / "grid.png").is_file()


def test_cached_and_on_the_fly_train_to_the_same_weights(finished_run, recipe, tmp_path):
    online = replace(recipe, cache=replace(recipe.cache, enabled=False))
    train(online, tmp_path / "online")
    # fp32 rounding of the encoder at another batch size, through four steps of Adam
    assert largest_difference(final(finished_run), final(tmp_path / "online")) < 1e-4


def test_an_interrupted_run_resumes_to_the_same_bits(finished_run, recipe, tmp_path):
    folder, half = tmp_path / "resumed", replace(recipe, train=replace(recipe.train, images=64))

    class PowerCutError(Exception):
        pass

    def cut(model, images):
        if images == 48:
            raise PowerCutError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr("pippin.training.train.preview_hook", lambda *_: make_monitor(1, cut))
        train(half, folder)
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["32"]
    train(half, folder, resume=True)
    for part in ("model", "ema", "optimizer"):
        assert largest_difference(final(finished_run, part), final(folder, part)) == 0.0
    images = [json.loads(x)["images"] for x in (folder / "log.jsonl").read_text().splitlines()]
    assert images == sorted(images)
    assert images.count(48) == 1


def test_a_run_that_is_older_than_a_setting_goes_on_as_it_began(recipe, tmp_path, capsys):
    """Its record does not say where in a step the rate is read; then it was at the end."""
    new = replace(recipe, train=replace(recipe.train, decay_share=0.5))
    old, run = replace(new, train=replace(new.train, lr_at="end")), RunFolder(tmp_path / "run")
    for folder in (tmp_path / "whole", run.path):
        train(old, folder)
    record = json.loads(run.config.read_text())
    del record["train"]["lr_at"], record["content_sha256"]
    run.config.write_text(json.dumps(record))
    assert fingerprint(run.recipe()) == fingerprint(old)
    shutil.rmtree(run.checkpoints / "64")
    with pytest.raises(ValueError, match=r"train\.lr_at: 'end' -> 'middle'"):
        train(new, run.path, resume=True)
    recorded = _with_recorded_settings(new, run, True)
    assert recorded == old and _with_recorded_settings(new, run, False) == new
    assert "started before the setting train.lr_at existed, and resumes with end" in (
        capsys.readouterr().err
    )
    train(recorded, run.path, resume=True)
    assert largest_difference(final(tmp_path / "whole"), final(run.path)) == 0.0
    train(new, tmp_path / "new")
    assert largest_difference(final(tmp_path / "whole"), final(tmp_path / "new")) > 0


@pytest.mark.parametrize("seen", [32, 64])
def test_a_kill_after_a_checkpoint_costs_neither_validation_nor_preview(
    finished_run, recipe, tmp_path, monkeypatch, seen
):
    """Also at the end of the run, and where a preview was half-written."""

    class KilledError(Exception):
        pass

    def cut(model, images):
        if images == seen:
            raise KilledError

    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr("pippin.training.train.validation_hook", lambda *_: make_monitor(1, cut))
        train(recipe, folder)
    assert (folder / "checkpoints" / str(seen)).exists()
    wanted = previews(finished_run)
    assert wanted.keys() > previews(folder).keys()
    (folder / "previews").mkdir(exist_ok=True)
    (folder / "previews" / f".{seen:09d}.png.42.writing").write_bytes(b"half")
    train(recipe, folder, resume=True)
    assert previews(folder) == wanted
    assert held_out(folder) == [x for x in held_out(finished_run) if seen == 32 or x[0] != 32]
    train(recipe, folder, resume=True)
    assert previews(folder) == wanted and len(held_out(folder)) == len({*held_out(folder)})


def previews(folder):
    return {path.name: path.read_bytes() for path in (folder / "previews").glob("*")}


def held_out(folder):
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(x["images"], x["held_out_loss"]) for x in lines if "held_out_loss" in x]


def test_a_damaged_last_checkpoint_is_skipped_and_named(recipe, tmp_path, capsys):
    folder = tmp_path / "run"
    train(recipe, folder)
    wanted = final(folder)
    (folder / "checkpoints" / "64" / "ema.safetensors").write_bytes(b"cut")
    train(recipe, folder, resume=True)
    said = capsys.readouterr().err.replace("\n", "")
    assert "skipped checkpoint" in said
    assert "ema.safetensors" in said
    assert largest_difference(wanted, final(folder)) == 0.0


@pytest.mark.parametrize("resume", [True, "auto"])
def test_where_every_checkpoint_is_damaged_nothing_starts_over_by_itself(
    finished_run, recipe, tmp_path, resume
):
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    for path in (folder / "checkpoints").iterdir():
        (path / "model.safetensors").write_bytes(b"cut")
    before = files_of(folder)
    named = r"is whole(.|\n)*/64/model(.|\n)*/32/model(.|\n)*mv "
    with pytest.raises(ValueError, match=named) as e:
        train(recipe, folder, resume=resume)
    with pytest.raises(ValueError, match="is whole"):
        pretrain(recipe, folder)
    assert files_of(folder) == before
    words = shlex.split(re.search(r"mv .*\.damaged", str(e.value))[0])
    Path(words[1]).rename(words[2])
    train(recipe, folder, resume=resume)
    assert largest_difference(final(finished_run), final(folder)) == 0.0


def test_what_is_only_kept_aside_is_not_started_over(finished_run, recipe, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    shutil.rmtree(folder / "checkpoints" / "32")
    (folder / "checkpoints" / "64").rename(folder / "checkpoints" / "damaged-64")
    with pytest.raises(ValueError, match="damaged-64: kept, but not used"):
        train(recipe, folder, resume=True)


def test_a_folder_with_a_run_is_not_overwritten(finished_run, recipe):
    again = r"`pippin train --config .*config\.json --resume True --folder .*`"
    with pytest.raises(ValueError, match=rf"already holds a run; resume it with {again}"):
        train(recipe, finished_run)


def test_a_folder_without_a_checkpoint_is_taken_over(recipe, tmp_path):
    """A run that ended before its first checkpoint lost nothing: the corrected command trains."""

    class PowerCutError(Exception):
        pass

    def cut(model, images):
        raise PowerCutError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr("pippin.training.train.preview_hook", lambda *_: make_monitor(1, cut))
        train(recipe, tmp_path)
    assert (tmp_path / "config.json").exists() and RunFolder(tmp_path).is_reusable
    (tmp_path / "transfer.json").write_text("{}")  # of a recipe that started from weights
    (tmp_path / "previews").mkdir()  # where checkpoints come more seldom
    for name in ("000000032.png", "000000048.png", "mine.png"):
        (tmp_path / "previews" / name).write_text("of the run before")
    assert RunFolder(tmp_path).is_reusable
    other = replace(recipe, train=replace(recipe.train, learning_rate=1e-3, images=32))
    with folder_lock(tmp_path), pytest.raises(FolderBusyError):
        train(other, tmp_path)
    train(other, tmp_path)
    assert RunFolder(tmp_path).recipe().train == other.train
    assert not (tmp_path / "transfer.json").exists()
    lines = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines if "loss" in line] == [16, 32]
    previews = {path.name: path.read_bytes()[:4] for path in (tmp_path / "previews").iterdir()}
    assert previews == {"000000032.png": b"\x89PNG", "mine.png": b"of t"}
    with pytest.raises(ValueError, match="already holds a run"):
        train(other, tmp_path)


@pytest.mark.parametrize("kept", ["model.safetensors", "results.jsonl", "checkpoints/7"])
def test_a_folder_with_anything_else_is_not_taken_over(recipe, tmp_path, kept):
    recipe.save(tmp_path / "config.json")
    (tmp_path / kept).mkdir(parents=True)
    with pytest.raises(ValueError, match="already holds a run"):
        train(recipe, tmp_path)


def test_auto_begins_and_goes_on(recipe, finished_run, tmp_path, capsys):
    short = replace(recipe, train=replace(recipe.train, images=32, checkpoint_every=16))
    folder = tmp_path / "run"
    train(short, folder, resume="auto")
    shutil.rmtree(folder / "checkpoints" / "32")
    capsys.readouterr()
    train(short, folder, resume="auto")
    assert "resuming" in capsys.readouterr().err and (folder / "checkpoints" / "32").is_dir()
    other = replace(short, train=replace(short.train, learning_rate=0.5))
    with pytest.raises(ValueError, match="was started with other settings"):
        train(other, folder, resume="auto")


def test_resume_refuses_other_settings_by_name(finished_run, recipe):
    other = replace(recipe, train=replace(recipe.train, learning_rate=0.5))
    with pytest.raises(ValueError, match=r"train\.learning_rate: 0\.001 -> 0\.5|0\.0001 -> 0\.5"):
        train(other, finished_run, resume=True)


def test_nothing_to_resume_is_said(recipe, tmp_path):
    with pytest.raises(ValueError, match="nothing to resume"):
        train(recipe, tmp_path / "new", resume=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"autoencoder": AutoencoderConfig(source="pippin/none")},
        {"data": OpenMojiConfig(resolution=33, views=1, max_pictures=24)},
        {"conditioning": ConditioningConfig(rules={})},
        {"cache": CacheConfig(folder="/proc/none")},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_cannot_be_built_leaves_the_folder_free(recipe, tmp_path, wrong):
    with pytest.raises((ValueError, OSError)):
        train(replace(recipe, **wrong), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {".lock"}
    short = replace(recipe, train=replace(recipe.train, images=16, validate_every=0))
    train(short, tmp_path)


def test_guidance_that_was_never_trained_is_refused_before_the_training(recipe, tmp_path):
    never = DropConfig(keep=1.0, control=0.0, semantic=0.0, both=0.0)
    undropped = replace(recipe, conditioning=replace(recipe.conditioning, drop=never))
    with pytest.raises(ConfigError, match=r"semantic_scale 2\.0 needs .*drop\.both above 0"):
        train(undropped, tmp_path)


def test_checkpoints_without_their_recipe_are_not_trained_over(recipe, tmp_path):
    (tmp_path / "checkpoints" / "64").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"checkpoints but no config\.json"):
        train(recipe, tmp_path)


def test_a_busy_folder_is_refused(recipe, tmp_path):
    folder = tmp_path / "busy"
    code_path = folder / ".lock"
    with folder_lock(folder), pytest.raises(FolderBusyError, match="in use"):
        assert code_path.exists()
        train(recipe, folder)


def test_device_independent_batches_feed_the_trainer(recipe):
    from rich.console import Console

    trainer = build_trainer(Parts(recipe, Console(quiet=True)), Path("unused"))
    assert trainer.total_steps == 4
    assert trainer.device == torch.device("cpu")
