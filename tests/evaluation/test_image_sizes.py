# SPDX-License-Identifier: Apache-2.0
"""Images of other sizes than those they are compared with are said, whatever holds them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from pippin.control import Size
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.images import warn_size_mismatch
from pippin.evaluation.reference import load_statistics, write_reference
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.evaluation.runs.evaluate_folder import evaluate_against
from pippin.images.files import save_png
from pippin.sampling.load import load_run

CONFIG = EvaluationConfig(input_size=32, kid_subsets=2, kid_subset_size=5, neighbours=2)
CPU = torch.device("cpu")


def images(count, height, width, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=draws)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("sizes")
    for name, sides in (("small", [32] * 9), ("large", [48] * 9), ("mixed", [32] * 8 + [40])):
        (place / name).mkdir()
        for index, side in enumerate(sides):
            save_png(images(1, side, side, index)[0], place / name / f"{index}.png")
    np.savez(place / "large.npz", images(9, 48, 48).permute(0, 2, 3, 1).numpy())
    for name in ("small", "large"):
        write_reference(place / name, place / f"{name}-kept.npz", CONFIG)
    return place


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("reference", ["large", "large.npz", "large-kept.npz"])
def test_a_reference_of_another_size_is_said(place, capsys, reference):
    evaluate_against(place / "small", place / reference, CONFIG, CPU)
    text = said(capsys)
    assert "samples are 32 x 32 pixels, the reference's images 48 x 48 pixels" in text
    assert "--resolution 32 --features efflite0" in text


@pytest.mark.parametrize("reference", ["small", "small-kept.npz"])
def test_equal_sizes_are_not_spoken_of(place, capsys, reference):
    evaluate_against(place / "small", place / reference, CONFIG, CPU)
    assert "sizes" not in said(capsys)


def test_one_image_of_another_size_among_many_is_said(place, capsys):
    evaluate_against(place / "mixed", place / "small", CONFIG, CPU)
    text = said(capsys)
    assert (
        "samples are of 2 sizes, 32 x 32 to 40 x 40 pixels" in text and "--resolution" not in text
    )
    evaluate_against(place / "mixed", place / "mixed", CONFIG, CPU)
    assert "sizes" not in said(capsys)


def test_statistics_keep_the_sizes_they_are_of(place, tmp_path):
    assert load_statistics(place / "large-kept.npz").sizes == (Size(48, 48),)
    with np.load(place / "large-kept.npz") as file:
        arrays = dict(file)
    del arrays["sizes"]  # as earlier versions and others write them
    np.savez(tmp_path / "old.npz", **arrays)
    assert load_statistics(tmp_path / "old.npz").sizes == ()
    np.savez(tmp_path / "odd.npz", **arrays, sizes=np.zeros(3))
    with pytest.raises(ValueError, match=r"sizes of .*odd\.npz must be integers"):
        load_statistics(tmp_path / "odd.npz")


def test_a_run_that_draws_at_another_size_is_said(finished_run, tmp_path):
    run = load_run(finished_run, console=Console(quiet=True))
    evaluation = replace(run.recipe.evaluation, parts=("quality",), num_samples=8)
    for size, wanted in ((None, False), ("16x32", True)):
        sampling = replace(run.recipe.sampling, size=size, steps=1)
        recipe = replace(run.recipe, evaluation=evaluation, sampling=sampling)
        console = Console(record=True, width=300)
        evaluate_run(load_run(finished_run, console=console, recipe=recipe), tmp_path / str(size))
        text = console.export_text()
        assert ("samples are 16 x 32 pixels, the reference's images 32 x 32" in text) == wanted


def test_advice_is_given_where_it_helps():
    for samples, wanted in (({Size(8, 8)}, True), ({Size(8, 6)}, False)):
        console = Console(record=True, width=300)
        warn_size_mismatch(samples, {Size(4, 4)}, "use --resolution {side}", console)
        assert ("use --resolution 8" in console.export_text()) == wanted
