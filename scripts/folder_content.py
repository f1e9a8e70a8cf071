# SPDX-License-Identifier: Apache-2.0
"""Hash over the names and bytes of a folder's files, for scripts that compare outputs."""

import hashlib
from pathlib import Path


def content(folder: Path) -> str:
    """Hash over names and bytes of all files but locks, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "lock":
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
