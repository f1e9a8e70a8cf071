# SPDX-License-Identifier: Apache-2.0
"""Self-contained HTML pages with embedded images."""

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pippin.reports.figures.curves import colour, dashes
from pippin.system.files import remove_temporary_files, write_text

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ABSENT = "none was written"
ROOM = 4_400_000
"""Total characters of the images of a page: a page stays below 5 MB, so that it can be mailed and
opens on a phone."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedImage:
    """An image as a data URI."""

    uri: str
    width: int
    height: int


class ImageEmbedder:
    """Embeds the images of one page until its size limit is reached.

    Args:
        room: size limit in characters of all images together.
    """

    def __init__(self, room: int = ROOM) -> None:
        self.room = self.left = room

    def embed(self, path: Path) -> tuple[EmbeddedImage | None, str]:
        """The image as a data URI, or None and the reason why it is not shown.

        Only files with a PNG signature and header are embedded, so that a link named
        ``grid.png`` cannot put another file's content into the page.
        """
        if not path.is_file():
            return None, ABSENT
        if 4 * path.stat().st_size / 3 > self.left:
            limit = f"the {self.room / 1e6:g} MB that this page has for images"
            return None, f"skipped: it does not fit into {limit}; the file is {_short_path(path)}"
        content = path.read_bytes()
        if len(content) < 24 or not content.startswith(_SIGNATURE):
            return None, "not a PNG file"
        width, height = (
            int.from_bytes(content[offset : offset + 4], "big") for offset in (16, 20)
        )
        uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
        self.left -= len(uri)
        return EmbeddedImage(uri=uri, width=width, height=height), ""


def _short_path(path: Path) -> str:
    """The last three parts of a path: enough to find the file, without the machine's folders."""
    return "/".join(path.parts[-3:])


_SIZE = "@page-size@"
"""Placeholder in the footer for the page's size; a name that contains it does no harm."""


def write_page(template: str, context: dict[str, Any], path: Path) -> Path:
    """Render a template and replace the file atomically; the footer states the file's size."""
    page = _environment().get_template(template).render(context | {"size": _SIZE})
    size = f"{len(page.encode()) / 1e6:.1f} MB"
    head, _, foot = page.rpartition(_SIZE)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_temporary_files(path.parent, path.name)  # left by a killed call
    write_text(path, f"{head}{size}{foot}")
    return path


def code_spans(text: str) -> Markup:
    """The text, escaped, with code in backticks as ``<code>``; an unpaired backtick stays."""
    parts = re.split(r"`([^`\n]+)`", text)
    return Markup().join(
        Markup("<code>{}</code>").format(part) if index % 2 else part
        for index, part in enumerate(parts)
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pippin.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code_spans"] = code_spans
    environment.globals.update(colour=colour, dashes=dashes)
    return environment
