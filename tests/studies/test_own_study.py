# SPDX-License-Identifier: Apache-2.0
"""The example of a study on a custom data set: trained, measured and reported."""

import sys
from dataclasses import replace

import numpy
import pytest
from example_programs import load_example
from PIL import Image

from pippin.denoisers.mmdit.config import mmdit
from pippin.studies.results import read


@pytest.fixture(scope="module")
def example():
    return load_example("own_study")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise of two colours."""
    folder, draws = tmp_path_factory.mktemp("photos"), numpy.random.default_rng(0)
    for number in range(24):
        name = ("red", "blue")[number % 2]
        (folder / name).mkdir(exist_ok=True)
        noise = draws.integers(0, 255, (40, 36 + number, 3), dtype=numpy.uint8)
        noise[..., ("red", "green", "blue").index(name)] = 255
        Image.fromarray(noise).save(folder / name / f"{number}.png")
    return folder


def small(example, photos, caches):
    base = example.base_recipe(photos, images=32)
    return replace(
        base,
        data=replace(base.data, resolution=32, views=1, index_folder=str(caches)),
        cache=replace(base.cache, folder=str(caches)),
        denoiser=replace(mmdit("tiny", patch_size=4), depth=1, width=16, num_heads=2),
        train=replace(base.train, batch_size=16, device="cpu"),
        sampling=replace(base.sampling, solver="dpm++", steps=2),
        evaluation=replace(base.evaluation, num_samples=8, input_size=32, kid_subset_size=8),
    )


def test_the_example_trains_measures_and_reports(example, photos, tmp_path, monkeypatch, capsys):
    base = small(example, photos, tmp_path / "caches")
    monkeypatch.setattr(example, "base_recipe", lambda path, images: base)
    folder = tmp_path / "study"
    monkeypatch.setattr(sys, "argv", ["own", str(photos), str(folder), "--seeds", "0", "1"])
    example.main()
    rows = [row for row in read(folder / "results.jsonl").rows if row.subject == "arm"]
    for metric in ("KID-efflite0", "coverage", "held-out loss"):
        found = {(row.arm, row.seed) for row in rows if row.metric == metric}
        assert found == {(a, s) for a in ("entangled", "disentangled") for s in (0, 1)}, metric
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "on a custom data set" in page
    assert "measured no" not in capsys.readouterr().out


def test_it_declares_five_seeds_and_a_fair_comparison(example, photos):
    study = example.own_study(example.base_recipe(photos, images=1000))
    study.check()
    assert study.seeds == (0, 1, 2, 3, 4) and study.primary == "KID-efflite0"
    assert list(study.arms()) == ["entangled", "disentangled"]
