# SPDX-License-Identifier: Apache-2.0
"""Files of hub models: downloaded into the hub's cache, or read from it in offline mode."""

from collections.abc import Sequence
from pathlib import Path

from pippin.system.offline import is_offline, offline_reason, online_advice


class SnapshotError(ValueError):
    """Error for a hub model that is not available; the message gives the reason and the remedy."""


class DamagedSnapshotError(SnapshotError):
    """Error for a hub model of which a file in the cache is damaged."""


def find_snapshot(name: str, patterns: Sequence[str], revision: str | None = None) -> Path:
    """Folder of a hub model in the hub's cache, with the files that match the patterns.

    Files that the cache lacks are downloaded, unless pippin is offline.

    Args:
        name: hub name.
        patterns: patterns of file names; files of no pattern are not downloaded.
        revision: branch, tag or commit; None = the default branch.

    Raises:
        SnapshotError: no such model or no network, or offline and not in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(patterns),
            local_files_only=is_offline(),
        )
    except LocalEntryNotFoundError as error:
        if is_offline():
            raise missing_offline(name, revision) from error
        raise SnapshotError(f"could not be downloaded ({_first_line(error)})") from error
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise SnapshotError(f"could not be downloaded ({_first_line(error)})") from error
    return Path(folder)


def missing_offline(name: str, revision: str | None = None) -> SnapshotError:
    """Error for a model that the hub's cache lacks, or holds in part, in offline mode."""
    from huggingface_hub.constants import HF_HUB_CACHE

    command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    return SnapshotError(
        f"is not complete in the hub's cache {HF_HUB_CACHE}; {offline_reason()} and downloads "
        f"nothing: type `{command}` with network access, or {online_advice()}"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
