# SPDX-License-Identifier: Apache-2.0
"""Kinds of files that ``scripts/fuzz.py`` damages: their creation and readers.

Every kind is read by the functions that the verbs call. The result is converted to text, so that a
change in the content is detected.
"""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SETTINGS = [
    *("--data.resolution", "32", "--data.views", "1", "--denoiser.depth", "1"),
    *("--denoiser.width", "32", "--denoiser.num-heads", "2", "--denoiser.patch-size", "4"),
    *("--train.device", "cpu", "--train.batch-size", "8", "--train.images", "16"),
    *("--train.checkpoint-every", "8", "--train.preview-every", "0"),
    *("--train.validate-every", "0", "--sampling.steps", "1"),
    *("--evaluation.parts", "held-out", "--evaluation.loss-log-snrs", "0"),
]
USERS_OWN = "written by users: every legal value is as good as another"
A_LOG = "a log for people and figures: resuming takes nothing from it"
NO_CHECKSUM = "image formats have no checksum of their pixels; a run compares its source's hash"


CUT = "a log that ends earlier is one of an earlier moment"
A_WHOLE_RUN = "cut after a whole run, or its file's format entry: what is left is what was written"


FOR_PEOPLE = "without a checksum, as {}, it passes as an earlier version's; only people read it"


class SkippedError(Exception):
    """The reader skipped a damaged part; the message is the reader's."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of file."""

    name: str
    path: str
    """Glob pattern below the artefact folder."""
    read: Callable[[Path], str]
    """Returns the content as text; raises the user's error, or :class:`SkippedError`."""
    explained: str | None = None
    """Reason why a change may be accepted silently; None = it must not be."""


def pippin(*arguments: str) -> None:
    """Run one pippin command."""
    command = [sys.executable, "-m", "pippin.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")


def make_artefacts(folder: Path) -> None:
    """Create one small file or folder of every kind."""
    from pippin.encoders.config import AutoencoderConfig
    from pippin.encoders.source import find_autoencoder

    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    images = folder / "images"
    for number in range(24):
        place = images / f"class-{number % 2}" / f"{number:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 255, (40, 40, 3), np.uint8)).save(place)
    rows = [
        {
            "file_name": path.relative_to(images).as_posix(),
            "label": path.parent.name,
            "text": "noise",
        }
        for path in sorted(images.glob("*/*.png"))
    ]
    for name in ("csv", "jsonl"):
        (folder / f"{name}/images").mkdir(parents=True)
        for path in sorted(images.glob("*/*.png"))[:4]:
            (folder / f"{name}/images/{path.name}").write_bytes(path.read_bytes())
    own = [row | {"file_name": f"images/{Path(row['file_name']).name}"} for row in rows[:4]]
    (folder / "jsonl/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    lines = [",".join(own[0]), *(",".join(row.values()) for row in own)]
    (folder / "csv/metadata.csv").write_text("\n".join(lines) + "\n")
    for suffix in ("png", "jpg", "webp", "gif", "bmp", "tiff"):
        with Image.open(images / "class-0/00.png") as image:
            image.save(folder / f"image.{suffix}")
    run = str(folder / "run")
    places = ["--folder", run, "--cache.folder", str(folder / "caches")]
    pippin("train", "folder/mmdit-disentangled", "--data.path", str(images), *SETTINGS, *places)
    pippin("export", run, str(folder / "export"))
    pippin("sample", run, "--seeds", "0:2", "--steps", "1", "--out", str(folder / "samples"))
    pippin("reference", str(images / "class-0"), "--out", str(folder / "reference.npz"))
    np.savez(folder / "images.npz", arr_0=draws.integers(0, 255, (3, 8, 8, 3), np.uint8))
    pippin("evaluate", run)
    shipped = shutil.copytree(
        find_autoencoder(AutoencoderConfig()), folder / "shipped/openmoji-f4"
    )
    shutil.copy(find_autoencoder(AutoencoderConfig()).parent / "sha256.json", shipped.parent)
    run = str(folder / "transferred")
    places = ["--folder", run, "--cache.folder", str(folder / "caches")]
    start = ["--init.run", str(folder / "export"), "--train.images", "8"]
    pippin(
        *("train", "folder/mmdit-disentangled", "--data.path", str(images)),
        *(*SETTINGS, *places, *start),
    )
    _make_study(folder / "study")


def _make_study(folder: Path) -> None:
    """Create a declared study of two arms with one result each, without training."""
    from dataclasses import replace

    from pippin.config import fingerprint
    from pippin.recipes.table import get_recipe
    from pippin.studies.results import Row, append
    from pippin.studies.study import Axis, Study
    from pippin.studies.study_folder import declare

    folder.mkdir()
    axis = Axis(
        levels={"slow": {"train.learning_rate": 1e-4}, "fast": {"train.learning_rate": 1e-3}}
    )
    study = Study(
        name="rates",
        title="Learning rates",
        question="Which one?",
        base=get_recipe("openmoji/mmdit-disentangled"),
        axes={"rate": axis},
        seeds=(0,),
        primary="loss",
    )
    declare(study, folder)
    row = Row(
        study="rates",
        arm="slow",
        seed=0,
        metric="loss",
        value=0.5,
        low=0.25,
        high=0.75,
        interval_over="samples",
        n=4,
        unit="",
        better="lower",
        protocol={"train.learning_rate": 1e-4, "measure.seed": 0},
        fingerprint=fingerprint({"train.learning_rate": 1e-4, "measure.seed": 0}),
        comparable=fingerprint({"measure.seed": 0}),
    )
    append(folder / "results.jsonl", [row, replace(row, arm="fast", value=0.25)])


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Digest of names, shapes and values of tensors."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _run_of(path: Path) -> Path:
    return next(one for one in path.parents if (one / "config.json").is_file())


def read_trained(path: Path) -> str:
    """Weights as sampling loads them; older checkpoints replace damaged ones."""
    from pippin.runs.trained import load_trained_weights

    trained = load_trained_weights(str(_run_of(path)))
    if trained.skipped_checkpoints:
        raise SkippedError("; ".join(trained.skipped_checkpoints))
    return f"{digest(trained.tensors)} {trained.images_seen} {trained.lineage} {trained.recipe}"


def read_cache(path: Path) -> str:
    """All rows of a latent cache."""
    from pippin.data.cache.latent_cache import LatentCache
    from pippin.data.sources.factory import build_source
    from pippin.encoders.autoencoder import Autoencoder
    from pippin.runs.folder import RunFolder

    folder = path.parents[2]
    recipe = RunFolder(folder / "run").recipe()
    from dataclasses import replace

    data = replace(recipe.data, path=str(folder / "images"))
    settings = replace(recipe.cache, folder=str(folder / "caches"))
    source = build_source(data, "train")
    cache = LatentCache.open(source, Autoencoder.load(recipe.autoencoder), settings)
    rows = torch.arange(len(cache))
    batch = cache.fetch(rows, torch.zeros_like(rows))
    tensors = {"mean": batch.moments.mean, "std": batch.moments.std, "label": batch.label}
    return digest(tensors | dict(batch.control))


def read_results(path: Path) -> str:
    """All results of a study."""
    from pippin.studies.results import read

    found = read(path)
    if found.problems:
        raise SkippedError("; ".join(found.problems))
    return repr(found)


def read_measures(path: Path) -> str:
    """Measures of a run, as in its report."""
    from pippin.reports.report_data import open_source

    found = open_source(path.parent)
    if found.problems:
        raise SkippedError("; ".join(found.problems))
    return repr(found.results)


def read_curves(path: Path) -> str:
    """A run's log, as read for figures."""
    from pippin.reports.report_data import read_log as read_lines_of_log

    lines, problems = read_lines_of_log(path)
    if problems:
        raise SkippedError("; ".join(problems))
    return repr(lines)


def read_shipped(path: Path) -> str:
    """The configuration of the shipped autoencoder."""
    from pippin.encoders.shipped_digest import check_shipped
    from pippin.encoders.source import read_config as read_autoencoder_config

    check_shipped(path.parent)
    return json.dumps(read_autoencoder_config(path.parent), sort_keys=True)


def read_transfer(path: Path) -> str:
    """Transfer report of a run."""
    from pippin.recipes.recipe import Recipe
    from pippin.system.formats import read_versioned_json

    return repr(read_versioned_json(path, Recipe.FORMAT))


def read_declaration(path: Path) -> str:
    """Declaration of a study."""
    from pippin.studies.declaration import Declaration

    return repr(Declaration.load(path))


def read_config(path: Path) -> str:
    """The recipe of a run."""
    from pippin.runs.folder import RunFolder

    return repr(RunFolder(path.parent).recipe())


def read_metadata(path: Path) -> str:
    """Entries and skipped files of a folder with a metadata file."""
    from pippin.data.config import ImagesConfig
    from pippin.data.folder.listing import list_images

    listing = list_images(ImagesConfig(path=str(path.parent)))
    return repr(listing).replace(str(path.parent), "")


def read_pixels(path: Path) -> str:
    """The pixels of an image."""
    from pippin.images.files import read_image

    return digest({"image": read_image(path)})


def read_statistics(path: Path) -> str:
    """Reference statistics."""
    from pippin.evaluation.reference import load_statistics

    found = load_statistics(path)
    numbers = digest({"mean": found.pooled.mean, "covariance": found.pooled.covariance})
    return f"{numbers} {found.extractor} {found.fingerprint} {found.count} {found.image_hash}"


def read_npz_images(path: Path) -> str:
    """Images of an npz file."""
    from pippin.evaluation.npz import npz_images

    return digest({str(k): images for k, images in enumerate(npz_images(path, 2))})


def read_log(path: Path) -> str:
    """A run's log, as read when resuming: only damaged lines are removed."""
    from pippin.training.log import RunLog

    log = RunLog(path.parent, 10**6)
    log.close()
    return path.read_text()


def read_sample_manifest(path: Path) -> str:
    """The manifest of a folder of samples."""
    from pippin.sampling.sample_folder import read_manifest

    return repr(read_manifest(path.parent))


def _quietly(kinds: Iterable[Kind]) -> tuple[Kind, ...]:
    """Kinds with readers that print nothing."""
    from dataclasses import replace

    def quiet(read: Callable[[Path], str]) -> Callable[[Path], str]:
        def reader(path: Path) -> str:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                return read(path)

        return reader

    return tuple(replace(kind, read=quiet(kind.read)) for kind in kinds)


CHECKPOINT = "run/checkpoints/16"
KINDS = _quietly(
    [
        Kind(name="checkpoint weights", path=f"{CHECKPOINT}/ema.safetensors", read=read_trained),
        Kind(
            name="optimizer state", path=f"{CHECKPOINT}/optimizer.safetensors", read=read_trained
        ),
        Kind(name="state.json", path=f"{CHECKPOINT}/state.json", read=read_trained),
        Kind(name="export weights", path="export/model.safetensors", read=read_trained),
        Kind(
            name="export config.json",
            path="export/config.json",
            read=read_config,
            explained=USERS_OWN,
        ),
        Kind(
            name="config.json of a run",
            path="run/config.json",
            read=read_config,
            explained=USERS_OWN,
        ),
        Kind(name="log.jsonl", path="run/log.jsonl", read=read_log, explained=A_LOG),
        Kind(name="log.jsonl in figures", path="run/log.jsonl", read=read_curves, explained=CUT),
        Kind(name="results.jsonl of a run", path="run/results.jsonl", read=read_measures),
        Kind(
            name="transfer.json",
            path="transferred/transfer.json",
            read=read_transfer,
            explained=FOR_PEOPLE,
        ),
        Kind(
            name="autoencoder config.json",
            path="shipped/openmoji-f4/config.json",
            read=read_shipped,
        ),
        Kind(name="cache shard", path="caches/*/shard-00000.safetensors", read=read_cache),
        Kind(name="cache manifest", path="caches/*/manifest.json", read=read_cache),
        Kind(name="sample manifest", path="samples/manifest.json", read=read_sample_manifest),
        Kind(
            name="results.jsonl",
            path="study/results.jsonl",
            read=read_results,
            explained=A_WHOLE_RUN,
        ),
        Kind(name="study.json", path="study/study.json", read=read_declaration),
        Kind(
            name="metadata.csv", path="csv/metadata.csv", read=read_metadata, explained=USERS_OWN
        ),
        Kind(
            name="metadata.jsonl",
            path="jsonl/metadata.jsonl",
            read=read_metadata,
            explained=USERS_OWN,
        ),
        Kind(name="reference.npz", path="reference.npz", read=read_statistics),
        Kind(name="images.npz", path="images.npz", read=read_npz_images),
        *(
            Kind(
                name=f"image.{suffix}",
                path=f"image.{suffix}",
                read=read_pixels,
                explained=NO_CHECKSUM,
            )
            for suffix in ("png", "jpg", "webp", "gif", "bmp", "tiff")
        ),
    ]
)
