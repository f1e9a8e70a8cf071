# SPDX-License-Identifier: Apache-2.0
"""A folder of sampled images: one protocol, any seeds and classes, and a manifest of them all.

Images are written as they are sampled, and each file is complete or absent. An interruption
therefore costs the current batch only, and the same request resumes.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from pippin.config import IDENTITY, fingerprint
from pippin.images.files import image_grid, save_png
from pippin.images.folder import read_image
from pippin.system.files import list_names, make_folder, remove_temporary_files, sync_tree
from pippin.system.formats import FormatError, read_versioned_json, write_versioned_json
from pippin.system.lock import LOCK
from pippin.system.text import valid_unicode
from pippin.types import Prompt, TruncatedCaption

KIND = "samples"
"""Key of :data:`pippin.system.formats.FORMATS`."""
MANIFEST = "manifest.json"
GRID = "grid.png"
_NAME = re.compile(r"seed-\d{6,}-(class-\d+|text-[0-9a-f]{8,64})\.png")
"""Pattern of :meth:`SampleRow.names`."""
_DIGITS = (8, 16, 32, 64)
"""Digits of a prompt's hash in a file name: the first number that tells it from other prompts."""
SHOWN = 36
"""Number of images in the grid of an evaluation."""


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """One image as the manifest lists it."""

    seed: int
    prompt: Prompt
    class_name: str | None
    """None for text."""

    @property
    def shown_prompt(self) -> Prompt:
        """Prompt as it is written: text without lone surrogates."""
        return valid_unicode(self.prompt) if isinstance(self.prompt, str) else self.prompt

    @property
    def names(self) -> tuple[str, ...]:
        """Possible file names, the usual one first; a prompt, which may contain anything, enters
        as a hash. See :meth:`SampleFolder.name`."""
        prompt = self.shown_prompt
        if not isinstance(prompt, str):
            return (f"seed-{self.seed:06d}-class-{prompt}.png",)
        digest = hashlib.sha256(prompt.encode()).hexdigest()
        return tuple(f"seed-{self.seed:06d}-text-{digest[:digits]}.png" for digits in _DIGITS)

    def to_dict(self, file: str | None = None) -> dict[str, Any]:
        """Plain JSON values.

        Args:
            file: file name; None = the usual one.
        """
        shown: dict[str, Any] = {"label": self.prompt, "class": self.class_name}
        if isinstance(self.prompt, str):
            shown = {"prompt": self.shown_prompt}
        return {"file": file or self.names[0], "seed": self.seed, **shown}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Protocol of the images of a folder, and their files."""

    protocol: dict[str, Any]
    fingerprint: str
    images: list[dict[str, Any]]
    complete: bool = True
    """False: sampling was interrupted, and some of the files are missing."""
    cut_prompts: list[dict[str, Any]] = field(default_factory=list)
    """Truncated prompts, the negative one among them."""

    @property
    def files(self) -> list[str]:
        """Names of all images, in order."""
        return [row["file"] for row in self.images]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder that ``pippin sample`` wrote; None where there is none.

    Raises:
        ValueError: it is damaged.
        FormatError: it is of a newer version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = Manifest(**read_versioned_json(path, KIND))
        if fingerprint(manifest.protocol) != manifest.fingerprint:
            raise ValueError("its fingerprint is not that of its protocol")
        names = [Path(name).name for name in manifest.files]
    except FormatError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged or not one of `pippin sample` ({error}): move it away together "
            "with its images, or use another folder"
        ) from error
    if names != manifest.files:
        raise ValueError(f"{path} names files outside its folder")
    return manifest


def make_room(path: Path, protocol: Mapping[str, Any]) -> None:
    """Remove images of another protocol from a folder, or those beside a damaged manifest.

    Other files stay.

    Raises:
        ValueError: there are files and no manifest, so they may belong to the user.
        FormatError: the manifest is of a newer version.
    """
    if not (path / MANIFEST).is_file():
        _refuse_unknown_files(path)
        return
    try:
        SampleFolder(path, protocol)
    except FormatError:
        raise
    except ValueError:
        names = _listed_images(path)
        # The manifest first, so that it never lists missing images.
        _write_manifest(path, protocol, [], [], complete=True)
        for name in (*names, GRID):
            (path / name).unlink(missing_ok=True)


def remove_samples(path: Path) -> None:
    """Remove all images of a folder and their manifest, and the folder where it is then empty.

    Raises:
        FormatError: the manifest is of a newer version.
    """
    if not (path / MANIFEST).is_file():
        return
    for name in (*_listed_images(path), GRID, MANIFEST, LOCK):
        (path / name).unlink(missing_ok=True)
    remove_temporary_files(path)
    with suppress(OSError):  # the folder has other files
        path.rmdir()


class SampleFolder:
    """Images of one protocol on disk.

    Args:
        path: new, empty, or a folder of images of the same protocol, which stay.
        protocol: all that the images depend on, besides seed and class.

    Raises:
        ValueError: the folder holds images of another protocol (the message names the difference),
            or unknown files.
    """

    def __init__(self, path: Path, protocol: Mapping[str, Any]) -> None:
        self.path, self.protocol = path, dict(protocol)
        manifest = read_manifest(path)
        if manifest is None:
            _refuse_unknown_files(path)
        else:
            _check_protocol(path, manifest.protocol, self.protocol)
        self._images = {} if manifest is None else {row["file"]: row for row in manifest.images}
        self._complete = manifest is not None and manifest.complete
        self._cut = [] if manifest is None else list(manifest.cut_prompts)

    def begin(self, rows: Sequence[SampleRow], cut: Sequence[TruncatedCaption] = ()) -> None:
        """Record the rows in the manifest before the first image.

        Args:
            rows: rows of the request.
            cut: its truncated prompts.

        Raises:
            ValueError: images of an earlier, complete request are missing.
        """
        make_folder(self.path)
        requested = {self.name(row) for row in rows}
        if self._complete:
            missing = sorted(self._images.keys() - requested - list_names(self.path))
            if missing:
                raise ValueError(
                    f"{self.path} has lost {len(missing)} images that its {MANIFEST} lists "
                    f"({missing[0]}): restore them, sample them again with the command that "
                    "made them, or give another folder with --out"
                )
        remove_temporary_files(self.path)
        for row in rows:
            name = self.name(row)
            self._images[name] = row.to_dict(name)
        self._cut += [cut for cut in (x.to_dict() for x in cut) if cut not in self._cut]
        self._record(complete=False)

    def name(self, row: SampleRow) -> str:
        """File name of an image here: the listed one, or the first that no other prompt has."""
        others = [
            name
            for name in row.names
            if self._images.get(name, {}).get("prompt", row.shown_prompt) != row.shown_prompt
        ]
        own = [name for name in row.names if name not in others]
        return next((name for name in own if name in self._images), own[0])

    def file(self, row: SampleRow) -> Path:
        """File of an image."""
        return self.path / self.name(row)

    def holds(self, row: SampleRow, pixels: tuple[int, int]) -> bool:
        """Whether a complete image of this (height, width) exists."""
        try:
            return read_image(self.file(row)).shape == (3, *pixels)
        except ValueError:
            return False

    def add(self, row: SampleRow, image: torch.Tensor) -> None:
        """Write one uint8 (3, height, width) image."""
        save_png(image, self.file(row))

    def finish(self, rows: Sequence[SampleRow], shown: int | None = None) -> None:
        """Write the grid and the complete manifest, after all images of a request.

        Missing images of earlier, interrupted requests leave the manifest: images that were never
        sampled cannot be told from images that were removed since.

        Args:
            rows: rows of the request.
            shown: number of images in the grid, from the first on; None = all.

        Raises:
            ValueError: an image of the request is missing; the manifest stays incomplete.
        """
        existing = list_names(self.path)
        missing = [name for name in map(self.name, rows) if name not in existing]
        if missing:
            raise ValueError(
                f"{self.path} lacks {len(missing)} of {len(rows)} images of this request "
                f"({missing[0]}): something removed them, or the machine that sampled them writes "
                "to another disk of that name; the same command samples what is missing"
            )
        images = torch.stack([read_image(self.file(row)) for row in rows[:shown]])
        save_png(image_grid(images), self.path / GRID)
        sync_tree(self.path)  # flush the images before the manifest that lists them
        self._images = {name: row for name, row in self._images.items() if name in existing}
        self._record(complete=True)

    def keep_only(self, rows: Sequence[SampleRow]) -> None:
        """Remove all other images, the manifest first, so that it never lists missing images."""
        names = {self.name(row) for row in rows}
        removed = [name for name in self._images if name not in names]
        self._images = {name: row for name, row in self._images.items() if name in names}
        self._record(complete=True)
        for name in removed:
            (self.path / name).unlink(missing_ok=True)

    def _record(self, *, complete: bool) -> None:
        images = list(self._images.values())
        prompts = {row.get("prompt") for row in images}
        prompts.add(self.protocol.get("sampling.negative_prompt"))
        cut = [entry for entry in self._cut if entry["prompt"] in prompts]
        _write_manifest(self.path, self.protocol, images, cut, complete=complete)


def _write_manifest(
    path: Path,
    protocol: Mapping[str, Any],
    images: list[dict[str, Any]],
    cut: list[dict[str, Any]],
    *,
    complete: bool,
) -> None:
    manifest = Manifest(
        protocol=dict(protocol),
        fingerprint=fingerprint(protocol),
        images=images,
        complete=complete,
        cut_prompts=cut,
    )
    write_versioned_json(path / MANIFEST, KIND, asdict(manifest))


def _listed_images(path: Path) -> list[str]:
    """Images of the manifest; where it is damaged, all files with a sample's name."""
    try:
        manifest = read_manifest(path)
    except FormatError:
        raise
    except ValueError:
        return [name for name in sorted(list_names(path)) if _NAME.fullmatch(name)]
    return [] if manifest is None else manifest.files


def _refuse_unknown_files(path: Path) -> None:
    unknown = sorted(file.name for file in path.glob("[!.]*"))
    if path.exists() and unknown:
        raise ValueError(
            f"{path} holds other files ({unknown[0]}, ...) and no {MANIFEST} of `pippin "
            "sample`: move them away, or give a new or empty folder with --out"
        )


def differing_entries(recorded: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the entries in which two protocols differ."""
    new = json.loads(json.dumps(dict(new)))  # tuples become lists
    return [name for name in {**recorded, **new} if recorded.get(name) != new.get(name)]


def _check_protocol(path: Path, recorded: dict[str, Any], new: dict[str, Any]) -> None:
    names = differing_entries(recorded, new)
    new = json.loads(json.dumps(new))
    if names and all(name in IDENTITY and name not in recorded for name in names):
        raise ValueError(
            f"{path} holds images of an earlier version of pippin, whose {MANIFEST} does not "
            f"record the weights ({', '.join(names)}): whether these weights made them is "
            "unknown, so no image is added. Give another folder with --out, or move these images "
            "away and sample them again"
        )
    if names:
        lines = "\n".join(f"  {n}: {recorded.get(n)!r} there, {new.get(n)!r} here" for n in names)
        raise ValueError(
            f"{path} holds images of another protocol:\n{lines}\n"
            "they are not overwritten: give another folder with --out"
        )


def free_samples_path(path: Path, protocol: Mapping[str, Any]) -> Path:
    """The folder itself, or if it holds images of another protocol, a folder beside it.

    That one is named after the protocol, such as ``samples-dpm++-16-1a2b3c4d``: solver, steps and
    the first eight digits of the fingerprint. The same settings therefore find it again.

    Raises:
        ValueError: the manifest is damaged.
        FormatError: the manifest is of a newer version.
    """
    manifest = read_manifest(path)
    if manifest is None or not differing_entries(manifest.protocol, protocol):
        return path
    solver, steps = (protocol.get(f"sampling.{name}") for name in ("solver", "steps"))
    return path.with_name(f"{path.name}-{solver}-{steps}-{fingerprint(protocol)[:8]}")
