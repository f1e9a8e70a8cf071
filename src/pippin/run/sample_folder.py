# SPDX-License-Identifier: Apache-2.0
"""A folder of sampled images: one protocol, any seeds and classes, and a manifest of them all.

Images are written as they come and a file is whole or absent, so a stop at any moment costs the
batch in work only, and the same request goes on where it was.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pippin.config import fingerprint
from pippin.evaluation.folder import read_image
from pippin.run.pictures import grid, save_png
from pippin.system.files import listed, remove_staged
from pippin.system.flush import make_folder, sync_tree
from pippin.system.formats import FormatError, read_stamped, write_stamped
from pippin.system.lock import LOCK
from pippin.types import Prompt

KIND = "samples"
"""Of :data:`pippin.system.formats.FORMATS`."""
MANIFEST = "manifest.json"
GRID = "grid.png"
_NAME = re.compile(r"seed-\d{6,}-(class-\d+|text-[0-9a-f]{8})\.png")
"""What :attr:`SampleRow.file` gives."""
SHOWN = 36
"""Images in the grid that goes with an evaluation."""


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """One image as the manifest lists it."""

    seed: int
    prompt: Prompt
    class_name: str | None
    """None for text."""

    @property
    def file(self) -> str:
        """The name of its file; text, which may hold anything, goes in as a hash."""
        if isinstance(self.prompt, str):
            name = hashlib.sha256(self.prompt.encode("utf-8", "replace")).hexdigest()[:8]
            return f"seed-{self.seed:06d}-text-{name}.png"
        return f"seed-{self.seed:06d}-class-{self.prompt}.png"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        shown: dict[str, Any] = {"label": self.prompt, "class": self.class_name}
        if isinstance(self.prompt, str):
            shown = {"prompt": self.prompt.encode("utf-8", "replace").decode("utf-8")}
        return {"file": self.file, "seed": self.seed, **shown}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What made the images of a folder, and which files they are."""

    protocol: dict[str, Any]
    fingerprint: str
    images: list[dict[str, Any]]
    complete: bool = True
    """False: sampling was stopped, and some of the files are not there yet."""

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
        manifest = Manifest(**read_stamped(path, KIND))
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

    Files of somebody else stay.

    Raises:
        ValueError: there are files and no manifest, so nothing says that they may go.
        FormatError: the manifest is of a newer version.
    """
    if not (path / MANIFEST).is_file():
        _refuse_strangers(path)
        return
    try:
        SampleFolder(path, protocol)
    except FormatError:
        raise
    except ValueError:
        names = _own_images(path)
        # The manifest first, so that it never lists what is gone.
        own = Manifest(protocol=dict(protocol), fingerprint=fingerprint(protocol), images=[])
        write_stamped(path / MANIFEST, KIND, asdict(own))
        for name in (*names, GRID):
            (path / name).unlink(missing_ok=True)


def remove_samples(path: Path) -> None:
    """Remove all images of a folder, what belongs to them, and the folder if it is empty then."""
    if not (path / MANIFEST).is_file():
        return
    for name in (*_own_images(path), GRID, MANIFEST, LOCK):
        (path / name).unlink(missing_ok=True)
    remove_staged(path)
    with suppress(OSError):  # somebody's own files are in it
        path.rmdir()


class SampleFolder:
    """Images of one protocol on disk.

    Args:
        path: new, empty, or a folder of images of the same protocol, which stay.
        protocol: all that decides what the images look like, besides seed and class.

    Raises:
        ValueError: the folder holds images of another protocol (what differs is named), or
            files of someone else.
    """

    def __init__(self, path: Path, protocol: Mapping[str, Any]) -> None:
        self.path, self.protocol = path, dict(protocol)
        manifest = read_manifest(path)
        if manifest is None:
            _refuse_strangers(path)
        else:
            _refuse_change(path, manifest.protocol, self.protocol)
        self._images = {} if manifest is None else {row["file"]: row for row in manifest.images}
        self._complete = manifest is not None and manifest.complete

    def begin(self, rows: Sequence[SampleRow]) -> None:
        """Record what the images are going to be, before the first one.

        Raises:
            ValueError: images of an earlier request, which was complete, are gone.
        """
        make_folder(self.path)
        asked = {row.file for row in rows}
        if self._complete:
            gone = sorted(self._images.keys() - asked - listed(self.path))
            if gone:
                raise ValueError(
                    f"{self.path} has lost {len(gone)} images that its {MANIFEST} lists "
                    f"({gone[0]}): put them back or draw them again by the command that drew "
                    "them, or give another folder"
                )
        remove_staged(self.path)
        self._images |= {row.file: row.to_dict() for row in rows}
        self._record(complete=False)

    def holds(self, row: SampleRow, pixels: tuple[int, int]) -> bool:
        """Whether an image of this (height, width) is there and whole."""
        try:
            return read_image(self.path / row.file).shape == (3, *pixels)
        except ValueError:
            return False

    def add(self, row: SampleRow, image: torch.Tensor) -> None:
        """Write one uint8 (3, height, width) image."""
        save_png(image, self.path / row.file)

    def finish(self, rows: Sequence[SampleRow], shown: int | None = None) -> None:
        """Write the grid and the complete manifest, when all images of a request were drawn.

        Images of earlier requests that are not there leave the manifest where one of them was
        stopped: what it had not drawn cannot be told from what was removed since.

        Args:
            rows: of the request.
            shown: how many of its first images the grid shows; None = all.

        Raises:
            ValueError: an image of the request is not there; the manifest stays incomplete.
        """
        there = listed(self.path)
        missing = [row.file for row in rows if row.file not in there]
        if missing:
            raise ValueError(
                f"{self.path} lacks {len(missing)} of {len(rows)} images that were drawn into it "
                f"({missing[0]}): something removed them, or the machine that drew them writes "
                "to another disk of that name; the same command draws what is missing"
            )
        images = torch.stack([read_image(self.path / row.file) for row in rows[:shown]])
        save_png(grid(images), self.path / GRID)
        sync_tree(self.path)  # the images, which the manifest vouches for
        self._images = {name: row for name, row in self._images.items() if name in there}
        self._record(complete=True)

    def keep_only(self, rows: Sequence[SampleRow]) -> None:
        """Remove all other images, the manifest first, so that it never lists what is gone."""
        names = {row.file for row in rows}
        gone = [name for name in self._images if name not in names]
        self._images = {name: row for name, row in self._images.items() if name in names}
        self._record(complete=True)
        for name in gone:
            (self.path / name).unlink(missing_ok=True)

    def _record(self, *, complete: bool) -> None:
        manifest = Manifest(
            protocol=self.protocol,
            fingerprint=fingerprint(self.protocol),
            images=list(self._images.values()),
            complete=complete,
        )
        write_stamped(self.path / MANIFEST, KIND, asdict(manifest))


def _own_images(path: Path) -> list[str]:
    """What the manifest lists; where it is damaged, what is named as images of ours are."""
    try:
        manifest = read_manifest(path)
    except ValueError:
        return [name for name in sorted(listed(path)) if _NAME.fullmatch(name)]
    return [] if manifest is None else manifest.files


def _refuse_strangers(path: Path) -> None:
    strangers = sorted(one.name for one in path.glob("[!.]*"))
    if path.exists() and strangers:
        raise ValueError(
            f"{path} holds other files ({strangers[0]}, ...) and no {MANIFEST} of `pippin "
            "sample`: move them away, or give a new or empty folder with --out"
        )


def _refuse_change(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    here = json.loads(json.dumps(here))  # tuples become lists
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if names:
        lines = "\n".join(f"  {n}: {there.get(n)!r} there, {here.get(n)!r} here" for n in names)
        raise ValueError(
            f"{path} holds images that were made in another way:\n{lines}\n"
            "they are not overwritten: give another folder with --out"
        )
