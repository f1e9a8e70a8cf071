# SPDX-License-Identifier: Apache-2.0
"""The folder of samples, where the user names none."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pippin.config import fingerprint
from pippin.run.sample_folder import differing_entries, read_manifest


def free_samples_path(path: Path, protocol: Mapping[str, Any]) -> Path:
    """The folder itself, or if it holds images of another protocol, a folder beside it.

    That one is named after the protocol, such as ``samples-dpm++-16-1a2b3c4d``: solver, steps and
    the first eight digits of the fingerprint. The same settings therefore find it again.

    Raises:
        ValueError: the manifest is damaged.
        FormatError: the manifest is of a newer version.
    """
    manifest = read_manifest(path)
    if manifest is None or not differing_entries(manifest.protocol, protocol):
        return path
    solver, steps = (protocol.get(f"sampling.{name}") for name in ("solver", "steps"))
    return path.with_name(f"{path.name}-{solver}-{steps}-{fingerprint(protocol)[:8]}")
