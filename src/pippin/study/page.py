# SPDX-License-Identifier: Apache-2.0
"""Self-contained HTML pages: a page loads nothing and runs no script (its content security policy
forbids both). All text is escaped, because names and messages are untrusted.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pippin.study.figures import colour, dashes
from pippin.system.files import remove_temporary_files, write_text

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
