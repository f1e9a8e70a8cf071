# SPDX-License-Identifier: Apache-2.0
"""Where a run starts that goes on from trained weights: as they are, or by rules of transfer."""

from collections.abc import Iterator, Sequence
from math import isclose
from operator import attrgetter
from pathlib import Path
from typing import Any

from pippin.conditioning.config import Gate, PowerCosineGate
from pippin.data.record import class_changes
from pippin.model import LatentDenoiser
from pippin.recipes.latents import known_patches_a_side
from pippin.recipes.recipe import Recipe
from pippin.run.export_facts import unverified
from pippin.run.folder import START, TRANSFER, start_folder
from pippin.run.latents import inherited
from pippin.run.parts import Parts
from pippin.run.trained import open_trained
from pippin.sampling.guidance import scale_at_resolution
from pippin.system.formats import write_stamped
from pippin.system.terminal import note
from pippin.system.weight_checks import check_finite
from pippin.transfer.merge import merge
from pippin.transfer.rules import TransferEnds

MEANING = ("diffusion.prediction", "diffusion.schedule", "autoencoder.source")
"""Settings by which equal weights mean something else."""


def begin(
    model: LatentDenoiser, parts: Parts, folder: Path, *, report: bool = True
) -> tuple[dict[str, Any], ...]:
    """Give a new model the weights that the recipe starts from, if it names any.

    Args:
        model: with its initial weights.
        parts: of the run.
        folder: of the run.
        report: write transfer.json there.

    Returns:
        Where the weights come from, oldest first.

    Raises:
        ValueError: nothing of that name, or weights that do not fit.
    """
    recipe, console = parts.recipe, parts.console
    if recipe.init.run is None:
        return ()
    start = open_trained(str(located(parts.located, folder)), recipe.init.weights)
    check_finite(start.tensors, f"init.run {start.source}")
    ends = TransferEnds(old=start.recipe.denoiser, new=recipe.denoiser)
    try:
        latents = inherited(start.latents, start.recipe, recipe, parts.raw_autoencoder)
        tensors, moved = merge(start.tensors, model, ends, recipe.init.transfer)
    except ValueError as error:
        raise ValueError(f"init.run {start.source}: {error}") from error
    if latents is not None:
        parts.given_latents = latents
    if report:
        write_stamped(folder / TRANSFER, Recipe.FORMAT, moved.to_dict())
    for line in moved.lines():
        note(console, line)
    if moved.unused:
        note(console, f"init.transfer {', '.join(moved.unused)}", label="no tensor needed")
    model.load_state_dict(tensors)
    parts.set_null(model)
    if not start.verified:
        note(console, unverified(start.source), label="no checksum:")
    note(console, f"starting from {start.source}: {start.said}")
    names = None if start.inputs is None else start.inputs.data.class_names
    for line in suggestions(start.recipe, recipe, names, parts.class_names):
        note(console, line, label="note:")
    *before, own = start.as_parent()
    return (*before, own | {"transfer": moved.counts()})


def located(recipe: Recipe, folder: Path) -> str:
    """What ``init.run`` names; ``@NAME`` is a start of the study that the run's folder lies in."""
    run = str(recipe.init.run)
    if not run.startswith(START):
        return run
    return str(start_folder(folder.parent.parent, run.removeprefix(START), recipe.seed))


def suggestions(
    old: Recipe,
    new: Recipe,
    old_classes: Sequence[str] | None = None,
    new_classes: Sequence[str] | None = None,
) -> list[str]:
    """What a start from other weights leaves to be said: settings under which they were trained
    otherwise, and what the method's laws say of another resolution where the recipe does not
    follow them.

    Args:
        old, new: recipes of the start and of the run.
        old_classes, new_classes: their class names; None = not known.
    """
    laws = _laws(old, new) if old.data.resolution != new.data.resolution else _kept(old, new)
    classes = _class_table(old, new, old_classes, new_classes)
    return [*_relearned(old, new), *classes, *_conditions(old, new), *laws]


def _relearned(old: Recipe, new: Recipe) -> Iterator[str]:
    """Settings that decide what the network's output means."""
    for path in MEANING:
        before, now = (attrgetter(path)(recipe) for recipe in (old, new))
        if before != now:
            yield f"the weights were trained with {path} {before}; it is {now}"


def _conditions(old: Recipe, new: Recipe) -> Iterator[str]:
    """Settings that decide what weights which are copied read."""
    rules = new.init.transfer
    kinds = {one.conditioning.semantic.kind for one in (old, new)}
    if kinds == {"text"} and "semantics" not in rules and old.text.source != new.text.source:
        yield (
            f"the weights were trained with text.source {', '.join(old.text.source)}; it is "
            f"{', '.join(new.text.source)}, whose features mean something else: init.transfer "
            "semantics starts what reads them anew"
        )
    for group in ("high", "low"):
        path = f"conditioning.control.{group}_gate"
        was, now = (attrgetter(path)(recipe) for recipe in (old, new))
        heard = all(attrgetter(f"conditioning.control.{group}")(one) for one in (old, new))
        if heard and was != now:
            yield f"the weights were trained with {path} {_gate(was)}; it is {_gate(now)}"


def _class_table(
    old: Recipe,
    new: Recipe,
    old_classes: Sequence[str] | None,
    new_classes: Sequence[str] | None,
) -> Iterator[str]:
    """Rows that are copied to another class, by name where both sides have names."""
    kinds = {one.conditioning.semantic.kind for one in (old, new)}
    if kinds != {"label"} or {"classes", "semantics"} & {*new.init.transfer}:
        return
    if old_classes is not None and new_classes is not None:
        if changed := class_changes(old_classes, new_classes):
            yield (
                f"the class table is copied row by row, and {changed}: give init.transfer "
                "classes unless each class is to start from the one that had its id"
            )
        return
    pictures, others = _pictures(old), _pictures(new)
    if pictures != others:
        yield (
            f"the class table is copied row by row from {pictures} to {others}: where these have "
            "other classes, or another order of them, give init.transfer classes"
        )


def _pictures(recipe: Recipe) -> str:
    """What decides which classes there are, in words."""
    path = getattr(recipe.data, "path", None)
    return f"data.kind {recipe.data.kind}" + (f", data.path {path}" if path else "")


def _gate(gate: Gate) -> str:
    return (
        f"{gate.kind} (alpha {gate.alpha:g})" if isinstance(gate, PowerCosineGate) else gate.kind
    )


def _kept(old: Recipe, new: Recipe) -> Iterator[str]:
    """At one resolution, what only another one calls for."""
    if not isclose(old.diffusion.rescale, new.diffusion.rescale):
        yield (
            f"the weights were trained with diffusion.rescale {old.diffusion.rescale:g} at this "
            f"resolution; it is {new.diffusion.rescale:g}: the same index means other noise"
        )
    before, now = (
        _known_grid(one) if hasattr(one.denoiser, "base_grid") else None for one in (old, new)
    )
    if before and now and before != now:
        yield (
            f"the weights know positions laid over {before} patches a side at this resolution; "
            f"denoiser.base_grid lays them over {now}"
        )


def _known_grid(recipe: Recipe) -> int | None:
    """The patches a side that computed positions are laid over: without a base, the grid's own."""
    return getattr(recipe.denoiser, "base_grid", None) or known_patches_a_side(recipe)


def _laws(old: Recipe, new: Recipe) -> Iterator[str]:
    """What the method says of another resolution."""
    ratio = new.data.resolution / old.data.resolution
    times = f"at {ratio:g} times the side"
    noise = old.diffusion.rescale * ratio
    if noise < 1 and new.diffusion.schedule != "flow":
        yield (
            f"{times}, diffusion.rescale {noise:g} would keep the signal-to-noise ratio that "
            "content is seen at, which a discrete schedule cannot have below 1: the model meets "
            "other noise than it knows"
        )
    elif not isclose(new.diffusion.rescale, noise):
        yield (
            f"{times}, diffusion.rescale {noise:g} keeps the signal-to-noise ratio that content "
            f"is seen at; it is {new.diffusion.rescale:g} (measured, it gained nothing: "
            "docs/reference/transfer.md)"
        )
    scale = old.sampling.guidance.semantic_scale
    wanted = scale_at_resolution(scale, ratio)
    if scale != 1 and not isclose(new.sampling.guidance.semantic_scale, wanted):
        yield (
            f"the law 1 + s (lambda - 1) takes sampling.guidance.semantic_scale {scale:g} to "
            f"{wanted:g}; it is {new.sampling.guidance.semantic_scale:g}"
        )
    grid = _known_grid(old)
    if ratio > 1 and grid and getattr(new.denoiser, "base_grid", 0) is None:
        yield (
            f"{times}, denoiser.base_grid {grid} resamples the positions that the weights know; "
            "without it they are extrapolated"
        )
