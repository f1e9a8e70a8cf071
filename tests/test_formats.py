# SPDX-License-Identifier: Apache-2.0
"""Files of every format version are read, or refused by name: ``formats/N`` holds samples.

``scripts/format_samples.py`` writes them.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from kept_formats import CACHE, SAMPLES, SHARD, VERSIONS, bank, part_of
from rich.console import Console

from pippin.bench.record import BenchRecord
from pippin.bench.scaling.scaling_record import ScalingRecord
from pippin.cli.main import main
from pippin.data.cache.manifest import MANIFEST, Manifest, check_shards, load_manifest, shard_fault
from pippin.data.importing.config import ImportConfig
from pippin.encoders.autoencoder import Autoencoder
from pippin.evaluation.images import open_images
from pippin.evaluation.reference import load_statistics
from pippin.reports.report_data import open_source
from pippin.runs.components import Components
from pippin.runs.folder import RunFolder
from pippin.runs.trained import load_trained_weights
from pippin.system.formats import FORMATS, VERSION, FormatError
from pippin.training.autoencoder.state import read_state


@pytest.fixture(params=VERSIONS)
def kept(request, tmp_path, monkeypatch):
    """Copy of the samples of one version as the current folder, since their paths are relative."""
    shutil.copytree(SAMPLES / request.param, tmp_path / "kept")
    monkeypatch.chdir(tmp_path / "kept")
    return tmp_path / "kept"


@pytest.fixture
def newest(tmp_path, monkeypatch):
    shutil.copytree(SAMPLES / VERSIONS[-1], tmp_path / "newest")
    monkeypatch.chdir(tmp_path / "newest")


def test_runs_and_exports_are_read(kept):
    run, exported = load_trained_weights("run"), load_trained_weights("export")
    assert run.images_seen == exported.images_seen == 8
    assert run.sha256 == exported.sha256
    assert run.recipe == exported.recipe
    assert load_trained_weights("run", "raw").sha256


def test_a_sharded_checkpoint_is_read_and_refused_by_an_older_reader(newest, monkeypatch):
    state = json.loads(Path("sharded/checkpoints/8/state.json").read_text())
    assert state[VERSION] == FORMATS["checkpoint"] == 2
    assert load_trained_weights("sharded").images_seen == 8
    assert load_trained_weights("sharded", "raw").tensors
    monkeypatch.setitem(FORMATS, "checkpoint", 1)
    with pytest.raises(
        FormatError, match=r"state\.json .* checkpoint format 2, this one reads up"
    ):
        load_trained_weights("sharded")


def test_a_run_resumes_with_its_latents(kept):
    recipe = RunFolder(Path("run")).recipe()
    before = sorted(path.name for path in Path("caches").glob("[!i]*"))
    assert len(Components(recipe, Console(quiet=True)).moments) > 0
    assert sorted(path.name for path in Path("caches").glob("[!i]*")) == before
    again = ["--config", "run/config.json", "--folder", "run", "--resume", "True"]
    assert main(["train", *again]) == 0


def test_caches_are_whole(kept):
    folder = Path(CACHE)
    manifest = load_manifest(folder, Manifest.load(folder / MANIFEST).ingredients)
    check_shards(folder, manifest, "sha256")
    rows = {"first_row": 0, "end_row": manifest.shards[0].end_row}
    assert shard_fault(folder / SHARD, {"key": folder.name, **rows}) is None
    assert bank().fetch(torch.tensor([1])).tokens.tolist() == [[[1, 1], [1, 1]]]


def test_samples_and_measures_are_read(kept):
    samples = open_images(Path("run/samples"))
    assert sum(len(batch) for batch in samples.batches(1)) == 2
    source = open_source(Path("run"))
    assert source.problems == () and len(source.results.rows) > 3


def test_studies_are_read(kept):
    source = open_source(Path("study"))
    assert source.problems == ()
    assert len(source.results.outcomes) == len(source.results.rows) == 4


def test_imports_are_read(kept):
    assert len(part_of("imported").rows) == 2
    assert ImportConfig.load(Path("imported/.parts/import.json")).source.endswith("shards")


def test_autoencoders_are_read(kept):
    assert Autoencoder.from_folder(Path("autoencoder")).factor == 2
    assert read_state(Path("autoencoder/run")).position["step_count"] == 2


def test_statistics_and_records_are_read(kept):
    assert load_statistics(Path("reference.npz")).count == 8
    assert BenchRecord.load(Path("bench.json")).step_flops == 1


def test_scaling_curves_are_read(newest):
    record = ScalingRecord.load(Path("scaling.json"))
    assert record.curves[0].series[0].points[0].of_ideal == 1


def test_the_page_of_decisions_lists_every_kind():
    page = (SAMPLES.parents[1] / "docs/project/decisions.md").read_text(encoding="utf-8")
    table = page.partition("## Compatibility")[2].partition("\n## ")[0]
    assert [kind for kind in FORMATS if f"`{kind}`" not in table] == []
