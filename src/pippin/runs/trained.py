# SPDX-License-Identifier: Apache-2.0
"""Trained weights of a run folder, an exported folder or a shipped model.

An exported folder contains ``config.json`` (the recipe) and ``model.safetensors``, whose metadata
record the kind of the weights, the number of images seen, the lineage and the digest. It also
contains ``inputs.json`` with the class names, and the encoders of
:mod:`pippin.runs.bundled_encoders`. Models inside the package are exported folders with a name
that starts with ``pippin/``; their digests are in ``models/sha256.json``. Models of the hub are
exported folders in the hub's cache (:mod:`pippin.runs.hub_source`).
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
from pippin.encoders.config import SHIPPED_PREFIX
from pippin.encoders.statistics import LatentStatistics
from pippin.model import LatentDenoiser, sampled_tensors, stored_num_classes
from pippin.recipes.recipe import Recipe, known_patches_per_side
from pippin.runs.bundled_encoders import bundle_encoders, bundled_paths
from pippin.runs.checkpoint import load_weights
from pippin.runs.checkpoint_state import load_state, weight_names
from pippin.runs.exports import (
    SHA256,
    WEIGHTS_FILE,
    check_weight_kind,
    damaged_error,
    describe_weights,
    export_metadata,
    read_facts,
    writing_export,
)
from pippin.runs.folder import INPUTS_FILE, RunFolder, locate
from pippin.runs.hub_source import is_hub_source, model_folder, pinned_name, settings_folder
from pippin.runs.inputs import RunInputs, inputs_in, read_inputs, with_folder_paths
from pippin.runs.latents import LATENTS, stored_latents
from pippin.runs.storage.averages import load_average
from pippin.runs.storage.held_checkpoint import held_checkpoint, no_checkpoint_error
from pippin.sampling.config import SamplingConfig
from pippin.system.tensors import recorded_digest, save_tensors, tensors_digest
from pippin.system.weight_checks import check_finite

NULL_CAPTIONS = ("conditioner.text_tokens.null", "conditioner.text_vector.null")
"""Features of the null caption; they stay fp32, since rounding would change them."""
POWER_PREFIX = "ema-power-"
"""Begin of the names of averages by relative width, which may be reconstructed."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Weights and their metadata."""

    source: str
    """As the user named it; a model of the hub with its commit."""
    recipe: Recipe
    tensors: dict[str, Tensor]
    """By parameter name, fp32."""
    weights: str
    images_seen: int
    lineage: tuple[dict[str, Any], ...]
    """Lineage of the run's own initial weights, oldest first; see :meth:`as_parent`."""
    average: str | None = None
    """Name of the average that ``ema`` weights are, where known, such as ema-share-0.05."""
    latents: LatentStatistics | None = None
    """Latent statistics of the training; None = the autoencoder's own."""
    skipped_checkpoints: tuple[str, ...] = ()
    """Reasons why newer checkpoints of the run were skipped."""
    verified: bool = True
    """Whether there is a recorded digest; exports of earlier versions have none."""
    inputs: RunInputs | None = None
    """Class names, hashes of data and encoders; None where an older version kept none."""
    bundled_paths: Mapping[str, str] = field(default_factory=dict)
    """Setting -> path, of the encoders inside an exported folder."""

    @property
    def places(self) -> dict[str, str]:
        """Setting -> resolved path."""
        return {**(self.inputs.places if self.inputs else {}), **self.bundled_paths}

    @property
    def located(self) -> Recipe:
        """The recipe with resolved paths."""
        return locate(self.recipe, self.places)

    @property
    def num_classes(self) -> int | None:
        """Number of classes by the class table; None for a model that has none."""
        return stored_num_classes({name: value.shape for name, value in self.tensors.items()})

    @cached_property
    def sha256(self) -> str:
        """Digest of names and values, the same for a checkpoint and its export in fp32."""
        return tensors_digest(self.tensors)

    @property
    def description(self) -> str:
        """Description of the weights and their number of images, for messages."""
        return describe_weights(self.weights, self.average, self.images_seen)

    def as_parent(self) -> tuple[dict[str, Any], ...]:
        """The lineage of a run that starts here: one entry per ancestor, oldest first, with the
        numbers that count image tokens; ``images_seen`` 0 = unknown."""
        side = known_patches_per_side(self.located)
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
        """Refuse weights that do not fit a model or are not finite.

        Raises:
            ValueError: names or shapes differ, or numbers are not finite; the message lists the
                first few.
        """
        expected = {name: tuple(p.shape) for name, p in model.named_parameters()}
        shapes = {name: tuple(t.shape) for name, t in self.tensors.items()}
        names = sorted(n for n in {*expected, *shapes} if expected.get(n) != shapes.get(n))
        if names:
            lines = "".join(
                f"\n  {name}: {_format_shape(shapes.get(name))} in the weights, "
                f"{_format_shape(expected.get(name))} in the model"
                for name in names[:5]
            )
            raise ValueError(
                f"the weights of {self.source} do not fit this model; tensors that differ: "
                f"{len(names)}{lines}\nuse the denoiser, conditioning and classes of their recipe"
            )
        check_finite(self.tensors, self.source)

    def load_into(self, model: LatentDenoiser) -> None:
        """Load all weights into a model.

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
    """The recipe of trained weights.

    Raises:
        ValueError: unknown source.
    """
    folder = settings_folder(source) if is_hub_source(source) else _folder(source)
    return RunFolder(folder).recipe()


def trained_sampling(source: str, recipe: Recipe) -> SamplingConfig:
    """The sampling of a recipe with weights that exist: an exported or shipped model has one kind
    only, whatever its recipe samples from.

    Raises:
        ValueError: unknown source, or the export is damaged.
    """
    path = _folder(source) / WEIGHTS_FILE
    if not path.is_file():
        return recipe.sampling
    return replace(recipe.sampling, weights=read_facts(path)["weights"])


def load_trained_weights(
    source: str, weights: str | None = None, checkpoint: int | None = None
) -> Trained:
    """Load the weights of a run's newest good checkpoint, or of an exported or shipped model.
    Training removes no checkpoint while it is read.

    Args:
        source: a run folder, an exported folder, a name that starts with ``pippin/``, or
            ``hf://USER/NAME@REVISION``.
        weights: ema, raw, or the name of a further average, see ``train.ema_extra``; None = the
            weights of an exported model, and ema of a run.
        checkpoint: images seen of a run's checkpoint; None = the newest good one.

    Raises:
        ValueError: unknown source, no usable checkpoint, damaged weights, another kind of
            weights, or an average that was reconstructed at another checkpoint.
    """
    folder = _folder(source)
    if is_hub_source(source):
        source = pinned_name(source, folder)  # lineage and messages name the commit
    recipe = RunFolder(folder).recipe()
    if (folder / WEIGHTS_FILE).is_file():
        if checkpoint is not None:
            raise ValueError(
                f"{source} is an exported model with one set of weights, and has no checkpoint "
                f"{checkpoint}: leave the checkpoint out, or give a run folder"
            )
        return _load_export(source, folder, recipe, weights)
    with held_checkpoint(RunFolder(folder).checkpoints, checkpoint) as (path, problems):
        if path is None:
            raise no_checkpoint_error(source, problems)
        trained = _load_checkpoint(source, recipe, path, weights or "ema", problems)
    if checkpoint not in (None, trained.images_seen):
        raise _other_average_error(trained, str(checkpoint))
    return trained


def _other_average_error(trained: Trained, checkpoint: str) -> ValueError:
    """The error of a reconstructed average that ends at another checkpoint than the chosen one."""
    width = trained.weights.removeprefix(POWER_PREFIX)
    return ValueError(
        f"{trained.source} has {trained.weights} at {trained.images_seen} images, not at "
        f"checkpoint {checkpoint}; type: pippin average {trained.source} --sigma-rel {width} "
        f"--checkpoint {checkpoint}"
    )


def _load_checkpoint(
    source: str, recipe: Recipe, path: Path, weights: str, problems: list[str]
) -> Trained:
    """Weights of a verified checkpoint of a run."""
    folder, state = path.parent.parent, load_state(path)
    tensors, images_seen = _run_weights(RunFolder(folder), path, weights)
    return Trained(
        source=source,
        recipe=recipe,
        tensors=tensors,
        weights=weights,
        images_seen=images_seen,
        lineage=tuple(state.get("lineage", ())),
        average=_trained_average(recipe, weights),
        latents=stored_latents(state, path),
        skipped_checkpoints=tuple(problems),
        inputs=with_folder_paths(inputs_in(state, str(path)), folder),
    )


def _run_weights(run: RunFolder, path: Path, weights: str) -> tuple[dict[str, Tensor], int]:
    """Weights of a verified checkpoint, or an average that was reconstructed for the run, with the
    images that they have seen."""
    state = load_state(path)
    names = weight_names(state)
    reconstructed = run.average(weights)
    if weights in names or not weights.startswith(POWER_PREFIX):
        tensors = load_weights(path, weights, verified=True)
        return sampled_tensors(tensors), state["images_seen"]
    if reconstructed.is_file():
        return load_average(reconstructed)
    others = [file.stem for file in sorted(reconstructed.parent.glob(f"{POWER_PREFIX}*"))]
    raise ValueError(
        f"{run.path} has no weights {weights!r}; available: {', '.join([*names, *others])}. For a "
        "run with train.snapshot_every, "
        f"`pippin average {run.path} --sigma-rel {weights.removeprefix(POWER_PREFIX)}` "
        "reconstructs them"
    )


def export(
    trained: Trained,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    *,
    text_encoders: bool = True,
    fetch: bool = True,
) -> list[str]:
    """Write an exported folder; see the module's docstring.

    Args:
        trained: the weights.
        folder: new, empty, or left by an interrupted export of the same weights.
        dtype: dtype on disk; loading casts to fp32. A null caption is not cast.
        text_encoders, fetch: see :func:`pippin.runs.bundled_encoders.bundle_encoders`.

    Returns:
        Notes on what the export lacks for sampling elsewhere.

    Raises:
        ValueError: the folder has other files already.
        OSError: disk full or not writable; the same call resumes.
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
    with writing_export(folder, facts):
        notes = bundle_encoders(
            trained.located,
            folder,
            text_encoders=text_encoders,
            fetch=fetch,
            autoencoder=None if trained.inputs is None else trained.inputs.autoencoder,
        )
        if trained.inputs is not None:
            trained.inputs.save(folder / INPUTS_FILE)
        save_tensors(folder / WEIGHTS_FILE, tensors, metadata=export_metadata(facts))
        recipe = trained.recipe
        if given := recipe.sampling.guide_settings:
            recipe = replace(recipe, sampling=recipe.sampling.without_guide())
            name, value = next(iter(given.items()))
            notes = [*notes, f"sampling.{name} {value} is left out: an export holds one model"]
        recipe.save(folder / "config.json")
    return notes


def _load_export(source: str, folder: Path, recipe: Recipe, weights: str | None) -> Trained:
    path = folder / WEIGHTS_FILE
    facts = read_facts(path)
    check_weight_kind(source, facts["weights"], weights)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise damaged_error(path, str(error)) from error
    trained = Trained(
        source=source,
        recipe=recipe,
        tensors=tensors,
        weights=facts["weights"],
        images_seen=facts["images_seen"],
        lineage=tuple(facts["lineage"]),
        average=facts["average"] or _trained_average(recipe, facts["weights"]),
        inputs=_exported_inputs(source, folder),
        bundled_paths=bundled_paths(folder, recipe),
        latents=stored_latents(facts, path),
    )
    recorded = facts[SHA256]
    if recorded is None and source.startswith(SHIPPED_PREFIX):
        recorded = recorded_digest(folder)
    if recorded is None:
        return replace(trained, verified=False)
    if trained.sha256 != recorded:
        raise damaged_error(path, "the sha256 of its weights is not the recorded one")
    return trained


def _exported_inputs(source: str, folder: Path) -> RunInputs | None:
    """Inputs in an exported folder; a model of the hub names no paths of this machine."""
    inputs = read_inputs(folder)
    if inputs is None or not is_hub_source(source):
        return inputs
    return replace(inputs, places={})


def _trained_average(recipe: Recipe, weights: str) -> str | None:
    """Name of the average that ``ema`` is in a run; unknown for converted weights."""
    if weights != "ema" or isinstance(recipe.data, NoDataConfig):
        return None
    return recipe.train.ema.name


def _folder(source: str) -> Path:
    if is_hub_source(source):
        return model_folder(source)
    if not source.startswith(SHIPPED_PREFIX):
        return Path(source)
    if source not in shipped_models():
        names = ", ".join(shipped_models()) or "none"
        raise ValueError(f"no model {source!r} is shipped; there are: {names}")
    resource = files("pippin") / "models" / source.removeprefix(SHIPPED_PREFIX)
    with as_file(resource) as folder:
        return folder


def _format_shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))
