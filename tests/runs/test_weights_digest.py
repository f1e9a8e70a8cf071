# SPDX-License-Identifier: Apache-2.0
"""Images and measures belong to the weights that made them, whatever a run is called."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from pippin.cli.main import main
from pippin.config import fingerprint
from pippin.evaluation.runs import evaluate as module
from pippin.evaluation.runs.evaluate import evaluate_run, run_protocol
from pippin.runs.checkpoint import load_checkpoint, newest_intact_checkpoint, save_checkpoint
from pippin.runs.folder import RunFolder
from pippin.runs.trained import export, load_trained_weights
from pippin.sampling.load import load_run, untrained_run
from pippin.sampling.sample import draw_into, sampling_protocol
from pippin.sampling.sample_folder import read_manifest

QUIET = Console(quiet=True)
LABELS, SEEDS = [0, 1, 2, 0, 1], range(5)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*"))}


def train_anew(folder):
    """Other weights at the same number of images, as another machine or version trains them."""
    checkpoints = RunFolder(folder).checkpoints
    newest, _ = newest_intact_checkpoint(checkpoints)
    old = load_checkpoint(newest)
    shutil.rmtree(checkpoints)
    ema = {name: value + 0.05 for name, value in old.ema.items()}
    state = {name: value for name, value in old.state.items() if name != "sha256"}
    save_checkpoint(checkpoints, replace(old, ema=ema, state=state), keep=1)


@pytest.fixture
def folder(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_images_of_other_weights_with_the_same_history_are_not_taken(
    run, config, finished_run, tmp_path, batch_size
):
    config = replace(config, batch_size=batch_size)
    trained = load_trained_weights(str(finished_run))
    other = {name: value + 0.05 for name, value in trained.tensors.items()}
    export(trained, tmp_path / "first")
    export(replace(trained, tensors=other), tmp_path / "second")
    first, second = (load_run(tmp_path / name, console=QUIET) for name in ("first", "second"))
    draw_into(first, LABELS, SEEDS, config, tmp_path / "samples")
    before = contents(tmp_path / "samples")
    for seeds in (SEEDS, range(9, 14)):  # all there, and none
        with pytest.raises(ValueError, match=r"model\.sha256: '[^$]*--out"):
            draw_into(second, LABELS, seeds, config, tmp_path / "samples")
    assert contents(tmp_path / "samples") == before
    # The run itself has the weights of its export.
    assert sampling_protocol(run, config) == sampling_protocol(first, config)
    draw_into(run, LABELS, range(9, 14), config, tmp_path / "samples")
    assert len(read_manifest(tmp_path / "samples").files) == 10


def test_a_run_that_was_trained_anew_in_place_adds_nothing_to_old_samples(folder, capsys):
    command = ["sample", str(folder), "--seeds", "0:2", "--steps", "2"]
    assert main(command) == 0
    before = contents(folder / "samples")
    train_anew(folder)
    assert main(command) == 0
    assert contents(folder / "samples") == before
    (other,) = folder.glob("samples-*")
    assert len(read_manifest(other).images) == 2


def test_a_folder_that_does_not_say_which_weights_drew_it_takes_no_more(run, config, tmp_path):
    """As earlier versions wrote it."""
    draw_into(run, LABELS, SEEDS, config, tmp_path)
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text())
    del values["content_sha256"]
    old = {name: value for name, value in values["protocol"].items() if "sha256" not in name}
    old.pop("model.average")
    path.write_text(json.dumps(values | {"protocol": old, "fingerprint": fingerprint(old)}))
    before = contents(tmp_path)
    assert read_manifest(tmp_path).protocol == old  # it is still read
    with pytest.raises(ValueError, match=r"earlier version .*model\.sha256.*unknown.*--out"):
        draw_into(run, LABELS, SEEDS, config, tmp_path)
    assert contents(tmp_path) == before


def test_parts_of_an_interrupted_evaluation_are_of_the_weights_that_were_measured(
    folder, monkeypatch
):
    calls, quality = [], module._quality

    def counted(run, *rest):
        calls.append(run.sha256)
        return quality(run, *rest)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_quality", counted)
    with monkeypatch.context() as stopped:
        stopped.setattr(module, "drift_measures", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate_run(load_run(folder, console=QUIET), folder)
    place = folder / "evaluation" / "samples"
    old = read_manifest(place).protocol["model.sha256"], contents(place)
    train_anew(folder)
    run = load_run(folder, console=QUIET)
    measures = evaluate_run(run, folder)
    assert calls[:2] == [old[0], run.sha256] and old[0] != run.sha256
    assert read_manifest(place).protocol["model.sha256"] == run.sha256
    assert contents(place) != old[1]
    digests = {one.protocol.get("model.sha256") for one in measures if one.subject == "arm"}
    assert digests == {run.sha256}  # every number of the model says of which weights it is
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert {line["protocol"]["model.sha256"] for line in lines} == {run.sha256}


def test_measures_of_earlier_weights_stay_beside_those_of_newer_ones(folder):
    place = RunFolder(folder)
    fingerprints = []
    for _ in range(2):
        run = load_run(folder, console=QUIET)
        only = replace(run.recipe.evaluation, parts=("held-out",))
        run = load_run(folder, console=QUIET, recipe=replace(run.recipe, evaluation=only))
        evaluate_run(run, folder)
        fingerprints.append(fingerprint(run_protocol(run)))
        train_anew(folder)
    lines = [json.loads(line) for line in place.results.read_text().splitlines()]
    losses = [line for line in lines if line["name"] == "held-out loss"]
    assert len(losses) == 2 and losses[0]["value"] != losses[1]["value"]
    assert len(set(fingerprints)) == 2


def test_untrained_weights_have_the_digest_of_their_seed(recipe):
    runs = [untrained_run(replace(recipe, seed=seed), QUIET) for seed in (0, 0, 1)]
    assert runs[0].sha256 == runs[1].sha256 != runs[2].sha256


def test_where_a_run_started_is_recorded_beside_its_weights(run, config, finished_run):
    assert "model.start" not in sampling_protocol(run, config)
    trained = load_trained_weights(str(finished_run))
    parents = trained.as_parent()
    assert parents[-1]["sha256"] == run.sha256 == trained.sha256
    assert torch.is_tensor(next(iter(trained.tensors.values())))
    assert replace(run, start=parents[-1]["sha256"]).identity["model.start"] == run.sha256


def test_a_seed_twice_with_one_prompt_is_one_image(run, config, tmp_path, capsys):
    draw_into(run, [0, 1, 0, 0, 1], [3, 3, 3, 4, 3], config, tmp_path / "some")
    assert read_manifest(tmp_path / "some").files == [
        "seed-000003-class-0.png",
        "seed-000003-class-1.png",
        "seed-000004-class-0.png",
    ]
    assert "2 of 5 images have seed and prompt of an earlier one" in capsys.readouterr().err


def test_the_number_that_is_printed_is_that_of_the_files(finished_run, tmp_path, capsys):
    for seeds, labels, count in (("1,1,1", "0", "1 image"), ("1,1,2", "0 1", "3 images")):
        out = tmp_path / count[0]
        command = ["sample", str(finished_run), "--seeds", seeds, "--labels", *labels.split()]
        assert main([*command, "--steps", "1", "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert said.startswith(
            f"{count} in {out}, sampled from ema weights (ema-share-0.05) at 64"
        )
        assert len(list(out.glob("seed-*.png"))) == int(count[0])
