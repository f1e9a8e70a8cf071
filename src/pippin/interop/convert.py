# SPDX-License-Identifier: Apache-2.0
"""From the weights of another implementation to a recipe and tensors of ours."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pippin.conditioning.config import DropConfig, TextSemantic
from pippin.config import UNKNOWN_WEIGHTS, difference
from pippin.data.config import NoDataConfig
from pippin.denoisers.config import TransformerConfig, UNetConfig
from pippin.diffusion.config import PredictionType, ScheduleName
from pippin.encoders.affine import read_affine
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.source import find_autoencoder
from pippin.interop.arguments import Configured
from pippin.interop.diffusers_format import NULL_CAPTION, read_folder
from pippin.interop.diffusers_refusals import refuse_unless
from pippin.interop.place import Placed
from pippin.interop.process import check_process, stated
from pippin.interop.published_classes import SOURCES, configure
from pippin.interop.reference import FOUND_BY, NULL_CLASS, load_reference, stored_side
from pippin.interop.weight_files import read_weights
from pippin.objective import check_objective
from pippin.recipes.latents import factor_and_channels, is_here, is_known, latent_shape_of
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES
from pippin.sampling.config import GuidanceConfig, SamplingConfig, SolverName

DIFFUSERS = "diffusers"
FORMATS = (DIFFUSERS, *SOURCES)
"""What weights can come from."""
NEAREST = {
    "dit": "published/dit-xl-256",
    "mdtv2": "published/mdtv2-xl-256",
    "pixart": "published/pixart-xl-256",
    "mmdit": "published/mmdit-sd3-d24-256",
    "unet": "published/ldm-4-imagenet-256",
}
"""Denoiser -> what a converted model's recipe takes training, sampling and evaluation from."""
SD_VAE = "stabilityai/sd-vae-ft-mse"


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A converted model with all that is known of it."""

    placed: Placed
    recipe: Recipe
    notes: tuple[str, ...]
    """What was chosen and left out."""


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
) -> Incoming:
    """Read weights of another implementation.

    Args:
        source: one of ``FORMATS``.
        path: a file of weights, or for diffusers the folder of a model or pipeline.
        arguments: of the published class's constructor; diffusers' folders hold theirs.
        key: the entry of a checkpoint file, or the prefix of names, that holds the weights.
        autoencoder: source of the autoencoder that its latents come from; None = the pipeline's,
            or the published one.
        schedule, prediction: the process that the weights were trained by; None = what the folder
            says, or what the class was published with.
        weights: raw or ema, where the file does not say which its weights are.

    Raises:
        ValueError: an unknown source, arguments that ours cannot honour, weights that do not fit
            or are of another kind than the one given, or signs of another process than is taken;
            the message names them.
        OSError: no such file.
    """
    if source not in FORMATS:
        raise ValueError(f"no format {source!r}; there are: {', '.join(FORMATS)}")
    own = False
    if source == DIFFUSERS:
        if arguments or key is not None:
            raise ValueError(
                "a folder of diffusers says what it holds: leave --arguments and --key out"
            )
        placed, notes = read_folder(path, schedule, prediction)
        beside = [one / "vae" for one in (path, path.parent) if (one / "vae").is_dir()]
        if autoencoder is None and beside:
            autoencoder, own = str(beside[0].resolve()), True
    else:
        placed, notes = _read_file(source, path, _arguments(arguments), key, schedule, prediction)
    placed, of_kind = _of_kind(placed, path, weights)
    notes = (*notes, *of_kind)
    recipe = recipe_of(placed.configured, autoencoder)
    check_objective(recipe.diffusion, recipe.denoiser)
    if NULL_CLASS in placed.made_by_us:  # never trained: nothing to guide away from
        recipe = _unguided(recipe)
    if set(placed.made_by_us) & set(NULL_CAPTION):
        recipe = _with_empty_null(recipe)
    notes = (*notes, *placed.configured.notes, *_of_autoencoder(recipe, placed.configured))
    if not own:
        notes = (*notes, *_of_affine(recipe, placed.configured))
    return Incoming(placed=placed, recipe=recipe, notes=notes)


def _read_file(
    source: str,
    path: Path,
    arguments: dict[str, Any],
    key: str | None,
    schedule: ScheduleName | None,
    prediction: PredictionType | None,
) -> tuple[Placed, tuple[str, ...]]:
    """The model in a file of a published class's weights, and notes."""
    weights = read_weights(path, FOUND_BY[source], key)
    given, notes = _with_side(source, weights.tensors, arguments)
    published = configure(source, given).diffusion
    diffusion = stated(published, schedule, prediction)
    process = check_process(
        path, weights, published, None if diffusion is published else diffusion
    )
    placed: Placed = load_reference(source, weights.tensors, **given)
    configured = replace(placed.configured, diffusion=diffusion)
    placed = replace(placed, configured=configured, weights=weights.kind)
    return placed, (*weights.notes, *notes, *process)


def _of_kind(placed: Placed, path: Path, given: str | None) -> tuple[Placed, tuple[str, ...]]:
    """The weights with the kind that they are said to be, and a note where nobody says it."""
    if placed.weights == UNKNOWN_WEIGHTS:
        note = (
            "whether these weights are raw or averaged is not known, for their names do not say "
            "it; --weights raw or --weights ema records it"
        )
        return replace(placed, weights=given or UNKNOWN_WEIGHTS), () if given else (note,)
    if given not in (None, placed.weights):
        raise ValueError(
            f"--weights {given}: what was taken of {path} are {placed.weights} weights; leave "
            "--weights out, or choose others by --key or by the folder"
        )
    return placed, ()


def _arguments(given: Mapping[str, Any] | None) -> dict[str, Any]:
    found = dict(given or {})
    if odd := sorted({"source", "state_dict"} & set(found)):
        raise ValueError(f"no published class has an argument {', '.join(odd)}")
    return found


def _with_side(
    source: str, tensors: Mapping[str, Tensor], given: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The class's arguments with the side that the weights were built for, where it was not given;
    and what to say of it."""
    configured = configure(source, given)
    side = stored_side(source, tensors, configured)
    if side is None or "input_size" in given or side == configured.latent_side:
        return given, ()
    return given | {"input_size": side}, (
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
    """Guided by the encoder's empty caption, as the model was trained."""
    semantic = recipe.conditioning.semantic
    assert isinstance(semantic, TextSemantic)
    semantic = replace(semantic, null="empty")
    return replace(recipe, conditioning=replace(recipe.conditioning, semantic=semantic))


def _of_autoencoder(recipe: Recipe, configured: Configured) -> list[str]:
    """What must be known of the autoencoder that the recipe names."""
    source, wanted = recipe.autoencoder.source, configured.latent_channels
    factor, given = factor_and_channels(recipe)
    notes = []
    if not is_here(recipe) and "/" not in source:
        notes.append(
            f"{source} is no name on the hub but a folder that is to be made: name one with "
            "--autoencoder before sampling"
        )
    if not is_known(recipe):
        notes.append(f"autoencoder {source} was not read: taken for one of factor {factor}")
    if wanted != given:
        notes.append(
            f"the model's latents have {wanted} channels and those of {source} {given}: name "
            "their own with --autoencoder before sampling"
        )
    return notes


def _of_affine(recipe: Recipe, configured: Configured) -> list[str]:
    """A note where the autoencoder normalises latents otherwise than the weights were trained on;
    none where it is not here to be read."""
    source = recipe.autoencoder.source
    if configured.latent_scale is None or not is_here(recipe):
        return []
    try:
        affine = read_affine(find_autoencoder(recipe.autoencoder))
    except ValueError as error:
        return [f"autoencoder {source} cannot be used as it is: {error}"]
    shift, scale = affine.shift.flatten(), 1 / affine.scale.flatten()
    wanted = configured.latent_shift, configured.latent_scale
    if all(
        torch.allclose(found, torch.tensor(value), rtol=1e-3, atol=1e-4)
        for found, value in zip((shift, scale), wanted, strict=True)
    ):
        return []
    return [
        f"the model was published with latents (moments - {wanted[0]:g}) x {wanted[1]:g}, and "
        f"autoencoder {source} has (moments - {_numbers(shift)}) x {_numbers(scale)}: unless the "
        "weights were trained on these, name their own with --autoencoder before sampling"
    ]


def _numbers(values: Tensor) -> str:
    """One where all channels have the same."""
    texts = list(dict.fromkeys(f"{value:.5g}" for value in values.tolist()))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def recipe_of(configured: Configured, autoencoder: str | None = None) -> Recipe:
    """The recipe of a converted model.

    What the weights decide is theirs; training, sampling and evaluation are those of the nearest
    published recipe.
    """
    base = RECIPES[NEAREST[configured.denoiser.kind]]()
    diffusion, sampling = base.diffusion, base.sampling
    if configured.diffusion != replace(diffusion, loss_weight=configured.diffusion.loss_weight):
        diffusion = configured.diffusion
        solver: SolverName = "euler" if diffusion.schedule == "flow" else "ddim"
        sampling = SamplingConfig(solver=solver, guidance=sampling.guidance)
    if autoencoder is None:
        autoencoder = base.autoencoder.source
        if configured.denoiser.kind == "unet" and configured.latent_channels == 4:
            autoencoder = SD_VAE
    recipe = replace(
        base,
        data=NoDataConfig(resolution=1, num_classes=configured.num_classes),
        autoencoder=AutoencoderConfig(source=autoencoder),
        diffusion=diffusion,
        conditioning=replace(configured.conditioning, drop=base.conditioning.drop),
        denoiser=configured.denoiser,
        sampling=sampling,
    )
    factor, _ = factor_and_channels(recipe)
    data = replace(recipe.data, resolution=factor * configured.latent_side)
    return replace(recipe, data=data)


def fine_tuning(recipe: Recipe) -> dict[str, Any] | None:
    """What the nearest recipe must be given, setting -> value, to start from a converted model.

    None where its conditioning is another one, which no few options make.
    """
    base = RECIPES[NEAREST[recipe.denoiser.kind]]()
    ours, theirs = base.conditioning, recipe.conditioning
    same = (ours.semantic.kind, ours.rules, ours.image_shape, ours.control)
    if same != (theirs.semantic.kind, theirs.rules, theirs.image_shape, theirs.control):
        return None
    found = {
        path: value
        for path, (_, value) in difference(base, recipe).items()
        if path.startswith(("denoiser.", "conditioning.semantic."))
    }
    for path in ("diffusion.schedule", "diffusion.prediction", "autoencoder.source"):
        if attrgetter(path)(base) != attrgetter(path)(recipe):
            found[path] = attrgetter(path)(recipe)
    if base.data.resolution != recipe.data.resolution:
        found["data.resolution"] = recipe.data.resolution
    return found


def configured_of(recipe: Recipe, tensors: Mapping[str, Tensor]) -> Configured:
    """What a trained model of ours is, as the tables need it.

    Raises:
        ConfigError: a denoiser of a program's own.
    """
    kind = recipe.denoiser.kind
    refuse_unless(kind in NEAREST, f"denoiser.kind {kind}")
    _, side, _ = latent_shape_of(recipe)
    rows = [len(tensors[name]) for name in _CLASS_TABLES if name in tensors]
    return Configured(
        denoiser=recipe.denoiser,
        conditioning=recipe.conditioning,
        diffusion=recipe.diffusion,
        latent_channels=_latent_channels(recipe, tensors),
        latent_side=side,
        num_classes=rows[0] - 1 if rows else 1,  # the last row is the null class
    )


def _latent_channels(recipe: Recipe, tensors: Mapping[str, Tensor]) -> int:
    """That the first layer reads."""
    if isinstance(recipe.denoiser, UNetConfig):
        return tensors["denoiser.conv_in.weight"].shape[1]
    assert isinstance(recipe.denoiser, TransformerConfig)
    width = tensors["denoiser.patches.linear.weight"].shape[1]
    return width // recipe.denoiser.patch_size**2


_CLASS_TABLES = ("conditioner.label_vector.weight", "conditioner.label_tokens.weight")
