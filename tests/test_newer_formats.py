# SPDX-License-Identifier: Apache-2.0
"""Files of a newer format version are refused by name, and nothing is written over them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from kept_formats import (
    BANK,
    CACHE,
    SAMPLES,
    SHARD,
    VERSIONS,
    bank,
    part_of,
    restate_arrays,
    restate_json,
    restate_lines,
    restate_metadata,
    write_newer,
)
from rich.console import Console

from pippin.bench.record import BenchRecord
from pippin.bench.scaling.scaling_record import ScalingRecord
from pippin.config import ConfigError
from pippin.data.cache.manifest import MANIFEST
from pippin.data.folder.listing import FROM_SHARDS
from pippin.data.folder.scan import Index, _load_index, _save_index
from pippin.data.importing.config import ImportConfig, ShardsConfig
from pippin.data.importing.importer import COLUMNS, _locked_folder
from pippin.data.streaming.shard_source import _check_record
from pippin.encoders.autoencoder import Autoencoder
from pippin.evaluation.images import open_images
from pippin.evaluation.reference import load_statistics
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.evaluation.runs.recording import write_results
from pippin.reports.report_data import open_source
from pippin.runs.components import Components
from pippin.runs.folder import RunFolder
from pippin.runs.inputs import read_inputs
from pippin.runs.plan_met import PlanMet
from pippin.runs.storage.average_snapshots import load_snapshot, save_snapshot
from pippin.runs.trained import load_trained_weights
from pippin.sampling.load import load_run
from pippin.sampling.sample_folder import make_room, remove_samples
from pippin.studies.results import read
from pippin.system.formats import CHECKSUM, FORMATS, VERSION, FormatError
from pippin.training.autoencoder.state import read_state


@pytest.fixture
def newest(tmp_path, monkeypatch):
    shutil.copytree(SAMPLES / VERSIONS[-1], tmp_path / "newest")
    monkeypatch.chdir(tmp_path / "newest")


NEWER = {
    "run": (restate_json, "run/config.json", lambda: load_trained_weights("run")),
    "inputs": (write_newer, "run/inputs.json", lambda: read_inputs(Path("run"))),
    "checkpoint": (
        restate_json,
        "run/checkpoints/8/state.json",
        lambda: load_trained_weights("run"),
    ),
    "export": (
        lambda path: restate_metadata(path, "pippin"),
        "export/model.safetensors",
        lambda: load_trained_weights("export"),
    ),
    "samples": (
        restate_json,
        "run/samples/manifest.json",
        lambda: open_images(Path("run/samples")),
    ),
    "latent cache": (
        restate_json,
        f"{CACHE}/{MANIFEST}",
        lambda: Components(RunFolder(Path("run")).recipe(), Console(quiet=True)).moments,
    ),
    "cache shard": (lambda path: restate_metadata(path, "pippin"), f"{BANK}/{SHARD}", bank),
    "import": (restate_json, "imported/.parts/00000.json", lambda: part_of("imported")),
    "study": (restate_json, "study/study.json", lambda: open_source(Path("study"))),
    "results": (
        restate_lines,
        "study/results.jsonl",
        lambda: read(Path("study/results.jsonl")),
    ),
    "autoencoder": (
        lambda path: restate_metadata(path, "pippin.record"),
        "autoencoder/diffusion_pytorch_model.safetensors",
        lambda: Autoencoder.from_folder(Path("autoencoder")),
    ),
    "autoencoder training": (
        lambda path: restate_metadata(path, "pippin.record"),
        "autoencoder/run/state.safetensors",
        lambda: read_state(Path("autoencoder/run")),
    ),
    "reference statistics": (
        restate_arrays,
        "reference.npz",
        lambda: load_statistics(Path("reference.npz")),
    ),
    "bench record": (restate_json, "bench.json", lambda: BenchRecord.load(Path("bench.json"))),
    "scaling record": (
        restate_json,
        "scaling.json",
        lambda: ScalingRecord.load(Path("scaling.json")),
    ),
    "plan met": (restate_json, "run/plan.json", lambda: PlanMet.load(Path("run/plan.json"))),
}


def test_every_kind_is_refused_but_the_index_which_is_rebuilt():
    separate = {"image index", "image table", "average snapshot"}
    assert set(NEWER) == set(FORMATS) - separate


@pytest.mark.parametrize("kind", NEWER)
def test_a_newer_version_is_refused_by_name_and_nothing_is_written_over(kind, newest):
    restate, path, read_it = NEWER[kind]
    restate(path)
    before = Path(path).read_bytes()
    newest_read = FORMATS[kind]
    said = (
        rf"{Path(path).name}.* newer pippin: {kind} format 99, this one reads up to "
        rf"{newest_read}; upgrade"
    )
    with pytest.raises(FormatError, match=said):
        read_it()
    assert Path(path).read_bytes() == before


def test_measures_of_a_run_of_a_newer_version_are_refused(newest):
    restate_lines("run/results.jsonl")
    with pytest.raises(FormatError, match="newer pippin: results format 99"):
        open_source(Path("run"))


@pytest.mark.parametrize("name", ["results.jsonl", "evaluation/stages.jsonl"])
def test_an_evaluation_of_a_newer_version_is_refused_and_stays(name, newest):
    path = Path("run", name)
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile("study/results.jsonl", path)
    restate_lines(path)
    before = path.read_bytes()
    with pytest.raises(FormatError, match=rf"{path.name} .* results format 99"):
        evaluate_run(load_run("run", console=Console(quiet=True)), Path("run"))
    assert path.read_bytes() == before


def test_measures_are_not_added_to_results_of_a_newer_version(newest):
    restate_lines("run/results.jsonl")
    before = Path("run/results.jsonl").read_bytes()
    with pytest.raises(FormatError, match="newer pippin: results format 99"):
        write_results([{"name": "drift", "value": 1.0}], Path("run/results.jsonl"))
    assert Path("run/results.jsonl").read_bytes() == before


def test_samples_of_a_newer_version_are_not_removed(newest):
    restate_json("run/samples/manifest.json")
    before = sorted(Path("run/samples").iterdir())
    for remove in (
        lambda: make_room(Path("run/samples"), {}),
        lambda: remove_samples(before[0].parent),
    ):
        with pytest.raises(FormatError, match="samples format 99"):
            remove()
    assert sorted(Path("run/samples").iterdir()) == before


def test_a_newer_import_without_a_finished_shard_is_refused_and_stays(tmp_path):
    parts = tmp_path / ".parts"
    parts.mkdir()
    for name in ("import.json", COLUMNS):
        write_newer(parts / name)
    with (
        pytest.raises(FormatError, match=r"import\.json .* import format 99"),
        _locked_folder(tmp_path, ImportConfig(source="shards")),
    ):
        raise AssertionError("the folder is refused")
    assert json.loads((parts / COLUMNS).read_text())[VERSION] == 99


def test_shards_of_a_newer_version_are_refused_and_stay(tmp_path):
    (tmp_path / ".parts").mkdir()
    for path in (tmp_path / FROM_SHARDS, tmp_path / ".parts" / COLUMNS):
        write_newer(path)
    with pytest.raises(FormatError, match=rf"{FROM_SHARDS} .* import format 99"):
        _check_record(ShardsConfig(source="shards"), tmp_path, may_change=True)
    assert json.loads((tmp_path / ".parts" / COLUMNS).read_text())[VERSION] == 99


def test_an_unknown_setting_of_a_run_may_be_of_a_newer_version(newest):
    values = json.loads(Path("run/config.json").read_text())
    values.pop(CHECKSUM, None)
    values["train"]["lookahead"] = 3
    Path("run/config.json").write_text(json.dumps(values))
    said = r"extra fields found \(lookahead\)(.|\n)*if a newer pippin wrote this file, upgrade"
    with pytest.raises(ConfigError, match=said):
        RunFolder(Path("run")).recipe()


def test_a_snapshot_of_a_newer_version_is_refused(tmp_path):
    path = save_snapshot(tmp_path, 8, {"ema-power-0.1": {"weight": torch.ones(1)}})
    restate_metadata(path, "pippin")
    with pytest.raises(FormatError, match=r"8\.safetensors .* average snapshot format 99"):
        load_snapshot(path)


def test_an_image_index_of_a_newer_version_is_scanned_again(tmp_path):
    path = tmp_path / "index.json"
    _save_index(path, Index(files={}))
    assert json.loads(path.read_text())[VERSION] == FORMATS["image index"]
    path.write_text(json.dumps({VERSION: 99, "files": {}}))
    with pytest.raises(FormatError, match="newer pippin: image index format 99"):
        Index.load(path)
    assert _load_index(path) == {}
