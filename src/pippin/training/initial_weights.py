# SPDX-License-Identifier: Apache-2.0
"""Initial weights of a run that starts from trained ones: copied, or by transfer rules."""

from collections.abc import Iterator, Sequence
from math import isclose
from operator import attrgetter
from pathlib import Path
from typing import Any

from pippin.conditioning.config import Gate, PowerCosineGate
from pippin.data.record import class_changes
from pippin.diffusion.config import CONTINUOUS_SCHEDULES
from pippin.model import LatentDenoiser
from pippin.recipes.recipe import Recipe, known_patches_per_side
from pippin.runs.components import Components
from pippin.runs.exports import unverified_note
from pippin.runs.folder import STUDY_RUN_PREFIX, TRANSFER_FILE, start_folder
from pippin.runs.latents import inherited_latents
from pippin.runs.trained import load_trained_weights
from pippin.sampling.guidance import scale_at_resolution
from pippin.system.formats import write_versioned_json
from pippin.system.text import print_above_progress
from pippin.system.weight_checks import check_finite
from pippin.transfer.merge import merge
from pippin.transfer.rules import TransferEnds

OUTPUT_SETTINGS = ("diffusion.prediction", "diffusion.schedule", "autoencoder.source")
"""Settings that change the meaning of equal weights."""
DENOISER_SETTINGS = (
    "num_heads",
    "rotary",
    "time_input",
    "context_start",
    "encoder_depth",
    "mixer_depth",
)
"""The same of a denoiser, where both ends have them; none of them has a tensor."""


def load_initial_weights(
    model: LatentDenoiser, components: Components, folder: Path, *, report: bool = True
) -> tuple[dict[str, Any], ...]:
    """Load the weights that the recipe starts from, if it names any, into a new model.

    Args:
        model: a new model with its initial weights.
        components: components of the run.
        folder: folder of the run.
        report: write transfer.json to the folder.

    Returns:
        The lineage of the weights, oldest first.

    Raises:
        ValueError: unknown source, or weights that do not fit.
    """
    recipe, console = components.recipe, components.console
    if recipe.init.run is None:
        return ()
    start = load_trained_weights(init_source(components.located, folder), recipe.init.weights)
    check_finite(start.tensors, f"init.run {start.source}")
    ends = TransferEnds(old=start.recipe.denoiser, new=recipe.denoiser)
    try:
        latents = inherited_latents(
            start.latents, start.recipe, recipe, components.raw_autoencoder
        )
        tensors, transfer = merge(start.tensors, model, ends, recipe.init.transfer)
    except ValueError as error:
        raise ValueError(f"init.run {start.source}: {error}") from error
    if latents is not None:
        components.given_latents = latents
    if report:
        write_versioned_json(folder / TRANSFER_FILE, Recipe.FORMAT, transfer.to_dict())
    for line in transfer.lines():
        print_above_progress(console, line)
    if transfer.unused:
        print_above_progress(
            console, f"init.transfer {', '.join(transfer.unused)}", label="no tensor needed"
        )
    model.load_state_dict(tensors)
    components.set_null(model)
    if not start.verified:
        print_above_progress(console, unverified_note(start.source), label="no checksum:")
    print_above_progress(console, f"starting from {start.source}: {start.description}")
    names = None if start.inputs is None else start.inputs.data.class_names
    for line in suggestions(start.recipe, recipe, names, components.class_names):
        print_above_progress(console, line, label="note:")
    *before, own = start.as_parent()
    return (*before, own | {"transfer": transfer.counts()})


def init_source(recipe: Recipe, folder: Path) -> str:
    """Resolve ``init.run``; ``@NAME`` is a pretraining run of the study that holds the folder."""
    run = str(recipe.init.run)
    if not run.startswith(STUDY_RUN_PREFIX):
        return run
    return str(start_folder(folder.parent.parent, run.removeprefix(STUDY_RUN_PREFIX), recipe.seed))


def suggestions(
    old: Recipe,
    new: Recipe,
    old_classes: Sequence[str] | None = None,
    new_classes: Sequence[str] | None = None,
) -> list[str]:
    """Notes on a start from other weights: settings that differ from the training of the weights,
    and the method's rules for another resolution where the recipe does not follow them.

    Args:
        old, new: recipes of the start and of the run.
        old_classes, new_classes: their class names; None = unknown.
    """
    same_resolution = old.data.resolution == new.data.resolution
    rules = _same_resolution_notes(old, new) if same_resolution else _resolution_rules(old, new)
    classes = _class_table_notes(old, new, old_classes, new_classes)
    return [*_output_notes(old, new), *classes, *_condition_notes(old, new), *rules]


def _output_notes(old: Recipe, new: Recipe) -> Iterator[str]:
    """Notes on settings that define the meaning of the network's output."""
    for path in OUTPUT_SETTINGS:
        before, now = (attrgetter(path)(recipe) for recipe in (old, new))
        if before != now:
            yield f"the weights were trained with {path} {before}; it is {now}"
    for name in DENOISER_SETTINGS:
        before, now = (getattr(recipe.denoiser, name, None) for recipe in (old, new))
        if None not in (before, now) and before != now:
            yield f"the weights were trained with denoiser.{name} {before}; it is {now}"


def _condition_notes(old: Recipe, new: Recipe) -> Iterator[str]:
    """Notes on settings that define the inputs of copied weights."""
    rules = new.init.transfer
    kinds = {recipe.conditioning.semantic.kind for recipe in (old, new)}
    if kinds == {"text"} and "semantics" not in rules and old.text.source != new.text.source:
        yield (
            f"the weights were trained with text.source {', '.join(old.text.source)}; it is "
            f"{', '.join(new.text.source)}, whose features mean something else: init.transfer "
            "semantics initialises the layers that read them"
        )
    for group in ("high", "low"):
        path = f"conditioning.control.{group}_gate"
        before, now = (attrgetter(path)(recipe) for recipe in (old, new))
        used = all(attrgetter(f"conditioning.control.{group}")(recipe) for recipe in (old, new))
        if used and before != now:
            yield f"the weights were trained with {path} {_gate(before)}; it is {_gate(now)}"


def _class_table_notes(
    old: Recipe,
    new: Recipe,
    old_classes: Sequence[str] | None,
    new_classes: Sequence[str] | None,
) -> Iterator[str]:
    """Notes on class table rows that are copied to another class, by name where both are named."""
    kinds = {recipe.conditioning.semantic.kind for recipe in (old, new)}
    if kinds != {"label"} or {"classes", "semantics"} & {*new.init.transfer}:
        return
    if old_classes is not None and new_classes is not None:
        if changed := class_changes(old_classes, new_classes):
            yield (
                f"the class table is copied row by row, and {changed}: give init.transfer "
                "classes unless each class is to start from the one that had its id"
            )
        return
    old_data, new_data = _describe_data(old), _describe_data(new)
    if old_data != new_data:
        yield (
            f"the class table is copied row by row from {old_data} to {new_data}: where these "
            "have other classes, or another order of them, give init.transfer classes"
        )


def _describe_data(recipe: Recipe) -> str:
    """The data settings that decide which classes there are."""
    path = getattr(recipe.data, "path", None)
    return f"data.kind {recipe.data.kind}" + (f", data.path {path}" if path else "")


def _gate(gate: Gate) -> str:
    return (
        f"{gate.kind} (alpha {gate.alpha:g})" if isinstance(gate, PowerCosineGate) else gate.kind
    )


def _same_resolution_notes(old: Recipe, new: Recipe) -> Iterator[str]:
    """Notes on settings that only another resolution would change."""
    if not isclose(old.diffusion.rescale, new.diffusion.rescale):
        yield (
            f"the weights were trained with diffusion.rescale {old.diffusion.rescale:g} at this "
            f"resolution; it is {new.diffusion.rescale:g}: the same index means other noise"
        )
    before, now = (
        _position_grid(recipe) if hasattr(recipe.denoiser, "base_grid") else None
        for recipe in (old, new)
    )
    if before and now and before != now:
        yield (
            f"the weights were trained with positions over {before} patches a side at this "
            f"resolution; denoiser.base_grid lays them over {now}"
        )


def _position_grid(recipe: Recipe) -> int | None:
    """Patches per side that computed positions span: the base grid, or the recipe's own grid."""
    return getattr(recipe.denoiser, "base_grid", None) or known_patches_per_side(recipe)


def _resolution_rules(old: Recipe, new: Recipe) -> Iterator[str]:
    """Notes on the method's rules for another resolution."""
    ratio = new.data.resolution / old.data.resolution
    times = f"at {ratio:g} times the side"
    noise = old.diffusion.rescale * ratio
    if noise < 1 and new.diffusion.schedule not in CONTINUOUS_SCHEDULES:
        yield (
            f"{times}, diffusion.rescale {noise:g} would keep the signal-to-noise ratio that "
            "content is seen at, which a discrete schedule cannot have below 1: the model gets "
            "noise levels that it was not trained on"
        )
    elif not isclose(new.diffusion.rescale, noise):
        yield (
            f"{times}, diffusion.rescale {noise:g} keeps the signal-to-noise ratio that content "
            f"is seen at; it is {new.diffusion.rescale:g} (measured, it gained nothing: "
            "docs/reference/transfer.md)"
        )
    scale = old.sampling.guidance.semantic_scale
    scaled = scale_at_resolution(scale, ratio)
    if scale != 1 and not isclose(new.sampling.guidance.semantic_scale, scaled):
        yield (
            f"the rule 1 + s (lambda - 1) takes sampling.guidance.semantic_scale {scale:g} to "
            f"{scaled:g}; it is {new.sampling.guidance.semantic_scale:g}"
        )
    grid = _position_grid(old)
    if ratio > 1 and grid and getattr(new.denoiser, "base_grid", 0) is None:
        yield (
            f"{times}, denoiser.base_grid {grid} resamples the positions of the weights; "
            "without it they are extrapolated"
        )
