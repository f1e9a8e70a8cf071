# SPDX-License-Identifier: Apache-2.0
"""From the name of an autoencoder to a folder with its config.json and weights."""

from importlib.resources import as_file, files
from pathlib import Path

from pippin.encoders.config import AutoencoderConfig

SHIPPED_PREFIX = "pippin/"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
CONFIG_FILE = "config.json"


def shipped_autoencoders() -> list[str]:
    """Names of the autoencoders inside the package."""
    folders = (files("pippin.encoders") / "weights").iterdir()
    return sorted(SHIPPED_PREFIX + f.name for f in folders if (f / WEIGHTS_FILE).is_file())


def find_autoencoder(config: AutoencoderConfig) -> Path:
    """The folder that ``config.source`` names; a hub name is fetched into the hub's cache.

    Raises:
        ValueError: nothing is there; the message says what may be given.
    """
    source = config.source
    if source.startswith(SHIPPED_PREFIX):
        folder = _shipped_folder(source)
    elif Path(source).is_dir():
        folder = Path(source)
    else:
        folder = _hub_folder(source, config.revision)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(
                f"autoencoder {source!r}: {folder} has no {name}; wanted is a folder in "
                "diffusers' AutoencoderKL format with safetensors weights"
            )
    return folder


def _shipped_folder(source: str) -> Path:
    names = shipped_autoencoders()
    if source not in names:
        raise ValueError(f"no autoencoder {source!r} is shipped; there are: {', '.join(names)}")
    place = files("pippin.encoders") / "weights" / source.removeprefix(SHIPPED_PREFIX)
    with as_file(place) as folder:
        return folder


def _hub_folder(source: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            source, revision=revision, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE]
        )
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no autoencoder {source!r}: it is not a folder here, and the hub does not give it "
            f"({reason}). Allowed: {', '.join(shipped_autoencoders())}, a local folder in "
            "diffusers' AutoencoderKL format, or the hub name of one"
        ) from error
    return Path(found)
