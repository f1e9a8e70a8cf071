# SPDX-License-Identifier: Apache-2.0
"""Names and data belong to a run: whatever becomes of the folder that it was trained on."""

import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from noise_images import write_noise
from rich.console import Console
from safetensors.torch import load_file

from pippin.cli.main import main
from pippin.config import replace_at
from pippin.data.config import ImagesConfig
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.recipes.table import get_recipe
from pippin.runs.checkpoint import load_state
from pippin.runs.folder import RunFolder
from pippin.runs.inputs import INPUTS_FILE, RunInputs, read_inputs
from pippin.runs.provenance import data_protocol
from pippin.sampling.config import ControlRequest
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw, sampling_protocol
from pippin.training.config import InitConfig
from pippin.training.resume import refuse_other_data
from pippin.training.train import train

CLASSES = ("cat", "dog", "zebra")


def write_classes(folder: Path, names=CLASSES, each: int = 8, first: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for place, name in enumerate(names):
        for number in range(each):
            seed = first + place * each + number
            write_noise(folder / name / f"{seed}.png", seed, (36, 36))


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    """A project: photos, and a run on them that could go on, trained from the project's folder."""
    project = tmp_path_factory.mktemp("project")
    write_classes(project / "photos")
    shutil.copytree(recipe.autoencoder.source, project / "autoencoder")
    data = ImagesConfig(path="photos", resolution=32, views=1, held_out_share=0.25)
    rules = replace(recipe.train, images=32, checkpoint_every=16, validate_every=0)
    own = replace(
        recipe,
        data=data,
        autoencoder=AutoencoderConfig(source="autoencoder"),
        train=replace(rules, preview_every=0),
    )
    here = Path.cwd()
    os.chdir(project)
    try:
        train(own, Path("runs/a"), console=Console(quiet=True))
    finally:
        os.chdir(here)
    return project, own


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    """A copy to spoil, whose run has its last checkpoint before it; the present folder."""
    source, _ = trained
    copied = shutil.copytree(source, tmp_path / "project")
    shutil.rmtree(copied / "runs/a/checkpoints/32")
    inputs = read_inputs(copied / "runs/a")
    places = {one: path.replace(str(source), str(copied)) for one, path in inputs.places.items()}
    replace(inputs, places=places).save(copied / "runs/a" / INPUTS_FILE)
    monkeypatch.chdir(copied)
    return copied


@pytest.fixture
def own(trained):
    return trained[1]


def recording() -> Console:
    return Console(record=True, width=1000, file=io.StringIO())


def resume(own, **options):
    """The printed text in one line."""
    console = recording()
    train(own, Path("runs/a"), resume=True, console=console, **options)
    return console.export_text()


def without_record(run: Path) -> None:
    """As a version before names were kept left it."""
    (run / INPUTS_FILE).unlink()
    for path in run.glob("checkpoints/*/state.json"):
        state = json.loads(path.read_text())
        for name in ("inputs", "state_sha256"):
            state.pop(name, None)
        path.write_text(json.dumps(state))


def test_record_checkpoint_and_export_hold_names_counts_and_hashes(project):
    state = load_state(project / "runs/a/checkpoints/16")
    of_checkpoint = RunInputs.from_dict(state["inputs"])
    assert main(["export", "runs/a", "model"]) == 0
    for inputs in (of_checkpoint, read_inputs(project / "runs/a"), read_inputs(Path("model"))):
        assert inputs.data == of_checkpoint.data
        assert inputs.data.class_names == CLASSES and inputs.data.layout == "class folders"
        assert inputs.data.train.images + inputs.data.held_out.images == 24
        assert inputs.places["data.path"].endswith("/photos")


def test_the_same_data_are_resumed_to_the_same_bits(project, own, trained):
    assert "other data" not in resume(own)
    ends = [Path(one) / "runs/a/checkpoints/32/model.safetensors" for one in (project, trained[0])]
    ours, theirs = map(load_file, ends)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert load_state(ends[0].parent)["inputs"]["changes"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "zebra").rename(f / "ant"), "no longer there: zebra; new: ant"),
        (lambda f: (f / "cat").rename(f / "Cat"), "no longer there: cat; new: Cat"),
        (lambda f: write_classes(f, ("owl",), 4, 900), "new: owl; ids that mean another class: 2"),
        (lambda f: shutil.rmtree(f / "dog"), "no longer there: dog; ids that mean"),
    ],
    ids=["renamed", "case", "added", "removed"],
)
def test_other_classes_are_refused_even_where_other_data_are_allowed(project, own, change, said):
    change(project / "photos")
    for options in ({}, {"allow_changed_data": True}):
        with pytest.raises(ValueError, match=said):
            resume(own, **options)
    assert RunFolder(project / "runs/a").has_checkpoints


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: write_classes(f, ("cat",), 20, 500), r"cat \d -> \d+"),
        (lambda f: [(f / f"dog/{n}.png").unlink() for n in range(8, 15)], r"dog \d -> 1"),
        (lambda f: (f / "cat/3.png").rename(f / "dog/3.png"), r"other|cat \d -> \d, dog"),
        (lambda f: [write_noise(f / f"cat/{n}.png", 77 + n, (9, 36)) for n in range(8)], "other"),
    ],
    ids=["added", "removed", "moved", "edited"],
)
def test_other_images_are_refused_unless_allowed_and_then_on_record(project, own, change, said):
    own = replace(own, data=replace(own.data, min_side=8))
    config = RunFolder(project / "runs/a").config
    own.save(config)
    change(project / "photos")
    with pytest.raises(ValueError, match=rf"other data(.*){said}.*--allow-changed-data True"):
        resume(own)
    assert "resuming on other data: the " in resume(own, allow_changed_data=True)
    (entry,) = load_state(project / "runs/a/checkpoints/32")["inputs"]["changes"]
    assert entry["images_seen"] == 16
    notes = [json.loads(x) for x in Path("runs/a/log.jsonl").read_text().splitlines()]
    assert [x["images"] for x in notes if "note" in x] == [16]
    resume(own)  # the changed data are the run's from then on
    assert data_protocol(load_run("runs/a", console=Console(quiet=True)).components)[
        "data.changes"
    ]


def test_a_text_file_beside_an_image_means_nothing_to_a_model_of_classes(project, own):
    (project / "photos/cat/0.txt").write_text("a cat")
    assert "other data" not in resume(own)


def test_moved_images_are_the_same_run(project, own):
    (project / "photos").rename(project / "moved")
    moved = replace(own, data=replace(own.data, path="moved"))
    assert "other data" not in resume(moved)
    assert RunFolder(project / "runs/a").recipe() == own
    places = read_inputs(project / "runs/a").places
    assert places["data.path"] == str(project / "moved")  # found without a word next time
    resume(own)


def test_moved_images_that_differ_are_refused(project, own):
    write_classes(project / "moved", each=9)
    with pytest.raises(ValueError, match=r"other data than .*moved holds"):
        resume(replace(own, data=replace(own.data, path="moved")))


def test_an_autoencoder_that_was_trained_anew_in_its_place_is_refused(project, own):
    other = project / "autoencoder"
    autoencoder = Autoencoder.from_folder(other)
    autoencoder.scale.add_(1)
    autoencoder.save(other)
    with pytest.raises(ValueError, match="latents of another autoencoder"):
        resume(own, allow_changed_data=True)
    with pytest.raises(ValueError, match=r"would be decoded wrongly.*--autoencoder FOLDER"):
        _ = load_run("runs/a", console=Console(quiet=True)).components.autoencoder
    console = recording()
    loaded = load_run("runs/a", console=console, autoencoder=str(other))
    assert loaded.components.autoencoder.fingerprint == autoencoder.fingerprint
    assert "another autoencoder:" in console.export_text()


def test_names_are_those_of_the_training_whatever_the_folder_is_called_now(project, capsys):
    draws = ["--seeds", "0:1", "--steps", "2"]
    assert main(["sample", "runs/a", "--labels", "cat", *draws, "--out", "before"]) == 0
    (project / "photos/cat").rename(project / "photos/yak")
    assert main(["export", "runs/a", "model"]) == 0
    for number, source in enumerate(("runs/a", "model")):
        out = Path(str(number))
        assert main(["sample", source, "--labels", "cat", *draws, "--out", str(out)]) == 0
        (row,) = json.loads((out / "manifest.json").read_text())["images"]
        assert (row["label"], row["class"]) == (0, "cat")
        assert (out / row["file"]).read_bytes() == (Path("before") / row["file"]).read_bytes()
    assert main(["sample", "runs/a", "--labels", "yak", *draws, "--out", "no"]) == 2
    assert "no class 'yak'; there are: 0 cat, 1 dog, 2 zebra" in capsys.readouterr().err
    shutil.rmtree(project / "photos")
    assert main(["sample", "runs/a", "--labels", "2", *draws, "--out", "gone"]) == 0


def test_images_that_are_needed_are_named_by_an_option(project):
    before = load_run("runs/a", console=Console(quiet=True))
    asked = replace(before.recipe.sampling, control=ControlRequest(ask="training"))
    images = draw(before, [1, 2], [0, 1], asked)
    (project / "photos").rename(project / "moved")
    run = load_run("runs/a", console=Console(quiet=True))
    clean = replace(asked, control=ControlRequest(ask="clean"))
    assert draw(run, [1], [0], clean).shape == (1, 3, 32, 32)  # by the recorded median side
    with pytest.raises(ValueError, match=r"not there: data\.path photos, .*--data\.path FOLDER"):
        draw(run, [1, 2], [0, 1], asked)
    run = load_run("runs/a", console=Console(quiet=True), data_path="moved")
    assert torch.equal(draw(run, [1, 2], [0, 1], asked), images)
    assert run.recipe == before.recipe
    protocol = sampling_protocol(run, asked)
    assert protocol == sampling_protocol(before, asked)
    assert protocol["data.train"] == run.components.data_record.train.content
    assert "data.train" not in sampling_protocol(run, clean)


QUICK = EvaluationConfig(
    parts=("held-out",), num_samples=12, input_size=32, kid_subset_size=8, kid_subsets=4
)


def test_measures_say_which_images_they_are_of(project, own):
    console = recording()
    measured = replace(own, evaluation=QUICK)

    def protocols():
        run = load_run("runs/a", console=console, recipe=measured)
        return {one.name: one.protocol for one in evaluate_run(run, project / "runs/a")}

    first = protocols()["held-out loss"]
    assert {"data.train", "data.held_out"} <= set(first) and "data.trained_on" not in first
    assert "data.train" not in protocols()["parameters"]
    write_classes(project / "photos", ("cat",), 9, 500)
    second = protocols()["held-out loss"]
    assert second["data.train"] != first["data.train"]
    assert second["data.trained_on"]["train"] == first["data.train"]
    assert "other data: " in console.export_text()
    (project / "photos/cat").rename(project / "photos/yak")
    with pytest.raises(ValueError, match=r"has other classes than runs/a.*new: yak"):
        protocols()


def test_what_an_older_run_was_trained_on_is_said_to_be_unknown(project, own, capsys):
    without_record(project / "runs/a")
    run = load_run("runs/a")
    assert run.num_classes == 3 and run.class_names == CLASSES
    assert "using those of photos as it is now" in " ".join(capsys.readouterr().err.split())
    assert data_protocol(run.components)["data.trained_on"] == "not recorded"
    write_classes(project / "photos", ("owl",), 4, 900)
    with pytest.raises(
        ValueError, match=r"4 classes \(cat, dog, owl, zebra\), and .* on 3; their"
    ):
        resume(own)
    run = load_run("runs/a")
    assert run.class_names == ("0", "1", "2")
    with pytest.raises(ValueError, match=r"4 classes .* on 3"):
        _ = run.components.train_source
    shutil.rmtree(project / "photos")
    assert load_run("runs/a").class_names == ("0", "1", "2")
    said = " ".join(capsys.readouterr().err.split())
    assert "class names are unknown" in said and "--data.path FOLDER" in said


def test_an_older_run_goes_on_with_what_is_there_and_says_so(project, own):
    without_record(project / "runs/a")
    (project / "photos").rename(project / "moved")
    moved = replace(own, data=replace(own.data, path="moved"))
    with pytest.raises(ValueError, match=r"kept no hash .* of data\.path photos cannot be known"):
        resume(moved)
    assert "no record:" in resume(moved, allow_changed_data=True)
    inputs = RunInputs.from_dict(load_state(project / "runs/a/checkpoints/32")["inputs"])
    assert inputs.data.class_names == CLASSES
    assert [one.what for one in inputs.changes] == ["data before this were not recorded"]


def test_an_older_run_is_exported_with_the_names_of_a_folder_that_is_named(project, capsys):
    without_record(project / "runs/a")
    assert main(["export", "runs/a", "bare"]) == 0
    assert "class names are unknown" in " ".join(capsys.readouterr().err.split())
    assert read_inputs(Path("bare")) is None
    assert main(["export", "runs/a", "named", "--data.path", "photos"]) == 0
    assert read_inputs(Path("named")).data.class_names == CLASSES


def test_a_start_says_which_rows_of_the_class_table_are_of_other_classes(project, own):
    console = recording()
    begun = replace(own, init=InitConfig(run="runs/a"))
    train(begun, Path("runs/same"), console=console)
    assert "class table" not in console.export_text()
    (project / "photos/zebra").rename(project / "photos/ant")
    train(begun, Path("runs/other"), console=console)
    said = console.export_text()
    assert "row by row, and class names differ (no longer there: zebra; new: ant" in said
    assert "init.transfer classes" in said


def test_runs_of_a_study_see_the_same_images(project, own):
    (project / "study.json").write_text("{}")
    train(replace(own, seed=1), project / "runs/b", console=Console(quiet=True))
    write_classes(project / "photos", ("cat",), 20, 500)
    with pytest.raises(ValueError, match=r"runs/a of the same study was trained on other data"):
        train(replace(own, seed=2), project / "runs/c", console=Console(quiet=True))
    other = replace(own, data=replace(own.data, max_pictures=10))  # which is another question
    train(other, project / "runs/d", console=Console(quiet=True))


def test_runs_of_a_study_that_read_other_captions_see_the_same_images(project, own):
    """Arms by class and by text, with other text encoders or other kinds of captions."""
    (project / "study.json").write_text("{}")

    def inputs(encoder: str | None, **hashes: str) -> RunInputs:
        record = read_inputs(project / "runs/a")
        train = replace(record.data.train, captions=hashes)
        return replace(record, text_encoder=encoder, data=replace(record.data, train=train))

    text = replace(get_recipe("openmoji/mmdit-disentangled-text"), data=own.data)
    text = replace_at(text, "text.captions", {"name": 1.0})
    refuse_other_data(project / "runs/b", text, inputs("1", name="a"))  # runs/a reads classes
    (project / "runs/b").mkdir()
    text.save(project / "runs/b/config.json")
    inputs("1", name="a").save(project / "runs/b" / INPUTS_FILE)
    for same_captions in (
        (replace_at(text, "text.source", ("other",)), inputs("2", name="a")),
        (replace_at(text, "text.captions", {"long": 1.0}), inputs("1", long="b")),
        (own, inputs(None, long="b")),
    ):
        refuse_other_data(project / "runs/c", *same_captions)
    with pytest.raises(ValueError, match=r"captions of the training images differ \(name\)"):
        refuse_other_data(project / "runs/c", text, inputs("1", name="b"))
    with pytest.raises(ValueError, match=r"the files of text\.source differ \(1 before, 2 now"):
        refuse_other_data(project / "runs/c", text, inputs("2", name="a"))


def test_a_damaged_record_is_named(project):
    (project / "runs/a" / INPUTS_FILE).write_text('{"data": 1}')
    with pytest.raises(ValueError, match=r"runs/a/inputs\.json is not a valid RunInputs"):
        load_run(project / "runs/a")
