# SPDX-License-Identifier: Apache-2.0
"""Files of every format version are read, or refused by name: ``formats/N`` holds samples.

``scripts/format_samples.py`` writes them.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file

from pippin.bench.record import BenchRecord
from pippin.bench.scaling.scaling_record import ScalingRecord
from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.data.cache.caption_cache import build_bank
from pippin.data.cache.manifest import MANIFEST, Manifest, check_shards, load_manifest, shard_fault
from pippin.data.folder.image_table import TABLE, ImageTable, save_table
from pippin.data.folder.listing import FROM_SHARDS
from pippin.data.folder.scan import Index, _load_index, _save_index
from pippin.data.importing.config import ImportConfig, ShardsConfig
from pippin.data.importing.import_sources import FileShard
from pippin.data.importing.importer import COLUMNS, _locked_folder
from pippin.data.importing.parts import read_part
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
from pippin.system.formats import (
    CHECKSUM,
    FORMATS,
    VERSION,
    FormatError,
    check_format,
    read_versioned_json,
    with_checksum,
    write_versioned_json,
)
from pippin.system.tensors import save_tensors
from pippin.training.autoencoder.state import read_state

SAMPLES = Path(__file__).parent / "formats"
VERSIONS = sorted(path.name for path in SAMPLES.iterdir())
CACHE, BANK = "caches/01d000b9f8eb5c0d", "caches/text-10839980f0ca66b0"
SHARD = "shard-00000.safetensors"


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


def part_of(folder):
    note = json.loads(Path(folder, ".parts/00000.json").read_text())
    return read_part(FileShard(index=0, place="0.tar", identity=note["of"]), Path(folder))


def bank():
    def encoder():
        raise AssertionError("the kept features are used")

    ones = {"folder": Path("caches"), "fingerprint": "0123456789abcdef", "num_tokens": 2}
    return build_bank(["a cat", "a dog"], encoder, dtype=torch.float16, **ones)


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


def restate_json(path):
    values = json.loads(Path(path).read_text())
    values.pop(CHECKSUM, None)
    Path(path).write_text(json.dumps(with_checksum("run", values) | {VERSION: 99}))


def restate_lines(path):
    lines = [json.loads(line) | {VERSION: 99} for line in Path(path).read_text().splitlines()]
    Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines))


def restate_metadata(path, key):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    values = json.dumps(json.loads(metadata[key]) | {VERSION: 99})
    save_tensors(Path(path), load_file(path), metadata=metadata | {key: values})


def restate_arrays(path):
    with np.load(path) as arrays:
        np.savez(path, **dict(arrays) | {VERSION: np.asarray(99)})


def write_newer(path):
    Path(path).write_text(json.dumps({VERSION: 99, "data": {}}))


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


def test_a_newer_file_is_not_replaced_and_a_damaged_one_is(tmp_path):
    path = tmp_path / "values.json"
    path.write_text(json.dumps({VERSION: 99}))
    with pytest.raises(FormatError, match=r"values\.json .* samples format 99"):
        write_versioned_json(path, "samples", {"count": 1})
    assert json.loads(path.read_text()) == {VERSION: 99}
    for damaged in ("{", "[1]", json.dumps({VERSION: "one"})):
        path.write_text(damaged)
        write_versioned_json(path, "samples", {"count": 1})
        assert read_versioned_json(path, "samples") == {"count": 1}


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


def test_a_table_of_images_is_read_as_it_was_before_it_had_a_version(tmp_path):
    save_one_image(tmp_path)
    assert len(ImageTable.load(tmp_path)) == 1
    restate_metadata(tmp_path / TABLE, "texts")
    with pytest.raises(FormatError, match=r"images\.safetensors .* image table format 99"):
        ImageTable.load(tmp_path)
    with safe_open(tmp_path / TABLE, framework="pt") as file:
        texts = json.loads(file.metadata()["texts"])
    texts.pop(VERSION)
    save_tensors(
        tmp_path / TABLE, load_file(tmp_path / TABLE), metadata={"texts": json.dumps(texts)}
    )
    assert len(ImageTable.load(tmp_path)) == 1


def test_a_table_of_images_follows_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        save_one_image(tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / TABLE).stat().st_mode & 0o777 == 0o644


def save_one_image(folder):
    (folder / TABLE).parent.mkdir()
    (folder / "metadata.jsonl").write_text("{}\n")
    names = ("shard", "row", "suffix", "sha256", "height", "width", "rules", "label", "line")
    columns = {name: np.zeros(1, np.int64) for name in (*names, "has_file")}
    save_table(folder, columns, {"suffixes": [".png"], "rules": [[]], "labels": ["a"]})


def test_an_unknown_setting_of_a_run_may_be_of_a_newer_version(newest):
    values = json.loads(Path("run/config.json").read_text())
    values.pop(CHECKSUM, None)
    values["train"]["lookahead"] = 3
    Path("run/config.json").write_text(json.dumps(values))
    said = r"extra fields found \(lookahead\)(.|\n)*if a newer pippin wrote this file, upgrade"
    with pytest.raises(ConfigError, match=said):
        RunFolder(Path("run")).recipe()


def test_every_kind_is_refused_but_the_index_which_is_rebuilt():
    separate = {"image index", "image table", "average snapshot"}
    assert set(NEWER) == set(FORMATS) - separate


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


def test_the_page_of_decisions_lists_every_kind():
    page = (SAMPLES.parents[1] / "docs/project/decisions.md").read_text(encoding="utf-8")
    table = page.partition("## Compatibility")[2].partition("\n## ")[0]
    assert [kind for kind in FORMATS if f"`{kind}`" not in table] == []


@pytest.mark.parametrize("version", [-1, 1.0, "one", True, [1]])
def test_what_is_no_version_is_damage(version):
    with pytest.raises(ValueError, match="not a version"):
        check_format("run", version, "file")


@pytest.mark.parametrize("stated", [None, 0, 1, "1"])
def test_older_versions_are_read(stated):
    assert check_format("run", stated, "file") == int(stated or 0)


def test_a_changed_value_is_found_and_an_edited_file_is_read(tmp_path):
    path = tmp_path / "values.json"
    write_versioned_json(path, "run", {"count": 60, 1: [0.1, None]})
    assert read_versioned_json(path, "run") == {"count": 60, "1": [0.1, None]}
    path.write_text(json.dumps(json.loads(path.read_text())))  # other spaces are no damage
    assert read_versioned_json(path, "run")["count"] == 60
    path.write_text(path.read_text().replace("60", "50"))
    with pytest.raises(ValueError, match=r"values\.json is damaged.*remove its entry content"):
        read_versioned_json(path, "run")
    edited = {k: v for k, v in json.loads(path.read_text()).items() if k != CHECKSUM}
    path.write_text(json.dumps(edited))
    assert read_versioned_json(path, "run")["count"] == 50


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"a"', "[" * 100_000, "\udc80"])
def test_what_is_no_json_object_is_named(text, tmp_path):
    path = tmp_path / "values.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"values\.json (is not JSON|must hold a JSON object)"):
        read_versioned_json(path, "run")


def test_a_fifo_in_the_place_of_a_record_is_named(tmp_path):
    os.mkfifo(tmp_path / "values.json")
    with pytest.raises(OSError, match=r"values\.json is a FIFO, not a file"):
        read_versioned_json(tmp_path / "values.json", "run")
