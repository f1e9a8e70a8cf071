# SPDX-License-Identifier: Apache-2.0
"""Folders and arrays of images against folders, arrays and statistics."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_inception import blobs

from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.distances import compare
from pippin.evaluation.features.extraction import build_features, extract
from pippin.evaluation.reference import write_reference
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.evaluation.runs.evaluate_folder import evaluate_against
from pippin.images.files import save_png
from pippin.sampling.load import load_run

CONFIG = EvaluationConfig(input_size=32, kid_subsets=4, kid_subset_size=8, neighbours=3)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two folders of images, one of them as an array too."""
    place = tmp_path_factory.mktemp("images")
    for name, images in (("made", blobs(10, 3, 3)), ("real", blobs(12, 5, 5))):
        (place / name).mkdir()
        for index, image in enumerate(images):
            save_png(image, place / name / f"{index:02d}.png")
        np.savez(place / f"{name}.npz", images.permute(0, 2, 3, 1).numpy())
    return place


def values(measures):
    return {one.name: one.value for one in measures}


def test_a_folder_an_array_and_statistics_of_the_same_images_agree(place):
    network = build_features(CONFIG)
    sides = [extract(network, [images]) for images in (blobs(10, 3, 3), blobs(12, 5, 5))]
    wanted = values(compare(*sides, CONFIG))
    by_folder = evaluate_against(place / "made", place / "real", CONFIG, CPU)
    by_array = evaluate_against(place / "made.npz", place / "real.npz", CONFIG, CPU)
    assert values(by_folder) == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert values(by_array) == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert by_array[0].protocol["images_hash"] == sides[0].image_hash
    kept = write_reference(place / "real", place / "kept.npz", CONFIG)
    assert kept.count == 12 and kept.image_hash == sides[1].image_hash
    (distance,) = evaluate_against(place / "made", place / "kept.npz", CONFIG, CPU)
    assert distance.name == "FD-efflite0"
    assert distance.value == pytest.approx(wanted["FD-efflite0"], rel=1e-4)
    assert distance.protocol["reference_hash"] == sides[1].image_hash


def test_statistics_allow_frechet_distances_only_and_that_is_said(place, capsys):
    if not (place / "kept.npz").exists():
        write_reference(place / "real", place / "kept.npz", CONFIG)
    evaluate_against(place / "made", place / "kept.npz", CONFIG, CPU)
    assert "statistics only: KID, precision, recall, density" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_file_of_images_and_statistics_gives_each_what_it_can(place, tmp_path, quick_inception):
    """As ADM's reference batches: statistics of a whole data set, images of a part of it."""
    config = replace(CONFIG, features="inception", inception=str(quick_inception))
    kept = tmp_path / "kept.npz"
    write_reference(place / "real", kept, config)
    with np.load(kept) as file:
        arrays = dict(file)
    np.savez(tmp_path / "both.npz", arr_0=blobs(6, 6, 5).permute(0, 2, 3, 1).numpy(), **arrays)
    measures = evaluate_against(place / "made", tmp_path / "both.npz", config, CPU)
    counts = {one.name: one.protocol.get("reference_samples") for one in measures}
    name = build_features(config).name
    assert counts[f"FD-{name}"] == counts[f"sFD-{name}"] == 12
    assert counts[f"KID-{name}"] == counts["precision"] == 6
    assert f"IS-{name}" in counts and len(counts) == len(measures) == 9


def test_images_are_squared_to_the_resolution_that_is_asked_for(place, tmp_path):
    from pippin.control import Control, Corner, Size
    from pippin.data.views.crop import apply_control

    wide = torch.cat([blobs(3, 0, 4), blobs(3, 1, 4)], dim=3)  # (3, 3, 48, 96)
    np.savez(tmp_path / "wide.npz", wide.permute(0, 2, 3, 1).numpy())
    found = write_reference(tmp_path / "wide.npz", tmp_path / "kept.npz", CONFIG, resolution=24)
    crop = {"original_size": Size(48, 96), "crop_size": Size(48, 48), "flip": False}
    control = Control(crop_corner=Corner(0, 24), **crop)
    squares = torch.stack([apply_control(image, control, 24) for image in wide])
    assert found.image_hash == extract(build_features(CONFIG), [squares]).image_hash
    with np.load(tmp_path / "kept.npz") as file:
        assert str(file["preparation"]) == "centred squares at 24 pixels, bicubic and antialiased"


def test_what_cannot_be_a_reference_is_refused(place, tmp_path):
    (tmp_path / "text.txt").write_text("")
    np.savez(tmp_path / "labels.npz", labels=np.arange(3))
    np.savez(tmp_path / "adm.npz", mu=np.zeros(4), sigma=np.eye(4))
    for name, message in (
        ("text.txt", r"must be a folder of images or a .npz file"),
        ("none.npz", r"there is no file .*none.npz"),
        ("labels.npz", r"holds labels; a reference is made of mu and sigma .* or of arr_0"),
        ("adm.npz", r"does not say which features"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_against(place / "made", tmp_path / name, CONFIG, CPU)


def test_statistics_are_written_to_a_new_npz_of_two_images_or_more(place, tmp_path):
    for out in (place / "real.npz", tmp_path / "x.npy", tmp_path / "no" / "x.npz"):
        with pytest.raises(ValueError, match=r"must be a new file that ends in .npz, in a folder"):
            write_reference(place / "real", out, CONFIG)
    save_png(blobs(1, 0, 4)[0], tmp_path / "one.png")
    with pytest.raises(ValueError, match="holds one image; statistics need two or more"):
        write_reference(tmp_path, tmp_path / "x.npz", CONFIG)
    with pytest.raises(ValueError, match="--resolution must be 1 or more; got 0"):
        write_reference(tmp_path, tmp_path / "x.npz", CONFIG, resolution=0)
    assert not list(tmp_path.glob("*.npz"))


def test_a_run_is_measured_with_inception(finished_run, quick_inception, tmp_path):
    """Quality in its features, drift in our own distance."""
    folder = shutil.copytree(finished_run, tmp_path / "run")
    recipe = load_run(folder).recipe
    config = replace(
        recipe.evaluation,
        parts=("quality", "drift"),
        num_samples=8,
        drift_pairs=2,
        features="inception",
        inception=str(quick_inception),
    )
    run = load_run(folder, recipe=replace(recipe, evaluation=config))
    measures = {one.name: one for one in evaluate_run(run, folder)}
    name = build_features(config).name
    wanted = {f"{kind}-{name}" for kind in ("KID", "FD", "sFD", "IS")}
    assert wanted | {"precision", "drift original_size"} <= set(measures)
    assert measures["drift original_size"].unit == "efflite0-distance"
    line = json.loads((folder / "results.jsonl").read_text().splitlines()[-1])
    assert line["protocol"]["evaluation.features"] == "inception"
    assert not [key for key in line["protocol"] if key.endswith("evaluation.inception")]


def test_what_of_a_folder_is_not_measured_is_said(place, tmp_path, capsys):
    made = tmp_path / "made"
    shutil.copytree(place / "made", made)
    shutil.copy(made / "00.png", made / ".hidden.png")
    (made / "again.png").symlink_to("00.png")
    (made / "photo.heic").touch()
    os.mkfifo(made / "fifo.png")
    before = values(evaluate_against(place / "made", place / "real", CONFIG, CPU))
    capsys.readouterr()
    assert values(evaluate_against(made, place / "real", CONFIG, CPU)) == before
    said = " ".join(capsys.readouterr().err.split())
    for part in (
        "1 hidden image files: .hidden.png",
        "1 links to what is counted under another name: again.png (counted as 00.png)",
        "1 names that are no regular files: fifo.png (a FIFO)",
        "1 image files: unsupported type",
    ):
        assert part in said
    assert write_reference(made, tmp_path / "kept.npz", CONFIG).count == 10
    assert "fifo.png" in capsys.readouterr().err
