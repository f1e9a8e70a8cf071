# SPDX-License-Identifier: Apache-2.0
"""Encoders inside an exported folder, so that it can be sampled on another machine.

An export contains the autoencoder, unless the package ships it, and text encoders of local
folders. Its config.json stays the recipe as it was trained; the encoders inside the export take
precedence over the names there.
"""

import shutil
from pathlib import Path

from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import SHIPPED_PREFIX
from pippin.encoders.hub import FILES
from pippin.encoders.source import CONFIG_FILE, find_autoencoder
from pippin.encoders.text import encoder_folders
from pippin.recipes.recipe import Recipe
from pippin.runs.exports import AUTOENCODER_FOLDER, TEXT_FOLDER, TOKENIZER_FOLDER
from pippin.runs.folder import AUTOENCODER, TEXT
from pippin.runs.inputs import reads_text
from pippin.system.files import make_folder, sync_tree
from pippin.system.weight_folders import DIFFUSERS, find_weights

AUTOENCODER_FILES = (CONFIG_FILE, f"{DIFFUSERS}*.safetensors*")
"""Patterns of an autoencoder's files."""


def bundled_paths(folder: Path, recipe: Recipe) -> dict[str, str]:
    """Setting -> path, of the encoders inside an exported folder."""
    paths = {AUTOENCODER: folder / AUTOENCODER_FOLDER}
    for index in range(len(recipe.text.source)):
        paths[f"{TEXT}.{index}"] = folder / f"{TEXT_FOLDER}{folder_suffix(index)}"
    return {name: str(path) for name, path in paths.items() if (path / CONFIG_FILE).is_file()}


def bundle_encoders(
    located: Recipe,
    folder: Path,
    *,
    text_encoders: bool = True,
    fetch: bool = True,
    autoencoder: str | None = None,
) -> list[str]:
    """Copy the encoders that a recipe's models need into an exported folder.

    Args:
        located: the recipe with resolved paths.
        folder: the export.
        text_encoders: copy text encoders of local folders; names of the hub and of packages stay
            names.
        fetch: copy also an autoencoder of the hub.
        autoencoder: required fingerprint of the autoencoder; None = unknown.

    Returns:
        Notes on what sampling has to fetch or the user has to give elsewhere.

    Raises:
        ValueError: the autoencoder is not the one of the training.
        OSError: disk full or not writable, or a file that cannot be read.
    """
    notes = _bundle_autoencoder(located, folder, fetch=fetch, fingerprint=autoencoder)
    if not reads_text(located):
        return notes
    for index, source in enumerate(located.text.source):
        if not Path(source).is_dir():
            if not source.startswith(SHIPPED_PREFIX):
                notes.append(f"text encoder {source} is not in the export: sampling fetches it")
        elif text_encoders:
            names = (TEXT_FOLDER, TOKENIZER_FOLDER)
            for name, files in zip(names, encoder_folders(source), strict=False):
                copy_files(files, folder / f"{name}{folder_suffix(index)}", FILES)
        else:
            notes.append(
                f"text encoder {source} is not in the export: on a machine without that folder, "
                "give --text-source to pippin sample"
            )
    return notes


def _bundle_autoencoder(
    located: Recipe, folder: Path, *, fetch: bool, fingerprint: str | None
) -> list[str]:
    source = located.autoencoder.source
    if source.startswith(SHIPPED_PREFIX) or not (fetch or Path(source).is_dir()):
        return []
    try:
        path = find_autoencoder(located.autoencoder)
    except ValueError as error:
        return [f"the export has no autoencoder: {error}; sampling needs it, or --autoencoder"]
    is_pickled = not find_weights(path).safetensors
    target = folder / AUTOENCODER_FOLDER
    if not fingerprint and not is_pickled:
        copy_files(path, target, AUTOENCODER_FILES)
        return []
    own = Autoencoder.from_folder(path, needs_statistics=False)
    check_fingerprint(source, own.fingerprint, fingerprint)
    if is_pickled:  # others need not trust it, and downloads of exports leave it out
        own.save(target)
    else:
        copy_files(path, target, AUTOENCODER_FILES)
    return []


def check_fingerprint(source: str, own: str, recorded: str | None) -> None:
    """Refuse an autoencoder that is not the one of the training.

    Args:
        source: its name, for the message.
        own: its fingerprint.
        recorded: that of the training; None or empty = unknown.

    Raises:
        ValueError: they differ.
    """
    if recorded and own != recorded:
        raise ValueError(
            f"the autoencoder {source} has the fingerprint {own}; the weights were trained with "
            f"{recorded}: give its folder with --autoencoder FOLDER"
        )


def copy_files(
    source: Path, target: Path, patterns: tuple[str, ...], skipped: tuple[str, ...] = ()
) -> None:
    """Copy files and flush them; leftovers of an interrupted export are replaced.

    Args:
        source: folder.
        target: folder, created if missing.
        patterns: of the names to copy.
        skipped: names that are not copied.
    """
    make_folder(target)
    for path in sorted({path for pattern in patterns for path in source.glob(pattern)}):
        if path.name not in skipped:
            shutil.copyfile(path, target / path.name)
    sync_tree(target)


def folder_suffix(index: int) -> str:
    """End of the folder names of an encoder by its number, as in diffusers' pipelines."""
    return f"_{index + 1}" if index else ""
