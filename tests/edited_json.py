# SPDX-License-Identifier: Apache-2.0
"""JSON files edited by hand."""

import json

from pippin.system.formats import CHECKSUM
from pippin.system.lines import POSITION


def write_edited(path, values):
    """Replace a file by values, without the former checksum."""
    path.write_text(
        json.dumps({name: value for name, value in values.items() if name != CHECKSUM})
    )


def edited_lines(path):
    """Objects of a JSON lines file as a person or an earlier version would write them: without
    checksums and line numbers."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in (CHECKSUM, POSITION)} for line in lines]


def as_earlier(path):
    """Convert a JSON lines file to an earlier version."""
    path.write_text("".join(json.dumps(line) + "\n" for line in edited_lines(path)))


def edit(path, **changes):
    """Change entries of a file, and remove its checksum."""
    write_edited(path, json.loads(path.read_text()) | changes)
