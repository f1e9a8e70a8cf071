# SPDX-License-Identifier: Apache-2.0
"""Whenever the power goes, a manifest that says so is of whole images, and an export is whole."""

import pytest
import torch
from power_cut import each_state, final_states, recorded

from pippin.runs.trained import Trained, export, load_trained_weights
from pippin.sampling.sample_folder import SampleFolder, SampleRow, make_room, read_manifest

ROWS = [SampleRow(seed=seed, prompt=0, class_name="cat") for seed in range(2)]
PIXELS = (4, 4)


def image(seed):
    return torch.full((3, *PIXELS), seed, dtype=torch.uint8)


def draw(path):
    """Both images, those that are there kept."""
    folder = SampleFolder(path, {"a": 1})
    missing = [row for row in ROWS if not folder.holds(row, PIXELS)]
    folder.begin(ROWS)
    for row in missing:
        folder.add(row, image(row.seed))
    folder.finish(ROWS)


def whole(path):
    folder = SampleFolder(path, {"a": 1})
    return all(folder.holds(row, PIXELS) for row in ROWS)


def test_a_complete_manifest_is_of_whole_images(tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    with recorded(root) as disk:
        draw(root / "samples")
    complete = 0
    for place in each_state(disk, tmp_path / "states"):
        manifest = read_manifest(place / "samples")
        if manifest is not None and manifest.complete:
            complete += 1
            assert whole(place / "samples")
        elif manifest is not None or not any((place / "samples").glob("[!.]*")):
            draw(place / "samples")
            assert whole(place / "samples")
        else:  # images outlived the manifest: nothing says whose they are
            with pytest.raises(ValueError, match=r"no manifest\.json"):
                draw(place / "samples")
    assert complete
    for place in final_states(disk, tmp_path / "end"):
        assert read_manifest(place / "samples").complete


def test_an_export_is_whole_or_refused(recipe, tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    tensors = {"a": torch.arange(99.0)}
    trained = Trained(
        source="run", recipe=recipe, tensors=tensors, weights="ema", images_seen=8, lineage=()
    )
    with recorded(root) as disk:
        export(trained, root / "out")
    opened = 0
    for place in each_state(disk, tmp_path / "states"):
        try:
            found = load_trained_weights(str(place / "out"))
        except ValueError:
            continue
        opened += 1
        assert torch.equal(found.tensors["a"], tensors["a"]) and found.recipe == recipe
    assert opened
    for place in final_states(disk, tmp_path / "end"):
        load_trained_weights(str(place / "out"))


def test_making_room_leaves_no_manifest_of_what_is_gone(tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    draw(root / "samples")
    (root / "samples" / "notes.txt").write_text("mine")
    with recorded(root) as disk:
        make_room(root / "samples", {"a": 2})
    for place in each_state(disk, tmp_path / "states"):
        assert (place / "samples/notes.txt").read_text() == "mine"
        manifest = read_manifest(place / "samples")
        assert all((place / "samples" / name).is_file() for name in manifest.files)
