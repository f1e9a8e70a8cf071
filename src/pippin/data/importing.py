# SPDX-License-Identifier: Apache-2.0
"""Pictures out of parquet files, WebDataset archives or the hub, into a folder of own pictures.

Reading is done by Hugging Face ``datasets``, whose pictures are not decoded here: their bytes go
into files as they are. Names are numbers of shard and row, so nothing in a source can choose where
a file is written. A shard is there as a whole or not at all, and is imported once.
"""

import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from pippin.config import ConfigError
from pippin.data.config import ImportConfig
from pippin.system.files import write_text

PARTS = ".parts"
"""Folder of one metadata file for each shard that is there as a whole."""
FORMATS = {"parquet": ".parquet", "webdataset": ".tar"}
SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tiff",
}
"""Pillow's name of a format -> that of its files."""
PICTURES = ("image", "jpg", "jpeg", "png", "webp", "img", "picture")
CAPTIONS = ("caption", "text", "txt", "prompt")
LABELS = ("label", "cls", "class")
"""Columns that are looked for, in this order, where none is named."""

Progress = Callable[[int, int], None]
"""(shards done, shards in all)."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What is in the folder now."""

    pictures: int
    lost: tuple[str, ...]
    """``SHARD ROW: why``, of rows that hold no picture that can be read."""
    shards: int
    before: int
    """Shards that were there already."""


def import_pictures(
    config: ImportConfig, folder: Path, *, processes: int = 1, progress: Progress | None = None
) -> Imported:
    """Write pictures and metadata.jsonl; what an earlier call finished stays.

    Args:
        config: what is taken.
        folder: new, or that of an earlier call with the same source.
        processes: shards at once.
        progress: told of every shard.

    Raises:
        ConfigError: no such source, no such column, or a folder that holds something else.
        OSError: no room; whole shards stay.
    """
    if processes < 1:
        raise ConfigError(f"--processes must be 1 or more; got {processes}")
    count = count_shards(config)
    _claim(folder, config)
    there = [index for index in range(count) if _is_there(config, folder, index)]
    missing = sorted(set(range(count)) - set(there))
    for done, _ in enumerate(_all(config, folder, missing, processes), start=len(there) + 1):
        if progress is not None:
            progress(done, count)
    rows, lost = [], []
    for index in range(count):
        part = json.loads(_part(folder, index).read_text(encoding="utf-8"))
        rows += part["rows"]
        lost += part["lost"]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(folder / "metadata.jsonl", text)
    return Imported(pictures=len(rows), lost=tuple(lost), shards=count, before=len(there))


def count_shards(config: ImportConfig) -> int:
    """Files of a local source, or shards of the hub's, as far as ``shards`` allows.

    Raises:
        ConfigError: no such source.
    """
    files = _files(config.source)
    count = len(files) if files else _hub(config).num_shards
    return min(count, config.shards or count)


def _is_there(config: ImportConfig, folder: Path, index: int) -> bool:
    """Whether a shard was imported; it must be the one that has this number now."""
    part = _part(folder, index)
    if not part.exists():
        return False
    before, now = json.loads(part.read_text(encoding="utf-8"))["of"], _identity(config, index)
    if before != now:
        raise ConfigError(
            f"shard {index} of {folder} was {before}, and is {now} now: the source has changed "
            "since; import it into a new folder"
        )
    return True


def _identity(config: ImportConfig, index: int) -> str:
    """What a shard is, as far as can be seen from outside."""
    files = _files(config.source)
    if not files:
        return f"{config.source} {config.revision or ''} shard {index}"
    return f"{files[index].name}, {files[index].stat().st_size} bytes"


def _all(config: ImportConfig, folder: Path, missing: list[int], processes: int) -> Iterator[None]:
    if processes == 1 or len(missing) < 2:
        for index in missing:
            _import_shard(config, folder, index)
            yield
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        jobs = [pool.submit(_import_shard, config, folder, index) for index in missing]
        try:
            for job in as_completed(jobs):
                job.result()
                yield
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _import_shard(config: ImportConfig, folder: Path, index: int) -> None:
    """One shard; its metadata, which says that it is whole, is written last."""
    place = folder / f"{index:05d}"
    place.mkdir(parents=True, exist_ok=True)
    stream = _shard(config, index)
    columns = _columns(config, stream, index)
    rows: list[dict[str, Any]] = []
    lost: list[str] = []
    for number, row in enumerate(_read(config, index, stream)):
        content = _bytes(row.get(columns.image))
        suffix = _suffix(content)
        if content is None or suffix is None:
            why = "no picture" if not content else "not a picture that Pillow knows"
            lost.append(f"{index} {number}: {why}")
            continue
        name = f"{index:05d}/{number:07d}{suffix}"
        _write(folder / name, content)
        rows.append({"file_name": name} | columns.of(row))
    write_text(
        _part(folder, index),
        json.dumps({"of": _identity(config, index), "rows": rows, "lost": lost}),
    )


def _read(config: ImportConfig, index: int, stream: Any) -> Iterator[dict[str, Any]]:
    """Rows; what a reader meets in a damaged file is said with its name."""
    try:
        yield from stream
    except Exception as error:  # of many kinds, by format
        raise ConfigError(
            f"{_identity(config, index)}, cannot be read to its end: {error}; other shards that "
            "are whole stay"
        ) from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns hold what."""

    image: str
    captions: dict[str, str]
    """Column of metadata.jsonl -> column of the source."""
    label: str | None
    names: tuple[str, ...] | None
    """Of the classes, where labels are their numbers."""

    def of(self, row: dict[str, Any]) -> dict[str, str]:
        """What metadata.jsonl says of a picture; empty cells are left out."""
        found: dict[str, str] = {}
        for ours, theirs in self.captions.items():
            value = _cell(row, theirs)
            # Several captions of one picture: each is a kind of its own.
            for place, one in enumerate(value if isinstance(value, list) else [value]):
                name = ours if place == 0 else f"caption_{ours.removeprefix('caption_')}_{place}"
                found[name] = _text(one)
        if self.label is not None:
            label = _cell(row, self.label)
            if self.names is None or not isinstance(label, int):
                found["label"] = _text(label)
            elif 0 <= label < len(self.names):  # -1 means that there is none
                found["label"] = self.names[label]
        return {name: text for name, text in found.items() if text}


def _columns(config: ImportConfig, stream: Any, index: int) -> Columns:
    """Named ones, or those that are looked for."""
    features = stream.features or {}
    first: dict[str, Any] = next(_read(config, index, stream), {})
    names = list(features) or list(first)
    inner = first.get("json")
    known = [*names, *(f"json.{key}" for key in (inner if isinstance(inner, dict) else ()))]

    def chosen(option: str, given: str | None, wanted: Iterable[str]) -> str | None:
        if given is not None and given not in known:
            raise ConfigError(
                f"--{option} {given}: {config.source} has no such column; it has: "
                f"{', '.join(known)}"
            )
        both = (name for one in wanted for name in (one, f"json.{one}"))
        return given or next((name for name in both if name in known), None)

    pictures = [name for name in names if type(features.get(name)).__name__ == "Image"]
    image = chosen("image", config.image, [*pictures, *PICTURES])
    if image is None:
        raise ConfigError(
            f"{config.source} has no column of pictures; say which one it is with --image; it "
            f"has: {', '.join(known)}"
        )
    label = chosen("label", config.label, LABELS)
    caption = chosen("caption", config.caption, CAPTIONS)
    captions = {} if caption is None else {"text": caption}
    for one in config.more_captions:
        chosen("more-captions", one, ())
        captions[f"caption_{one.removeprefix('json.')}"] = one
    class_names = getattr(features.get(label), "names", None)
    return Columns(
        image=image,
        captions=captions,
        label=label,
        names=tuple(class_names) if class_names else None,
    )


def _cell(row: dict[str, Any], column: str) -> Any:
    outer, _, inner = column.partition(".")
    value = row.get(column, row.get(outer))
    return value.get(inner) if inner and isinstance(value, dict) else value


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return "" if value is None else " ".join(str(value).split())


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


def _suffix(content: bytes | None) -> str | None:
    """By what the bytes are, whatever the source calls them; nothing is decoded."""
    if not content:
        return None
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return SUFFIXES.get(picture.format or "")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None


def _shard(config: ImportConfig, index: int) -> Any:
    """A stream of one shard's rows, pictures as bytes."""
    files = _files(config.source)
    if not files:
        whole = _hub(config)
        return whole.shard(num_shards=whole.num_shards, index=index).decode(False)
    library = _datasets()
    kind = next(kind for kind, suffix in FORMATS.items() if files[index].suffix == suffix)
    given = {"data_files": [str(files[index])], "split": "train", "streaming": True}
    try:
        return library.load_dataset(kind, **given).decode(False)
    except Exception as error:  # of many kinds: what a file's reader meets in it
        raise ConfigError(f"{files[index]} cannot be read as {kind}: {error}") from error


def _files(source: str) -> list[Path]:
    """The files of a local source, sorted; none = it is a name of the hub."""
    path = Path(source)
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in FORMATS.values())
    else:
        return []
    odd = [one for one in found if one.suffix not in FORMATS.values()]
    if odd or not found:
        raise ConfigError(
            f"{source} holds no {' or '.join(FORMATS.values())} file to import; a folder of "
            "picture files needs no import: give it as --data.path"
        )
    return found


def _hub(config: ImportConfig) -> Any:
    library = _datasets()
    try:
        return library.load_dataset(
            config.source,
            config.subset,
            split=config.split,
            revision=config.revision,
            streaming=True,
        )
    except Exception as error:  # no network, no such name, no such split, code that is refused
        raise ConfigError(
            f"{config.source} is no file or folder here, and as a data set of the hub it cannot "
            f"be opened: {error}"
        ) from error


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError("pippin data import needs: pip install 'pippin[datasets]'") from error
    datasets.disable_progress_bars()
    return datasets


def _part(folder: Path, index: int) -> Path:
    return folder / PARTS / f"{index:05d}.json"


def _claim(folder: Path, config: ImportConfig) -> None:
    """A folder belongs to one import: another one's pictures would be mixed in."""
    note = folder / PARTS / "import.json"
    if note.exists():
        before = ImportConfig.load(note)
        if before != config:
            raise ConfigError(
                f"{folder} holds what was imported from {before.source} with other settings: "
                "repeat those, or choose another folder"
            )
        return
    if folder.exists() and os.listdir(folder):
        raise ConfigError(f"{folder} is not empty: choose a new folder to import into")
    note.parent.mkdir(parents=True)
    config.save(note)
