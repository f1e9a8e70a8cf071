# SPDX-License-Identifier: Apache-2.0
"""Conversion of another implementation's weights to a recipe and a model of pippin."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pippin.conditioning.config import DropConfig, TextSemantic
from pippin.config import difference
from pippin.data.config import NoDataConfig
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.weights.arguments import ModelSpec
from pippin.denoisers.weights.diffusers_layers import require_supported
from pippin.diffusion.config import PredictionType, ScheduleName
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.normalisation import read_affine
from pippin.encoders.source import find_autoencoder
from pippin.interop.diffusers_format import NULL_CAPTION, read_folder
from pippin.interop.diffusion_process import check_data_time, check_process, resolve_process
from pippin.interop.load_model import LoadedModel
from pippin.interop.published_models import (
    NULL_CLASS,
    SOURCES,
    configure,
    load_reference,
    stored_side,
)
from pippin.interop.weight_files import read_weights
from pippin.model import stored_num_classes
from pippin.objective.setting_checks import check_objective
from pippin.recipes.recipe import (
    Recipe,
    factor_and_channels,
    has_known_latents,
    is_local,
    latent_shape_of,
)
from pippin.recipes.table import RECIPES
from pippin.sampling.config import GuidanceConfig, SamplingConfig, SolverName
from pippin.settings.weights import UNKNOWN_WEIGHTS

DIFFUSERS = "diffusers"
FORMATS = (DIFFUSERS, *SOURCES)
"""Supported sources of weights."""
BASE_RECIPES = {
    "dit": "published/dit-xl-256",
    "sit": "published/sit-xl-256",
    "lightningdit": "published/lightningdit-xl-256",
    "mdtv2": "published/mdtv2-xl-256",
    "pixart": "published/pixart-xl-256",
    "mmdit": "published/mmdit-sd3-d24-256",
    "unet": "published/ldm-4-imagenet-256",
    "jit": "published/jit-b-256",
    "ddt": "published/ddt-xl-256",
}
"""Variant of a denoiser -> recipe whose training, sampling and evaluation settings a converted
model gets; see :func:`base_recipe`."""


@dataclass(frozen=True, kw_only=True)
class ConvertedModel:
    """Converted model with its recipe."""

    loaded: LoadedModel
    recipe: Recipe
    notes: tuple[str, ...]
    """Choices, and skipped parts of the source."""


def convert(
    source: str,
    path: Path,
    *,
    arguments: Mapping[str, Any] | None = None,
    key: str | None = None,
    autoencoder: str | None = None,
    schedule: ScheduleName | None = None,
    prediction: PredictionType | None = None,
    weights: str | None = None,
) -> ConvertedModel:
    """Convert weights of another implementation.

    Args:
        source: one of ``FORMATS``.
        path: a file of weights, or for diffusers the folder of a model or pipeline.
        arguments: constructor arguments of the published class; folders of diffusers have them.
        key: the entry of a checkpoint file, or the prefix of names, that holds the weights.
        autoencoder: source of the autoencoder of its latents; None = the pipeline's, or the
            published one.
        schedule, prediction: diffusion process of the training; None = as the folder says, or as
            the class was published.
        weights: raw or ema, if the file does not say which its weights are.

    Raises:
        ValueError: an unknown source, unsupported arguments, weights that do not fit or are of
            another kind than the given one, or signs of another diffusion process than the
            assumed one; the message names them.
        OSError: no such file.
    """
    if source not in FORMATS:
        raise ValueError(f"no format {source!r}; formats are: {', '.join(FORMATS)}")
    has_own_autoencoder = False
    if source == DIFFUSERS:
        if arguments or key is not None:
            raise ValueError(
                "a folder of diffusers describes its model: leave --arguments and --key out"
            )
        loaded, notes = read_folder(path, schedule, prediction)
        autoencoder_folders = [
            folder / "vae" for folder in (path, path.parent) if (folder / "vae").is_dir()
        ]
        if autoencoder is None and autoencoder_folders:
            autoencoder, has_own_autoencoder = str(autoencoder_folders[0].resolve()), True
    else:
        loaded, notes = _read_file(source, path, _arguments(arguments), key, schedule, prediction)
    loaded, kind_notes = _with_weight_kind(loaded, path, weights)
    notes = (*notes, *kind_notes)
    recipe = converted_recipe(loaded.spec, autoencoder)
    check_objective(recipe.diffusion, recipe.denoiser)
    if NULL_CLASS in loaded.zero_filled:  # never trained, so guidance is impossible
        recipe = _unguided(recipe)
    if set(loaded.zero_filled) & set(NULL_CAPTION):
        recipe = _with_empty_null(recipe)
    notes = (*notes, *loaded.spec.notes, *_autoencoder_notes(recipe, loaded.spec))
    if not has_own_autoencoder:
        notes = (*notes, *_affine_notes(recipe, loaded.spec))
    return ConvertedModel(loaded=loaded, recipe=recipe, notes=notes)


def _read_file(
    source: str,
    path: Path,
    arguments: dict[str, Any],
    key: str | None,
    schedule: ScheduleName | None,
    prediction: PredictionType | None,
) -> tuple[LoadedModel, tuple[str, ...]]:
    """Model of a file of a published class's weights, and notes."""
    weights = read_weights(path, SOURCES[source].anchors, key)
    arguments, notes = _with_side(source, weights.tensors, arguments)
    published = configure(source, arguments).diffusion
    diffusion = resolve_process(published, schedule, prediction)
    requested = None if diffusion is published else diffusion
    if SOURCES[source].data_time:
        process_notes = check_data_time(source, path, weights, requested, published.prediction)
    else:
        process_notes = check_process(path, weights, published, requested)
    loaded: LoadedModel = load_reference(source, weights.tensors, **arguments)
    spec = replace(loaded.spec, diffusion=diffusion)
    loaded = replace(loaded, spec=spec, weights=weights.kind)
    return loaded, (*weights.notes, *notes, *process_notes)


def _with_weight_kind(
    loaded: LoadedModel, path: Path, kind: str | None
) -> tuple[LoadedModel, tuple[str, ...]]:
    """Model with the kind of its weights, and a note if the kind is unknown."""
    if loaded.weights == UNKNOWN_WEIGHTS:
        note = (
            "it is unknown whether these weights are raw or averaged, since their names do not "
            "say; --weights raw or --weights ema records it"
        )
        return replace(loaded, weights=kind or UNKNOWN_WEIGHTS), () if kind else (note,)
    if kind not in (None, loaded.weights):
        raise ValueError(
            f"--weights {kind}: the weights read from {path} are {loaded.weights} weights; leave "
            "--weights out, or choose others by --key or by the folder"
        )
    return loaded, ()


def _arguments(given_arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    arguments = dict(given_arguments or {})
    if reserved := sorted({"source", "state_dict"} & set(arguments)):
        raise ValueError(f"no published class has an argument {', '.join(reserved)}")
    return arguments


def _with_side(
    source: str, tensors: Mapping[str, Tensor], arguments: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Arguments of the class with the latent side that the weights were built for, if it was not
    given, and a note about it."""
    spec = configure(source, arguments)
    side = stored_side(source, tensors, spec)
    if side is None or "input_size" in arguments or side == spec.latent_side:
        return arguments, ()
    return arguments | {"input_size": side}, (
        f"input_size={side}, read from pos_embed: latents of {side} a side",
    )


def _unguided(recipe: Recipe) -> Recipe:
    return replace(
        recipe,
        conditioning=replace(
            recipe.conditioning, drop=DropConfig(keep=1.0, control=0.0, semantic=0.0, both=0.0)
        ),
        sampling=replace(recipe.sampling, guidance=GuidanceConfig()),
    )


def _with_empty_null(recipe: Recipe) -> Recipe:
    """Recipe guided by the encoder's empty caption, as the model was trained."""
    semantic = recipe.conditioning.semantic
    assert isinstance(semantic, TextSemantic)
    semantic = replace(semantic, null="empty")
    return replace(recipe, conditioning=replace(recipe.conditioning, semantic=semantic))


def _autoencoder_notes(recipe: Recipe, spec: ModelSpec) -> list[str]:
    """Notes about the autoencoder of the recipe."""
    source, channels = recipe.autoencoder.source, spec.latent_channels
    factor, autoencoder_channels = factor_and_channels(recipe)
    notes = []
    if not is_local(recipe) and "/" not in source:
        notes.append(
            f"{source} is not a name on the hub but a folder that you must make; give one with "
            "--autoencoder before sampling"
        )
    if not has_known_latents(recipe):
        notes.append(f"autoencoder {source} was not read: assumed to have factor {factor}")
    if channels != autoencoder_channels:
        notes.append(
            f"the model's latents have {channels} channels and those of {source} "
            f"{autoencoder_channels}: give the model's own with --autoencoder before sampling"
        )
    return notes


def _affine_notes(recipe: Recipe, spec: ModelSpec) -> list[str]:
    """Note if the autoencoder normalises latents otherwise than in the training of the weights; no
    note if it is not local."""
    source = recipe.autoencoder.source
    if spec.latent_scale is None or not is_local(recipe):
        return []
    try:
        affine = read_affine(find_autoencoder(recipe.autoencoder))
    except ValueError as error:
        return [f"autoencoder {source} is unusable: {error}"]
    shift, scale = affine.shift.flatten(), 1 / affine.scale.flatten()
    published = spec.latent_shift, spec.latent_scale
    if all(
        torch.allclose(actual, torch.tensor(value), rtol=1e-3, atol=1e-4)
        for actual, value in zip((shift, scale), published, strict=True)
    ):
        return []
    return [
        f"the model was published with latents (moments - {published[0]:g}) x {published[1]:g}, "
        f"and autoencoder {source} has (moments - {_numbers(shift)}) x {_numbers(scale)}: unless "
        "the weights were trained on these, give their own with --autoencoder before sampling"
    ]


def _numbers(values: Tensor) -> str:
    """Values formatted as a list, or as one number if all are equal."""
    texts = list(dict.fromkeys(f"{value:.5g}" for value in values.tolist()))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def base_recipe(denoiser: DenoiserConfig) -> str:
    """Name of the published recipe nearest to a denoiser."""
    return BASE_RECIPES[denoiser.variant]


def converted_recipe(spec: ModelSpec, autoencoder: str | None = None) -> Recipe:
    """Recipe of a converted model.

    The weights determine denoiser, conditioning and diffusion; training, sampling and evaluation
    are those of the nearest published recipe.
    """
    base = RECIPES[base_recipe(spec.denoiser)]()
    diffusion, sampling = base.diffusion, base.sampling
    loss = {name: getattr(spec.diffusion, name) for name in ("loss_weight", "direction_weight")}
    if spec.diffusion != replace(diffusion, **loss):  # no part of the model
        diffusion = spec.diffusion
        solver: SolverName = "euler" if diffusion.schedule == "flow" else "ddim"
        sampling = SamplingConfig(solver=solver, guidance=sampling.guidance)
    if autoencoder is None:
        autoencoder = spec.autoencoder or base.autoencoder.source
    recipe = replace(
        base,
        data=NoDataConfig(resolution=1, num_classes=spec.num_classes),
        autoencoder=AutoencoderConfig(source=autoencoder),
        diffusion=diffusion,
        conditioning=replace(spec.conditioning, drop=base.conditioning.drop),
        denoiser=spec.denoiser,
        sampling=sampling,
    )
    factor, _ = factor_and_channels(recipe)
    data = replace(recipe.data, resolution=factor * spec.latent_side)
    return replace(recipe, data=data)


def fine_tuning(recipe: Recipe) -> dict[str, Any] | None:
    """Settings, path -> value, with which the nearest recipe starts from a converted model.

    None if the conditioning differs, which a few options cannot express.
    """
    base = RECIPES[base_recipe(recipe.denoiser)]()
    base_conditioning, conditioning = base.conditioning, recipe.conditioning
    settings = (
        base_conditioning.semantic.kind,
        base_conditioning.rules,
        base_conditioning.image_shape,
        base_conditioning.control,
    )
    if settings != (
        conditioning.semantic.kind,
        conditioning.rules,
        conditioning.image_shape,
        conditioning.control,
    ):
        return None
    changes = {
        path: value
        for path, (_, value) in difference(base, recipe).items()
        if path.startswith(("denoiser.", "conditioning.semantic."))
    }
    for path in ("diffusion.schedule", "diffusion.prediction", "autoencoder.source"):
        if attrgetter(path)(base) != attrgetter(path)(recipe):
            changes[path] = attrgetter(path)(recipe)
    if base.data.resolution != recipe.data.resolution:
        changes["data.resolution"] = recipe.data.resolution
    return changes


def model_spec(recipe: Recipe, tensors: Mapping[str, Tensor]) -> ModelSpec:
    """Description of a trained pippin model, for the tables.

    Raises:
        ConfigError: a denoiser that a program registered.
    """
    kind = recipe.denoiser.kind
    require_supported(kind in BASE_RECIPES, f"denoiser.kind {kind}")
    _, side, _ = latent_shape_of(recipe)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    num_classes = stored_num_classes(shapes)
    return ModelSpec(
        denoiser=recipe.denoiser,
        conditioning=recipe.conditioning,
        diffusion=recipe.diffusion,
        latent_channels=recipe.denoiser.latent_channels(shapes),
        latent_side=side,
        num_classes=1 if num_classes is None else num_classes,
    )
