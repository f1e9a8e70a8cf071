# SPDX-License-Identifier: Apache-2.0
"""What an exported folder has inside, so that it can be sampled on another machine.

The autoencoder, unless the package has it, and text encoders that lay in a local folder.

Its config.json stays the recipe as it was trained; what is inside goes before the names there.
"""

import shutil
from pathlib import Path

from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.hub import FILES
from pippin.encoders.source import CONFIG_FILE, find_autoencoder
from pippin.encoders.text import encoder_folders
from pippin.recipes.recipe import Recipe
from pippin.run.inputs import reads_text
from pippin.run.places import AUTOENCODER, SHIPPED_PREFIX, TEXT
from pippin.system.flush import make_folder, sync_tree
from pippin.system.weight_folders import DIFFUSERS

AUTOENCODER_FOLDER, TEXT_FOLDER, TOKENIZER_FOLDER = "autoencoder", "text_encoder", "tokenizer"
"""The second encoder's end in ``_2``, as in pipelines of diffusers."""


def brought(folder: Path, recipe: Recipe) -> dict[str, str]:
    """Setting -> path, of what an exported folder has inside."""
    places = {AUTOENCODER: folder / AUTOENCODER_FOLDER}
    for place in range(len(recipe.text.source)):
        places[f"{TEXT}.{place}"] = folder / f"{TEXT_FOLDER}{_suffix(place)}"
    return {one: str(path) for one, path in places.items() if (path / CONFIG_FILE).is_file()}


def bring(
    located: Recipe,
    folder: Path,
    *,
    text_encoders: bool = True,
    fetch: bool = True,
    autoencoder: str | None = None,
) -> list[str]:
    """Copy what a recipe's models need into an exported folder.

    Args:
        located: the recipe with its paths as they lead from here.
        folder: of the export.
        text_encoders: also those of a local folder; names of the hub and of packages stay names.
        fetch: also an autoencoder that is named by the hub.
        autoencoder: the fingerprint that it must have; None = not known.

    Returns:
        What has to be fetched or given where the export is sampled, as sentences.

    Raises:
        ValueError: another autoencoder lies where that of the training was.
        OSError: disk full or not writable, or a file that cannot be read.
    """
    notes = _bring_autoencoder(located, folder, fetch=fetch, wanted=autoencoder)
    if not reads_text(located):
        return notes
    for place, source in enumerate(located.text.source):
        if not Path(source).is_dir():
            if not source.startswith(SHIPPED_PREFIX):
                notes.append(f"text encoder {source} is not in the export: sampling fetches it")
        elif text_encoders:
            names = (TEXT_FOLDER, TOKENIZER_FOLDER)
            for name, files in zip(names, encoder_folders(source), strict=False):
                _copy(files, folder / f"{name}{_suffix(place)}", FILES)
        else:
            notes.append(
                f"text encoder {source} is not in the export: where that folder is not, give "
                "--text-source to pippin sample"
            )
    return notes


def _bring_autoencoder(
    located: Recipe, folder: Path, *, fetch: bool, wanted: str | None
) -> list[str]:
    source = located.autoencoder.source
    if source.startswith(SHIPPED_PREFIX) or not (fetch or Path(source).is_dir()):
        return []
    try:
        found = find_autoencoder(located.autoencoder)
    except ValueError as error:
        return [f"the export has no autoencoder: {error}; sampling needs it, or --autoencoder"]
    if wanted is not None and (there := Autoencoder.from_folder(found).fingerprint) != wanted:
        raise ValueError(
            f"the autoencoder {source} has the fingerprint {there}; the weights were trained with "
            f"{wanted}: give its folder with --autoencoder FOLDER"
        )
    _copy(found, folder / AUTOENCODER_FOLDER, (CONFIG_FILE, f"{DIFFUSERS}*"))
    return []


def _copy(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    """Copy files and flush them; whatever an export that was killed left is replaced."""
    make_folder(target)
    for path in sorted({path for pattern in patterns for path in source.glob(pattern)}):
        shutil.copyfile(path, target / path.name)
    sync_tree(target)


def _suffix(place: int) -> str:
    return f"_{place + 1}" if place else ""
