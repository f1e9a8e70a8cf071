# SPDX-License-Identifier: Apache-2.0
"""Members of a tar archive, read to its closing blocks.

``tarfile`` takes the first header that it cannot read, and a file that ends early, for the end of
the archive. Here both are errors. Archives that were joined are read to the end of the last one.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator

from pippin.data.import_members import Member
from pippin.data.import_rows import BinaryFile

# A block of zeros, and the end of the file, where a header is looked for.
_EOFHeaderError: type[tarfile.HeaderError] = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_EmptyHeaderError: type[tarfile.HeaderError] = tarfile.EmptyHeaderError  # type: ignore[attr-defined]
LARGEST_JSON = 16 << 20
"""Bytes of a JSON that is read; no sample's is larger."""
MOST_ZEROS = 65_536
"""Closing blocks of 512 bytes that an archive may have."""


class DamagedArchiveError(ValueError):
    """An archive that is cut off, or has a header that cannot be read."""


class _Header(tarfile.TarInfo):
    """A header that is an error where it cannot be read."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Header":
        assert isinstance(archive, _Archive)
        try:
            header = super().fromtarfile(archive)
        except _EOFHeaderError:
            archive.closing_blocks += 1
            if archive.closing_blocks > MOST_ZEROS:
                raise DamagedArchiveError(
                    f"it has {MOST_ZEROS} empty blocks before byte {archive.offset}, as a file "
                    "has whose download was not finished"
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
    """Empty blocks since the last member."""


def read_members(file: BinaryFile, others: Counter[str]) -> Iterator[Member]:
    """The files of an uncompressed archive.

    Hard links are the files that they lead to. Folders are passed over.

    Args:
        file: at its first byte; it can seek.
        others: what is no file is counted here: symbolic links, devices, files with holes.

    Raises:
        DamagedArchiveError: cut off, or a header that cannot be read.
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


def peek(file: BinaryFile, wanted: str) -> Iterator[tuple[Member, bytes]]:
    """The files of an archive, compressed or not, without seeking: for a look at the first ones.

    Args:
        file: at its first byte.
        wanted: suffix of files whose content is given too; that of others is empty.

    Raises:
        DamagedArchiveError, tarfile.TarError: as :func:`read_members`.
    """
    with _Archive.open(fileobj=file, mode="r|*", ignore_zeros=True) as archive:
        for header in _headers(archive):
            if header.isreg() or header.islnk():
                is_wanted = header.isreg() and header.name.lower().endswith(wanted)
                is_wanted = is_wanted and header.size <= LARGEST_JSON
                content = archive.extractfile(header) if is_wanted else None
                member = Member(header.name, header.offset_data, header.size)
                yield member, content.read() if content else b""


def _headers(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All headers; none is kept, for there may be millions."""
    while (header := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield header
