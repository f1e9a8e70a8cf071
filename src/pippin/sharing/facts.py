# SPDX-License-Identifier: Apache-2.0
"""Facts of a trained model for its card, read from its weights, recipe and recorded measures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.data.config import ImagesConfig, OpenMojiConfig, ShapesConfig
from pippin.encoders.config import HUB_PREFIX, SHIPPED_PREFIX
from pippin.reports.report_data import open_source
from pippin.runs.folder import path_settings
from pippin.runs.hub_source import parse_hub_source
from pippin.runs.inputs import reads_classes, reads_text
from pippin.runs.overview import nearest_recipe
from pippin.runs.trained import Trained
from pippin.studies.results import Row

SHARE_ALIKE = "cc-by-sa-4.0"
"""Licence of OpenMoji's drawings, which what is adapted from them keeps."""
ART_LICENCES = {
    "openmoji": "OpenMoji (https://openmoji.org), CC BY-SA 4.0",
    "twemoji": "Twemoji (https://github.com/jdecked/twemoji), CC BY 4.0",
}


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Licences as the author states them."""

    model: str
    """Identifier of the hub, such as cc-by-4.0."""
    link: str | None = None
    """Address of the text, for the identifier other."""
    data: str | None = None
    """Licence of the training images; None = not stated."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Everything that a model card states."""

    name: str
    """USER/NAME."""
    revision: str | None = None
    licence: Licence
    trained: Trained
    num_parameters: int
    dtype: str
    """Type of the weights on disk."""
    measures: tuple[Row, ...] = ()
    """Measures of exactly these weights."""
    samples: tuple[Mapping[str, Any], ...] = ()
    """Rows of the sample grid, in order: seed, and prompt or class."""
    samples_sampling: str = ""
    """How the grid was sampled, in words."""
    bundled: tuple[str, ...] = ()
    """Encoders inside the folder."""

    @property
    def source(self) -> str:
        """Name by which others load the model."""
        return HUB_PREFIX + self.name + (f"@{self.revision}" if self.revision else "")

    @property
    def reads_text(self) -> bool:
        """Whether the model reads prompts."""
        return reads_text(self.trained.recipe)

    @property
    def reads_classes(self) -> bool:
        """Whether the model reads classes."""
        return reads_classes(self.trained.recipe)

    @property
    def recipe_name(self) -> str:
        """Nearest recipe, and the number of settings that differ."""
        name, _, changes = nearest_recipe(self.trained.recipe).partition(" + ")
        return f"{name}, {changes} settings differ" if changes else name

    @property
    def base_models(self) -> tuple[str, ...]:
        """Hub names of the weights that it descends from, oldest first."""
        sources = [str(parent["source"]) for parent in self.trained.lineage]
        names = [parse_hub_source(s).name for s in sources if s.startswith(HUB_PREFIX)]
        return tuple(dict.fromkeys(names))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty where they are unknown or not read."""
        inputs = self.trained.inputs
        return inputs.data.class_names if inputs is not None and self.reads_classes else ()


def known_licence(trained: Trained) -> str | None:
    """Licence that follows from the training; None where the author has to state it.

    Only drawings of OpenMoji decide it: they are share-alike. Weights that others have made may
    have terms of their own.
    """
    own = all(str(p["source"]).startswith(SHIPPED_PREFIX) for p in trained.lineage)
    is_openmoji = isinstance(trained.recipe.data, OpenMojiConfig)
    return SHARE_ALIKE if own and is_openmoji else None


def data_words(facts: CardFacts) -> tuple[str, str]:
    """(what the training images were, their licence), in words."""
    data, inputs = facts.trained.recipe.data, facts.trained.inputs
    stated = facts.licence.data
    count = "" if inputs is None else f"{inputs.data.train.images:,} training images of "
    if isinstance(data, OpenMojiConfig):
        licences = "; ".join(ART_LICENCES[art] for art in data.art)
        return f"{count}drawings of emoji, rendered by pippin", stated or licences
    if isinstance(data, ShapesConfig):
        return (
            f"{count}shapes that pippin draws",
            stated or "drawn by a program, no images of others",
        )
    unknown = "not stated by the author"
    if isinstance(data, ImagesConfig):
        return f"{count}{data.dataset or 'a custom data set'}", stated or unknown
    return "not recorded: the weights were converted", stated or unknown


def measures_of(trained: Trained, folder: Path) -> tuple[Row, ...]:
    """Recorded measures of exactly these weights; empty where the folder has none.

    Args:
        trained: the weights.
        folder: folder of the run, with ``results.jsonl``.
    """
    if not (folder / "results.jsonl").is_file():
        return ()
    rows = open_source(folder).results.rows
    return tuple(row for row in rows if row.protocol.get("model.sha256") == trained.sha256)


def public_name(source: str) -> str:
    """A source without the folders that only the author has: the last part of an absolute path."""
    return Path(source).name if Path(source).is_absolute() else source


def named_paths(trained: Trained) -> dict[str, str]:
    """File and setting -> absolute path, of those that the pushed files state to everyone."""
    paths = {f"config.json: {name}": path for name, path in path_settings(trained.recipe).items()}
    paths |= {
        f"model.safetensors: ancestor {number}": str(parent["source"])
        for number, parent in enumerate(trained.lineage, 1)
    }
    return {name: path for name, path in paths.items() if Path(path).is_absolute()}
