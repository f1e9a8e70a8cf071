# SPDX-License-Identifier: Apache-2.0
"""Members of a tar archive, checked up to its closing blocks.

``tarfile`` treats an unreadable header or a truncated file as the end of the archive. Here both
are errors. Concatenated archives are read to the end of the last one.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator

from pippin.data.import_members import Member
from pippin.data.import_rows import BinaryFile

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
