# SPDX-License-Identifier: Apache-2.0
"""Tar archives of a WebDataset: checked members, grouped into samples by their names.

``tarfile`` treats an unreadable header or a truncated file as the end of the archive. Here both
are errors, and concatenated archives are read to the closing blocks of the last one.

The WebDataset rule ends the key of a sample at the first dot of a file's name, so that
``0001.depth.png`` belongs to ``0001.jpg``. File names of cameras and frames may also contain dots:
``frame_0.01.jpg``. A part between two dots is therefore

- part of the key if it is not a word (``01``, ``v1.5``), together with all parts before it;
- a *qualifier* of the content if it is a usual name such as ``depth``, if a member without it has
  the same key, or if it recurs in other samples;
- part of the key if it and another part each have an image and a text.
"""

import posixpath
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pippin.data.importing.rows import BinaryFile, is_image, is_known_qualifier
from pippin.images.folder import SYSTEM_NAMES

_WORD = re.compile(r"[A-Za-z][A-Za-z_-]*\d{0,2}", re.ASCII)


class Member(NamedTuple):
    """File in an archive."""

    name: str
    start: int
    """Offset of the first byte in the archive."""
    num_bytes: int


@dataclass
class Sample:
    """Members with the same key."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    """Kind -> member, in the order of the archive."""

    @property
    def folder(self) -> str:
        """Folder path of the members, joined by slashes; empty if there is none."""
        return posixpath.dirname(self.key)


@dataclass(frozen=True)
class _Name:
    stem: str
    """Folder and name up to the last part that is not a word."""
    words: str
    """Parts between the stem and the suffix."""
    suffix: str


def group_members(members: Iterable[Member]) -> tuple[list[Sample], Counter[str]]:
    """Group the members of an archive into samples, in the order of first members.

    Members with the same key need not be adjacent. A second member with the same key and kind
    starts another sample.

    Returns:
        The samples, and the counts of members without a sample: kind of name -> count.
    """
    named: list[tuple[Member, _Name]] = []
    others: Counter[str] = Counter()
    for member in members:
        folder, base = posixpath.split(posixpath.normpath(member.name).lstrip("/"))
        parts = {part.casefold() for part in (*folder.split("/"), base)}
        if base.startswith((".", "__")) or parts & SYSTEM_NAMES:
            others["hidden files"] += 1
        elif "." not in base.strip("."):
            others["names without a suffix"] += 1
        else:
            named.append((member, _split(folder, base)))
    is_qualifier = _qualifiers([name for _, name in named])
    grouping = _Grouping()
    for member, name in named:
        grouping.add(member, *_key_and_kind(name, is_qualifier))
    return grouping.samples, others


def _split(folder: str, base: str) -> _Name:
    first, *parts, suffix = base.split(".")
    key = [first]
    while any(_WORD.fullmatch(part) is None for part in parts):
        key.append(parts.pop(0))
    stem = posixpath.join(folder, ".".join(key))
    return _Name(stem=stem, words=".".join(parts), suffix=suffix.lower())


def _key_and_kind(name: _Name, is_qualifier: "dict[tuple[str, str], bool]") -> tuple[str, str]:
    if not name.words:
        return name.stem, name.suffix
    if is_qualifier[name.stem, name.words]:
        return name.stem, f"{name.words.lower()}.{name.suffix}"
    return f"{name.stem}.{name.words}", name.suffix


def _qualifiers(names: list[_Name]) -> dict[tuple[str, str], bool]:
    """(Stem, words) -> True if the words are a qualifier, False if they belong to the key."""
    suffixes: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    words_of: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        suffixes[name.stem, name.words].add(name.suffix)
        words_of[name.stem].add(name.words)
    samples_with = Counter(words for _, words in suffixes)
    complete = {pair for pair, kinds in suffixes.items() if _has_image_and_more(kinds)}
    return {
        (stem, words): _is_qualifier(
            words,
            beside_plain="" in words_of[stem],
            recurs=samples_with[words] > 1,
            own_sample=(stem, words) in complete
            and sum((stem, other) in complete for other in words_of[stem]) > 1,
        )
        for stem, words in suffixes
        if words
    }


def _is_qualifier(words: str, *, beside_plain: bool, recurs: bool, own_sample: bool) -> bool:
    if all(is_known_qualifier(word.lower()) for word in words.split(".")):
        return True
    return not own_sample and (beside_plain or recurs)


def _has_image_and_more(suffixes: set[str]) -> bool:
    num_images = sum(map(is_image, suffixes))
    return 0 < num_images < len(suffixes)


class _Grouping:
    """Incremental grouping of members by key."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._latest: Sample | None = None
        self._by_key: defaultdict[str, list[Sample]] = defaultdict(list)
        self._filled: Counter[tuple[str, str]] = Counter()
        """(Key, kind) -> number of leading samples of the key that have the kind."""

    def add(self, member: Member, key: str, kind: str) -> None:
        """Add to the latest sample, or to the first sample of the key without the kind."""
        sample = self._latest
        if sample is None or sample.key != key or kind in sample.members:
            sample = self._first_without(key, kind)
        sample.members[kind] = member
        self._latest = sample

    def _first_without(self, key: str, kind: str) -> Sample:
        same_key, index = self._by_key[key], self._filled[key, kind]
        while index < len(same_key) and kind in same_key[index].members:
            index += 1
        self._filled[key, kind] = index
        if index == len(same_key):
            same_key.append(Sample(key))
            self.samples.append(same_key[-1])
        return same_key[index]


# Raised for a block of zeros, and for the end of the file, in the place of a header.
_EOFHeaderError: type[tarfile.HeaderError] = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_EmptyHeaderError: type[tarfile.HeaderError] = tarfile.EmptyHeaderError  # type: ignore[attr-defined]
LARGEST_JSON = 16 << 20
"""Maximum size of a JSON member in bytes."""
MAX_CLOSING_BLOCKS = 65_536
"""Maximum number of closing blocks of 512 bytes."""


class DamagedArchiveError(ValueError):
    """Truncated archive, or an unreadable header."""


class _Header(tarfile.TarInfo):
    """Header that raises an error if it cannot be read."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Header":
        assert isinstance(archive, _Archive)
        try:
            header = super().fromtarfile(archive)
        except _EOFHeaderError:
            archive.closing_blocks += 1
            if archive.closing_blocks > MAX_CLOSING_BLOCKS:
                raise DamagedArchiveError(
                    f"it has {MAX_CLOSING_BLOCKS} empty blocks before byte {archive.offset}, as "
                    "after an unfinished download"
                ) from None
            raise
        except _EmptyHeaderError:
            if archive.closing_blocks:
                raise
            what = f"it ends at byte {archive.offset}, without closing blocks: the end is missing"
            raise DamagedArchiveError(what if archive.offset else "it is empty") from None
        except tarfile.HeaderError as error:
            what = f"the header at byte {archive.offset} is damaged"
            what = what if archive.offset else "it is no archive of this format"
            raise DamagedArchiveError(f"{what} ({error})") from None
        archive.closing_blocks = 0
        return header


class _Archive(tarfile.TarFile):
    tarinfo = _Header
    closing_blocks = 0
    """Number of empty blocks since the last member."""


def read_members(file: BinaryFile, others: Counter[str]) -> Iterator[Member]:
    """Files of an uncompressed archive.

    Hard links resolve to their target files. Folders are ignored.

    Args:
        file: a seekable file at its first byte.
        others: counter of other members: symbolic links, devices, sparse files.

    Raises:
        DamagedArchiveError: truncated, or an unreadable header.
        tarfile.TarError: another fault of the archive.
    """
    by_name: dict[str, Member] = {}
    with _Archive.open(fileobj=file, mode="r:", ignore_zeros=True) as archive:
        for header in _headers(archive):
            if header.islnk() and header.linkname in by_name:
                yield by_name[header.linkname]._replace(name=header.name)
            elif header.isreg() and not header.issparse():
                member = Member(header.name, header.offset_data, header.size)
                by_name[header.name] = member
                yield member
            elif not header.isdir():
                others["links and special files"] += 1


def members_before_damage(members: Iterator[Member], faults: list[str]) -> Iterator[Member]:
    """Members up to the first fault of an archive, which is appended to ``faults``.

    Raises:
        DamagedArchiveError, tarfile.TarError: the fault comes before the first member.
    """
    count = 0
    try:
        for count, member in enumerate(members, start=1):  # noqa: B007 (read after the loop)
            yield member
    except (DamagedArchiveError, tarfile.TarError) as error:
        if not count:
            raise
        faults.append(str(error))


def peek(file: BinaryFile, suffix: str) -> Iterator[tuple[Member, bytes]]:
    """Files of an archive, compressed or not, without seeking; for inspection of the first ones.

    Args:
        file: a file at its first byte.
        suffix: suffix of files whose content is returned too; other contents are empty.

    Raises:
        DamagedArchiveError, tarfile.TarError: see :func:`read_members`.
    """
    with _Archive.open(fileobj=file, mode="r|*", ignore_zeros=True) as archive:
        for header in _headers(archive):
            if header.isreg() or header.islnk():
                reads_content = header.isreg() and header.name.lower().endswith(suffix)
                reads_content = reads_content and header.size <= LARGEST_JSON
                content = archive.extractfile(header) if reads_content else None
                member = Member(header.name, header.offset_data, header.size)
                yield member, content.read() if content else b""


def _headers(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All headers; none is kept in memory, because there may be millions."""
    while (header := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield header
