# SPDX-License-Identifier: Apache-2.0
"""Archives that are encoded without unpacking."""

import pytest
from archives import archive
from streamed_shards import samples


@pytest.fixture
def shards(tmp_path):
    """Three archives of six images; the last has the bytes of the first image too."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        rows = samples(6 * number, 6)
        if number == 2:
            rows[1] = samples(0, 1)[0]
        (folder / f"{number:02d}.tar").write_bytes(archive(rows))
    return folder
