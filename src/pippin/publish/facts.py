# SPDX-License-Identifier: Apache-2.0
"""Facts of a trained model for its card, read from its weights, recipe and recorded measures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.data.config import ImagesConfig, NoDataConfig, OpenMojiConfig, ShapesConfig
from pippin.encoders.config import SHIPPED_PREFIX
from pippin.reports.report_data import open_source
from pippin.runs.folder import path_settings
from pippin.runs.hub_source import is_hub_source, parse_hub_source
from pippin.runs.inputs import reads_classes, reads_text
from pippin.runs.overview import nearest_recipe
from pippin.runs.trained import Trained
from pippin.studies.results import Row

SHARE_ALIKE = "cc-by-sa-4.0"
"""Licence of OpenMoji's drawings, which what is adapted from them keeps."""
OPENMOJI = "openmoji"
ART_LICENCES = {
    OPENMOJI: "OpenMoji (https://openmoji.org), CC BY-SA 4.0",
    "twemoji": "Twemoji (https://github.com/jdecked/twemoji), CC BY 4.0",
}


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Licences as the author states them."""

    model: str | None = None
    """Identifier of the hub, such as cc-by-4.0; None = not stated."""
    link: str | None = None
    """Address of the text, for the identifier other."""
    data: str | None = None
    """Licence of the training images; None = not stated."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Facts that every card states, whatever folder it is for."""

    trained: Trained
    dtype: str = "float32"
    """Type of the weights on disk."""
    licence: Licence = Licence()
    measures: tuple[Row, ...] = ()
    """Measures of exactly these weights."""
    samples: tuple[Mapping[str, Any], ...] = ()
    """Rows of the sample grid, in order: seed, and prompt or class."""
    samples_sampling: str = ""
    """How the grid was sampled, in words."""
    bundled: tuple[str, ...] = ()
    """Encoders inside the folder."""

    @property
    def num_parameters(self) -> int:
        """Number of parameters of denoiser and conditioner."""
        return sum(tensor.numel() for tensor in self.trained.tensors.values())

    @property
    def reads_text(self) -> bool:
        """Whether the model reads prompts."""
        return self._is_conditional and reads_text(self.trained.recipe)

    @property
    def reads_classes(self) -> bool:
        """Whether the model reads classes."""
        return self._is_conditional and reads_classes(self.trained.recipe)

    @property
    def is_converted(self) -> bool:
        """Whether others trained the weights: the recipe then records no training."""
        return isinstance(self.trained.recipe.data, NoDataConfig)

    @property
    def _is_conditional(self) -> bool:
        return bool(self.trained.recipe.conditioning.rules)

    @property
    def recipe_name(self) -> str:
        """Nearest recipe, and the number of settings that differ."""
        name, _, changes = nearest_recipe(self.trained.recipe).partition(" + ")
        return f"{name}, {changes} settings differ" if changes else name

    @property
    def base_models(self) -> tuple[str, ...]:
        """Hub names of the weights that it descends from, oldest first."""
        sources = [str(parent["source"]) for parent in self.trained.lineage]
        names = [parse_hub_source(s).name for s in sources if is_hub_source(s)]
        return tuple(dict.fromkeys(names))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty where they are unknown or not read."""
        inputs = self.trained.inputs
        return inputs.data.class_names if inputs is not None and self.reads_classes else ()

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the text encoders of a model that reads text."""
        sources = self.trained.recipe.text.source if self.reads_text else ()
        return tuple(map(public_name, sources))


def collect_facts(
    trained: Trained, dtype: str = "float32", licence: Licence | None = None
) -> CardFacts:
    """Facts of a model before a folder for it is written.

    Args:
        trained: the model; measures are read from the folder of its run.
        dtype: type of the weights on disk.
        licence: licences as the author states them; a missing one of the weights is that which
            follows from the training, if one does.
    """
    stated = licence or Licence()
    model = stated.model or known_licence(trained)
    return CardFacts(
        trained=trained,
        dtype=dtype,
        licence=Licence(model=model, link=stated.link, data=stated.data),
        measures=measures_of(trained),
    )


def known_licence(trained: Trained) -> str | None:
    """Licence that follows from the training; None where the author has to state it.

    Only drawings of OpenMoji decide it: they are share-alike. Weights that others have made may
    have terms of their own.
    """
    own = all(str(p["source"]).startswith(SHIPPED_PREFIX) for p in trained.lineage)
    return SHARE_ALIKE if own and _is_share_alike(trained) else None


def _is_share_alike(trained: Trained) -> bool:
    """Whether the training images are share-alike."""
    data = trained.recipe.data
    return isinstance(data, OpenMojiConfig) and OPENMOJI in data.art


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


def measures_of(trained: Trained) -> tuple[Row, ...]:
    """Measures of exactly these weights that the folder of their run records."""
    folder = Path(trained.source)
    if is_hub_source(trained.source) or not (folder / "results.jsonl").is_file():
        return ()
    rows = open_source(folder).results.rows
    return tuple(row for row in rows if row.protocol.get("model.sha256") == trained.sha256)


def public_name(source: str) -> str:
    """A source without the folders that only the author has: the last part of a path."""
    return Path(source).name if is_private_path(source) else source


def is_private_path(text: str) -> bool:
    """Whether a text is a path of the author's machine."""
    return text.startswith(("~", "file:")) or Path(text).is_absolute()


def public_notes(facts: CardFacts, folder: str | None = "") -> list[str]:
    """Notes for the author on what a folder shows to everyone, and on what its card lacks.

    Args:
        facts: with the bundled encoders.
        folder: the exported folder inside the published one, such as ``model/``; None = there is
            none, so nothing names paths.
    """
    trained, licence = facts.trained, facts.licence.model
    paths = {} if folder is None else _named_paths(trained)
    notes = [
        f"everyone can read a path of this machine: {folder}{place} {path}"
        for place, path in paths.items()
    ]
    if facts.bundled:
        notes.append(
            f"the folder includes {', '.join(facts.bundled)}: check that their licences allow it"
        )
    if _is_share_alike(trained) and licence not in (None, SHARE_ALIKE):
        notes.append(
            f"the training images are OpenMoji's, whose licence {SHARE_ALIKE} is share-alike; the "
            f"model card states {licence}: check that you may"
        )
    if licence is None:
        notes.append("the model card states no licence of the weights: give --license ID")
    if not facts.measures:
        notes.append("the model card has no measures: `pippin evaluate` records those of a run")
    return notes


def _named_paths(trained: Trained) -> dict[str, str]:
    """File and setting -> absolute path, of those that an exported folder states to everyone."""
    paths = {f"config.json: {name}": path for name, path in path_settings(trained.recipe).items()}
    paths |= {
        f"model.safetensors: ancestor {number}": str(parent["source"])
        for number, parent in enumerate(trained.lineage, 1)
    }
    return {name: path for name, path in paths.items() if is_private_path(path)}
