# SPDX-License-Identifier: Apache-2.0
"""Trained weights, wherever they lie: a run folder, an exported folder, a shipped model.

An exported folder holds ``config.json`` (the recipe) and ``model.safetensors``, whose metadata say
which weights these are, how many images they have seen, from which weights their run started, and
their digest; ``inputs.json`` with the class names; and what :mod:`pippin.run.brought` puts there.
Models inside the package are exported folders with a name that starts with ``pippin/``; their
digests are in ``models/sha256.json``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.data.config import NoDataConfig
from pippin.encoders.statistics import LatentStatistics
from pippin.model import LatentDenoiser
from pippin.recipes.latents import known_patches_a_side
from pippin.recipes.recipe import Recipe
from pippin.run.brought import bring, brought
from pippin.run.export_facts import SHA256, damaged, read_facts, sealed
from pippin.run.export_folder import unfinished_export
from pippin.run.folder import INPUTS_FILE, RunFolder
from pippin.run.inputs import RunInputs, inputs_in, merged, read_inputs
from pippin.run.kinds import check_kind, weights_in_words
from pippin.run.latents import LATENTS, stored_latents
from pippin.run.places import locate
from pippin.sampling.config import SamplingConfig
from pippin.system.tensors import recorded_digest, save_tensors, tensors_digest
from pippin.system.weight_checks import check_finite
from pippin.training.checkpoint import load_state, load_weights, newest_good

SHIPPED_PREFIX = "pippin/"
WEIGHTS_FILE = "model.safetensors"
NULL_CAPTIONS = ("conditioner.text_tokens.null", "conditioner.text_vector.null")
"""Features of an encoder's empty caption, or learned ones: rounded, they would be no caption's."""
CLASS_TABLES = ("conditioner.label_vector.weight", "conditioner.label_tokens.weight")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Weights with what is known of them."""

    source: str
    """As the user named it."""
    recipe: Recipe
    tensors: dict[str, Tensor]
    """By parameter name, fp32."""
    weights: str
    images_seen: int
    lineage: tuple[dict[str, Any], ...]
    """What the run itself started from, oldest first; see :meth:`as_parent`."""
    average: str | None = None
    """Which average ``ema`` weights are, where that is known, such as ema-share-0.05."""
    latents: LatentStatistics | None = None
    """What normalised the latents they were trained on; None = the autoencoder's own numbers."""
    passed_over: tuple[str, ...] = ()
    """Why newer checkpoints of the run could not be used."""
    verified: bool = True
    """Whether they have a recorded digest; exports of earlier versions have none."""
    inputs: RunInputs | None = None
    """Class names, hashes of data and encoders; None where an older version kept none."""
    brought: Mapping[str, str] = field(default_factory=dict)
    """Setting -> path, of what an exported folder has inside."""

    @property
    def places(self) -> dict[str, str]:
        """Setting -> path that it leads to."""
        return {**(self.inputs.places if self.inputs else {}), **self.brought}

    @property
    def located(self) -> Recipe:
        """The recipe with its paths as they lead from here."""
        return locate(self.recipe, self.places)

    @property
    def num_classes(self) -> int | None:
        """Of the class table; None for a model that has none."""
        rows = [len(self.tensors[name]) for name in CLASS_TABLES if name in self.tensors]
        return rows[0] - 1 if rows else None  # the last row is the null class

    @cached_property
    def sha256(self) -> str:
        """Over names and values, the same for a checkpoint and its export in fp32."""
        return tensors_digest(self.tensors)

    @property
    def said(self) -> str:
        """Which weights, and at how many images, in words."""
        return weights_in_words(self.weights, self.average, self.images_seen)

    def as_parent(self) -> tuple[dict[str, Any], ...]:
        """The lineage of a run that starts here: one entry for each ancestor, oldest first, with
        what is needed to count image tokens; ``images_seen`` 0 = not known."""
        side = known_patches_a_side(self.located)
        own = {
            "source": self.source,
            "weights": self.weights,
            "images_seen": self.images_seen,
            "resolution": self.recipe.data.resolution,
            "tokens_per_image": None if side is None else side**2,
            "sha256": self.sha256,
        }
        if self.average is not None:
            own["average"] = self.average
        return (*self.lineage, own)

    def check_fit(self, model: LatentDenoiser) -> None:
        """Refuse a model that has other tensors, and weights that are no numbers.

        Raises:
            ValueError: names or shapes differ, or numbers are not finite; the message lists the
                first few.
        """
        wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
        given = {name: tuple(t.shape) for name, t in self.tensors.items()}
        odd = sorted(name for name in {*wanted, *given} if wanted.get(name) != given.get(name))
        if odd:
            lines = "".join(
                f"\n  {name}: {_shape(given.get(name))} in the weights, "
                f"{_shape(wanted.get(name))} in the model"
                for name in odd[:5]
            )
            raise ValueError(
                f"the weights of {self.source} do not fit this model; tensors that differ: "
                f"{len(odd)}{lines}\nuse the denoiser, conditioning and classes of their recipe"
            )
        check_finite(self.tensors, self.source)

    def load_into(self, model: LatentDenoiser) -> None:
        """Set all weights of a model.

        Raises:
            ValueError: as :meth:`check_fit`.
        """
        self.check_fit(model)
        model.load_state_dict(self.tensors)


def shipped_models() -> list[str]:
    """Names of the models inside the package."""
    folders = files("pippin") / "models"
    if not folders.is_dir():
        return []
    return sorted(
        SHIPPED_PREFIX + folder.name
        for folder in folders.iterdir()
        if (folder / WEIGHTS_FILE).is_file()
    )


def trained_recipe(source: str) -> Recipe:
    """The recipe that trained weights were made by.

    Raises:
        ValueError: nothing of that name.
    """
    return RunFolder(_folder(source)).recipe()


def trained_sampling(source: str, recipe: Recipe) -> SamplingConfig:
    """The sampling of a recipe, by the weights that there are: an exported or shipped model has
    one kind only, whatever its recipe samples from.

    Raises:
        ValueError: nothing of that name, or the export is damaged.
    """
    path = _folder(source) / WEIGHTS_FILE
    if not path.is_file():
        return recipe.sampling
    return replace(recipe.sampling, weights=read_facts(path)["weights"])


def open_trained(source: str, weights: str | None = None) -> Trained:
    """The weights of a run's newest good checkpoint, or of an exported or shipped model.

    Args:
        source: a run folder, an exported folder, or a name that starts with ``pippin/``.
        weights: ema, raw, or the name of a further average, see ``train.ema_extra``; None = what
            an exported model has, and ema of a run.

    Raises:
        ValueError: nothing of that name, no usable checkpoint, damaged weights, or not the kind
            asked for.
    """
    folder = _folder(source)
    recipe = RunFolder(folder).recipe()
    if (folder / WEIGHTS_FILE).is_file():
        return _exported(source, folder, recipe, weights)
    weights = weights or "ema"
    path, problems = newest_good(RunFolder(folder).checkpoints)
    if path is None:
        if not problems:
            raise ValueError(f"{source} has no checkpoint yet; train it to at least one first")
        reasons = "".join(f"\n  passed over: {problem}" for problem in problems)
        raise ValueError(
            f"{source} has no usable checkpoint: put one back, or train in another folder{reasons}"
        )
    state = load_state(path)
    return Trained(
        source=source,
        recipe=recipe,
        tensors=load_weights(path, weights, verified=True),
        weights=weights,
        images_seen=state["images_seen"],
        lineage=tuple(state.get("lineage", ())),
        average=_trained_average(recipe, weights),
        latents=stored_latents(state, path),
        passed_over=tuple(problems),
        inputs=merged(inputs_in(state, str(path)), folder),
    )


def export(
    trained: Trained,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    *,
    text_encoders: bool = True,
    fetch: bool = True,
) -> list[str]:
    """Write an exported folder; see the module's head.

    Args:
        trained: what to write.
        folder: new, empty, or left by an export of the same weights that was not finished.
        dtype: of the weights on disk; loading casts them to fp32. A null caption stays as it is.
        text_encoders, fetch: what is copied besides, see :func:`pippin.run.brought.bring`.

    Returns:
        What it lacks where it is sampled elsewhere, as sentences.

    Raises:
        ValueError: the folder has other files already.
        OSError: disk full or not writable; the same call goes on.
    """
    tensors = {
        name: value if name in NULL_CAPTIONS else value.to(dtype)
        for name, value in trained.tensors.items()
    }
    facts = {
        "weights": trained.weights,
        "images_seen": trained.images_seen,
        "lineage": list(trained.lineage),
        "average": trained.average,
        SHA256: tensors_digest({name: value.float() for name, value in tensors.items()}),
    }
    if trained.latents is not None:
        facts[LATENTS] = trained.latents.to_dict()
    with unfinished_export(folder, facts):
        notes = bring(
            trained.located,
            folder,
            text_encoders=text_encoders,
            fetch=fetch,
            autoencoder=None if trained.inputs is None else trained.inputs.autoencoder,
        )
        if trained.inputs is not None:
            trained.inputs.save(folder / INPUTS_FILE)
        save_tensors(folder / WEIGHTS_FILE, tensors, metadata=sealed(facts))
        trained.recipe.save(folder / "config.json")
    return notes


def _exported(source: str, folder: Path, recipe: Recipe, weights: str | None) -> Trained:
    path = folder / WEIGHTS_FILE
    facts = read_facts(path)
    check_kind(source, facts["weights"], weights)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise damaged(path, str(error)) from error
    trained = Trained(
        source=source,
        recipe=recipe,
        tensors=tensors,
        weights=facts["weights"],
        images_seen=facts["images_seen"],
        lineage=tuple(facts["lineage"]),
        average=facts["average"] or _trained_average(recipe, facts["weights"]),
        inputs=read_inputs(folder),
        brought=brought(folder, recipe),
        latents=stored_latents(facts, path),
    )
    recorded = facts[SHA256]
    if recorded is None and source.startswith(SHIPPED_PREFIX):
        recorded = recorded_digest(folder)
    if recorded is None:
        return replace(trained, verified=False)
    if trained.sha256 != recorded:
        raise damaged(path, "the sha256 of its weights is not the recorded one")
    return trained


def _trained_average(recipe: Recipe, weights: str) -> str | None:
    """Which average ``ema`` is of a run; of converted weights the recipe does not know it."""
    if weights != "ema" or isinstance(recipe.data, NoDataConfig):
        return None
    return recipe.train.ema.name


def _folder(source: str) -> Path:
    if not source.startswith(SHIPPED_PREFIX):
        return Path(source)
    if source not in shipped_models():
        names = ", ".join(shipped_models()) or "none"
        raise ValueError(f"no model {source!r} is shipped; there are: {names}")
    place = files("pippin") / "models" / source.removeprefix(SHIPPED_PREFIX)
    with as_file(place) as folder:
        return folder


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))
