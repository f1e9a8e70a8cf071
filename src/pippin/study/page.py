# SPDX-License-Identifier: Apache-2.0
"""A page is one file: it holds everything that it shows, loads nothing, and runs no script (a
content policy in the page forbids both). All text is escaped: names and messages may come from
anywhere.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pippin.study.figures import colour, dashes
from pippin.system.files import remove_staged, write_text

_SIZE = "@page-size@"
"""Stands in the footer until the page is whole; a name that holds it does no harm."""


def write_page(template: str, context: dict[str, Any], path: Path) -> Path:
    """Render a template into a file that is replaced whole; the footer states the file's size."""
    page = _environment().get_template(template).render(context | {"size": _SIZE})
    size = f"{len(page.encode()) / 1e6:.1f} MB"
    head, _, foot = page.rpartition(_SIZE)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_staged(path.parent, path.name)  # of a call that was killed
    write_text(path, f"{head}{size}{foot}")
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pippin.study", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(colour=colour, dashes=dashes)
    return environment
