# SPDX-License-Identifier: Apache-2.0
"""Files of JSON that a person edited."""

import json

from pippin.system.formats import CHECKSUM


def write_edited(path, values):
    """Write values in the place of a file, without the checksum of what was there."""
    path.write_text(json.dumps({name: one for name, one in values.items() if name != CHECKSUM}))


def edit(path, **changes):
    """Change entries of a file, and remove its checksum."""
    write_edited(path, json.loads(path.read_text()) | changes)
