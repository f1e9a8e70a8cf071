# SPDX-License-Identifier: Apache-2.0
"""Sampling into a folder: a stop costs one batch, nothing is overwritten, the manifest is true."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from pippin.evaluation.runs.evaluate_folder import evaluate_folder
from pippin.images.folder import read_image
from pippin.sampling.sample import draw, draw_into, sample_rows, sampling_protocol, unique_rows
from pippin.sampling.sample_folder import (
    SampleFolder,
    SampleRow,
    make_room,
    read_manifest,
    remove_samples,
)
from pippin.sampling.sampler import Sampler
from pippin.system.lock import FolderBusyError, folder_lock

SEEDS, LABELS = range(10), [seed % 3 for seed in range(10)]


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name[0] != "."}


def test_a_stopped_sampling_goes_on_and_ends_as_an_unbroken_one(
    run, config, tmp_path, monkeypatch
):
    draw_into(run, LABELS, SEEDS, config, tmp_path / "whole")
    draws, real = [], Sampler._draw

    def cut(self, conditions, seeds, shape):
        draws.append(list(seeds))
        if len(draws) == 3:
            raise KeyboardInterrupt
        return real(self, conditions, seeds, shape)

    monkeypatch.setattr(Sampler, "_draw", cut)
    with pytest.raises(KeyboardInterrupt):
        draw_into(run, LABELS, SEEDS, config, tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("seed-*.png"))) == 8
    assert not read_manifest(tmp_path / "parts").complete
    draw_into(run, LABELS, SEEDS, config, tmp_path / "parts")
    assert draws[3:] == [[8, 9]]
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_a_torn_image_is_drawn_again(run, config, tmp_path):
    draw_into(run, LABELS, SEEDS, config, tmp_path)
    before = contents(tmp_path)
    torn = tmp_path / "seed-000003-class-0.png"
    torn.write_bytes(torn.read_bytes()[:200])
    draw_into(run, LABELS, SEEDS, config, tmp_path)
    assert contents(tmp_path) == before


def test_other_seeds_are_added(run, config, tmp_path):
    draw_into(run, [0, 1], [3, 4], config, tmp_path)
    draw_into(run, [2, 1], [7, 3], config, tmp_path)
    manifest = read_manifest(tmp_path)
    assert [(row["seed"], row["label"]) for row in manifest.images] == [
        (3, 0),
        (4, 1),
        (7, 2),
        (3, 1),
    ]
    for row in manifest.images:
        (wanted,) = draw(run, [row["label"]], [row["seed"]], config)
        found = read_image(tmp_path / row["file"])
        assert (found.int() - wanted.int()).abs().max() <= 1  # rounding at another batch size


def test_an_image_that_is_gone_at_the_end_is_named(run, config, tmp_path, monkeypatch):
    """As where the process that should have drawn it writes elsewhere."""
    real = SampleFolder.add

    def elsewhere(self, row, image):
        if row.seed != 9:
            real(self, row, image)

    monkeypatch.setattr(SampleFolder, "add", elsewhere)
    message = r"lacks 1 of 10 images .*seed-000009-class-0\.png.*same command"
    with pytest.raises(ValueError, match=message):
        draw_into(run, LABELS, SEEDS, config, tmp_path, shown=4)
    assert not read_manifest(tmp_path).complete
    monkeypatch.setattr(SampleFolder, "add", real)
    draw_into(run, LABELS, SEEDS, config, tmp_path, shown=4)
    assert len(read_manifest(tmp_path).files) == 10


def test_images_of_an_earlier_request_do_not_vanish_from_the_manifest(run, config, tmp_path):
    draw_into(run, LABELS, SEEDS, config, tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "seed-000003-class-0.png").unlink()
    with pytest.raises(
        ValueError, match=r"lost 1 images .*seed-000003-class-0\.png.*restore them"
    ):
        draw_into(run, [0], [20], config, tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == before
    draw_into(run, LABELS, SEEDS, config, tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_images_that_a_stopped_request_never_drew_leave_the_manifest(run, config, tmp_path):
    rows = sample_rows(run, LABELS, SEEDS)
    SampleFolder(tmp_path, sampling_protocol(run, config)).begin(rows)
    draw_into(run, LABELS, SEEDS[:2], config, tmp_path)
    assert read_manifest(tmp_path).files == [row.names[0] for row in rows[:2]]


def test_images_of_another_protocol_are_not_overwritten(run, config, tmp_path):
    draw_into(run, LABELS, SEEDS, config, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"sampling\.steps: 3 there, 4 here[^$]*--out"):
        draw_into(run, LABELS, SEEDS, replace(config, steps=4), tmp_path)
    assert contents(tmp_path) == before
    draw_into(run, LABELS, SEEDS, replace(config, batch_size=5), tmp_path)  # no protocol setting


FIRST, SECOND = "a photo of object 93201", "a photo of object 94314"
"""Prompts whose hashes begin with the same eight digits."""


def text_row(prompt, seed=0):
    return SampleRow(seed=seed, prompt=prompt, class_name=None)


def image_of(level):
    return torch.full((3, 8, 8), level, dtype=torch.uint8)


def write(folder, rows, levels):
    folder.begin(rows)
    for row, level in zip(rows, levels, strict=True):
        folder.add(row, image_of(level))
    folder.finish(rows)


def test_prompts_of_one_short_hash_are_two_images(tmp_path):
    rows = [text_row(FIRST), text_row(SECOND), text_row(FIRST)]
    assert rows[0].names[0] == rows[1].names[0]
    assert unique_rows(rows) == rows[:2]
    folder = SampleFolder(tmp_path, {})
    write(folder, rows[:2], (10, 20))
    for opened in (folder, SampleFolder(tmp_path, {})):
        assert [read_image(opened.file(row))[0, 0, 0] for row in rows[:2]] == [10, 20]
        assert opened.name(rows[0]) == rows[0].names[0]  # as in earlier versions
    listed = read_manifest(tmp_path).images
    assert [row["prompt"] for row in listed] == [FIRST, SECOND]
    folder.keep_only(rows[1:2])
    assert [row["prompt"] for row in read_manifest(tmp_path).images] == [SECOND]
    assert read_image(folder.file(rows[1]))[0, 0, 0] == 20
    remove_samples(tmp_path)
    assert not tmp_path.exists()


def test_an_earlier_image_of_the_short_hash_is_not_that_of_another_prompt(tmp_path):
    write(SampleFolder(tmp_path, {}), [text_row(FIRST)], (10,))
    later = SampleFolder(tmp_path, {})
    assert later.holds(text_row(FIRST), (8, 8)) and not later.holds(text_row(SECOND), (8, 8))
    write(later, [text_row(SECOND)], (20,))
    assert read_image(later.file(text_row(FIRST)))[0, 0, 0] == 10
    assert len(read_manifest(tmp_path).images) == 2


def test_a_folder_of_other_files_is_not_written_to(run, config, tmp_path):
    (tmp_path / "grid.png").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(grid\.png"):
        draw_into(run, LABELS, SEEDS, config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:100],
        lambda text: text.replace('"sampling.steps": 3', '"sampling.steps": 9'),
        lambda text: "[]",
        lambda text: text.replace('"seed-000000-class-0.png"', '"../../secret.png"'),
    ],
)
def test_a_damaged_manifest_is_refused_and_nothing_is_touched(run, config, tmp_path, spoil):
    draw_into(run, LABELS, SEEDS, config, tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(spoil(path.read_text()))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"manifest\.json (is damaged|names files outside)"):
        draw_into(run, LABELS, SEEDS, config, tmp_path)
    assert contents(tmp_path) == before


def test_two_processes_do_not_draw_into_one_folder(run, config, tmp_path):
    folder = tmp_path / "samples"
    with folder_lock(folder), pytest.raises(FolderBusyError):
        draw_into(run, LABELS, SEEDS, config, folder)


def test_keeping_some_images_keeps_the_manifest_true(run, config, tmp_path):
    folder = draw_into(run, LABELS, SEEDS, config, tmp_path)
    rows = read_manifest(tmp_path).files[:2]
    folder.keep_only(sample_rows(run, LABELS, SEEDS[:2]))
    assert read_manifest(tmp_path).files == rows
    assert sorted(p.name for p in tmp_path.glob("seed-*")) == sorted(rows)


def test_exactly_the_images_of_the_manifest_are_measured(run, config, tmp_path):
    draw_into(run, LABELS, SEEDS, config, tmp_path)
    shutil.copy(tmp_path / "grid.png", tmp_path / "left-over.png")
    measures = evaluate_folder(
        tmp_path, run.recipe.data, run.recipe.evaluation, torch.device("cpu")
    )
    kid = next(one for one in measures if (one.name, one.subject) == ("KID-efflite0", "arm"))
    assert kid.n == 10
    assert kid.protocol["sampling.steps"] == 3
    (tmp_path / "seed-000003-class-0.png").unlink()
    with pytest.raises(ValueError, match="1 of 10 images"):
        evaluate_folder(tmp_path, run.recipe.data, run.recipe.evaluation, torch.device("cpu"))


def test_samples_of_another_size_than_the_reference_are_said(run, config, tmp_path, capsys):
    draw_into(run, LABELS, SEEDS, config, tmp_path)
    for side, said in ((32, False), (64, True)):
        data = replace(run.recipe.data, resolution=side)
        evaluate_folder(tmp_path, data, run.recipe.evaluation, torch.device("cpu"))
        printed = capsys.readouterr().err
        assert ("samples are 32 x 32 pixels, the reference's images 64 x 64" in printed) == said
        assert ("--data.resolution 32" in printed) == said


def test_a_study_is_not_measured_as_images(run, tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(ValueError, match=r"folder of a study, not of images.*pippin report"):
        evaluate_folder(tmp_path, run.recipe.data, run.recipe.evaluation, torch.device("cpu"))


def test_the_fingerprint_in_the_manifest_is_that_of_the_protocol(run, config, tmp_path):
    from pippin.config import fingerprint

    draw_into(run, LABELS, SEEDS, config, tmp_path)
    values = json.loads((tmp_path / "manifest.json").read_text())
    assert values["fingerprint"] == fingerprint(values["protocol"])
    assert SampleFolder(tmp_path, values["protocol"]).path == tmp_path


def write_samples(folder, protocol):
    """Two black images and a file of somebody else."""
    samples = SampleFolder(folder, protocol)
    rows = [SampleRow(seed=seed, prompt=0, class_name="cat") for seed in range(2)]
    with folder_lock(folder):
        samples.begin(rows)
        for row in rows:
            samples.add(row, torch.zeros(3, 4, 4, dtype=torch.uint8))
        samples.finish(rows)
    (folder / "notes.txt").write_text("mine")


@pytest.mark.parametrize("names", [["notes.txt"], ["seed-000000-class-0.png"]])
def test_files_without_a_manifest_do_not_make_room(names, tmp_path):
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=rf"{names[0]}.*no manifest\.json.*move them away"):
        make_room(tmp_path, {"a": 1})
    assert list(contents(tmp_path)) == names


def test_a_folder_that_is_absent_or_empty_has_room(tmp_path):
    make_room(tmp_path / "none", {"a": 1})
    make_room(tmp_path, {"a": 1})
    assert not (tmp_path / "none").exists()


def test_images_of_another_protocol_make_room_and_other_files_stay(tmp_path):
    write_samples(tmp_path, {"a": 1})
    make_room(tmp_path, {"a": 1})
    assert len(contents(tmp_path)) == 5
    make_room(tmp_path, {"a": 2})
    assert list(contents(tmp_path)) == ["manifest.json", "notes.txt"]
    assert SampleFolder(tmp_path, {"a": 2}).protocol == {"a": 2}


@pytest.mark.parametrize("content", ["{", '{"images": []}', "[]", ""])
def test_beside_a_damaged_manifest_only_what_is_named_as_ours_makes_room(content, tmp_path):
    write_samples(tmp_path, {"a": 1})
    (tmp_path / "seed-0.png").write_text("mine")
    (tmp_path / "manifest.json").write_text(content)
    make_room(tmp_path, {"a": 1})
    assert list(contents(tmp_path)) == ["manifest.json", "notes.txt", "seed-0.png"]


def test_samples_are_removed_and_other_files_stay(tmp_path):
    write_samples(tmp_path / "a", {"a": 1})
    remove_samples(tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["notes.txt"]
    remove_samples(tmp_path / "a")
    write_samples(tmp_path / "b", {"a": 1})
    (tmp_path / "b" / "notes.txt").unlink()
    remove_samples(tmp_path / "b")
    assert not (tmp_path / "b").exists()
    remove_samples(tmp_path / "b")


def test_one_changed_seed_in_a_manifest_is_found(tmp_path):
    write_samples(tmp_path, {"a": 1})
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 7'))
    with pytest.raises(ValueError, match="damaged"):
        read_manifest(tmp_path)
