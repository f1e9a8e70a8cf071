# SPDX-License-Identifier: Apache-2.0
"""PNG files as parts of a page."""

import base64
from dataclasses import dataclass
from pathlib import Path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ABSENT = "none was written"
ROOM = 4_400_000
"""Characters of all pictures of one page together: a page stays below 5 MB, so that it can be
mailed and opens on a phone."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with its content inside."""

    uri: str
    width: int
    height: int


class Album:
    """The pictures of one page, until its room is used up."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = self.left = room

    def embed(self, path: Path) -> tuple[Picture | None, str]:
        """The picture as a data URI, or None and the reason why it is not shown.

        Only the PNG signature and header are believed, so that a link named ``grid.png`` cannot
        bring another file's content into the page.
        """
        if not path.is_file():
            return None, ABSENT
        if 4 * path.stat().st_size / 3 > self.left:
            limit = f"the {self.room / 1e6:g} MB that this page has for pictures"
            return None, f"left out: it does not fit into {limit}; it is {_place(path)}"
        content = path.read_bytes()
        if len(content) < 24 or not content.startswith(_SIGNATURE):
            return None, "not a PNG file"
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
        self.left -= len(uri)
        return Picture(uri=uri, width=width, height=height), ""


def _place(path: Path) -> str:
    """Enough of a path to find the file, without the folders of the machine."""
    return "/".join(path.parts[-3:])
