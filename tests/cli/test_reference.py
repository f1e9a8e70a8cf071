# SPDX-License-Identifier: Apache-2.0
"""``pippin reference`` and ``pippin evaluate --reference``."""

import json

import numpy as np
import pytest
from random_inception import blobs

from pippin.cli.main import main
from pippin.images.files import save_png


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, images in (("made", blobs(6, 3, 3)), ("real", blobs(6, 5, 5))):
        (tmp_path / name).mkdir()
        for index, image in enumerate(images):
            save_png(image, tmp_path / name / f"{index}.png")
    return tmp_path


def test_statistics_are_written_and_evaluated_against(folders, quick_inception, capsys):
    weights = ["--features", "inception", "--inception", str(quick_inception)]
    assert main(["reference", "real", "--out", "kept.npz", *weights]) == 0
    said = capsys.readouterr().out
    assert "written: kept.npz (inception-" in said and "2048 features of 6 images" in said
    assert "pippin evaluate FOLDER --reference kept.npz --features inception" in said
    assert "note: 6 images are too few for 2048 dimensions" in said
    options = ["--reference", "kept.npz", *weights, "--out", "results.jsonl"]
    assert main(["evaluate", "made", *options]) == 0
    said = capsys.readouterr()
    assert "statistics only" in said.err and "FD-inception-" in said.out
    lines = [json.loads(line) for line in (folders / "results.jsonl").read_text().splitlines()]
    assert [line["name"].split("-")[0] for line in lines] == ["FD", "sFD", "IS"]
    own = lines[0]["protocol"]
    assert own["reference.kind"] == "given" and own["measure.reference_samples"] == 6
    assert not [key for key in own if key.startswith("reference.data")]


def test_an_array_of_images_is_measured_as_a_folder_is(folders, capsys):
    np.savez("made.npz", blobs(6, 3, 3).permute(0, 2, 3, 1).numpy())
    options = ["--reference", "real", "--input-size", "32", "--neighbours", "3"]
    said = []
    for images in ("made", "made.npz"):
        assert main(["evaluate", images, *options]) == 0
        said.append(capsys.readouterr().out)
    assert "coverage" in said[0] and "not recorded; give --out FILE" in said[0]
    assert [line[:50] for line in said[0].splitlines()] == [
        line[:50] for line in said[1].splitlines()
    ]


def test_mistakes_are_one_message(folders, capsys):
    assert main(["reference", "real", "--out", "kept.npz", "--features", "inception"]) == 2
    assert "evaluation.inception, a file of its weights, belong" in capsys.readouterr().err
    assert main(["evaluate", "made", "--reference", "absent.npz"]) == 2
    assert "there is no file absent.npz" in capsys.readouterr().err
    options = ["--reference", "real", "--data.resolution", "32"]
    assert main(["evaluate", "made", *options]) == 2
    assert "--data.resolution has no effect with --reference" in capsys.readouterr().err
    assert main(["evaluate", "made.txt"]) == 2
    assert "does not exist; give a run folder, a folder of images or a .npz" in (
        capsys.readouterr().err
    )
