# SPDX-License-Identifier: Apache-2.0
"""Files of JSON that a person edited."""

import json

from pippin.system.formats import CHECKSUM
from pippin.system.lines import PLACE


def write_edited(path, values):
    """Write values in the place of a file, without the checksum of what was there."""
    path.write_text(json.dumps({name: one for name, one in values.items() if name != CHECKSUM}))


def edited_lines(path):
    """The objects of a file of JSON lines, to be written as a person or an earlier version would:
    without checksums, and without their places among lines."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in (CHECKSUM, PLACE)} for line in lines]


def as_earlier(path):
    """Make a file of JSON lines one of an earlier version."""
    path.write_text("".join(json.dumps(line) + "\n" for line in edited_lines(path)))


def edit(path, **changes):
    """Change entries of a file, and remove its checksum."""
    write_edited(path, json.loads(path.read_text()) | changes)
