# SPDX-License-Identifier: Apache-2.0
"""PNG files as parts of a page."""

import base64
from dataclasses import dataclass
from pathlib import Path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 8 * 2**20
"""Bytes of one embedded picture: a page with larger ones does not open on a phone."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with its content inside."""

    uri: str
    width: int
    height: int


def embed(path: Path) -> tuple[Picture | None, str]:
    """The picture as a data URI, or None and the reason why it is not shown.

    Only the PNG signature and header are believed, so that a link named ``grid.png`` cannot bring
    another file's content into the page.
    """
    if not path.is_file():
        return None, "not there"
    if path.stat().st_size > LARGEST:
        return None, f"larger than {LARGEST // 2**20} MiB"
    content = path.read_bytes()
    if len(content) < 24 or not content.startswith(_SIGNATURE):
        return None, "not a PNG file"
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return Picture(uri=uri, width=width, height=height), ""
