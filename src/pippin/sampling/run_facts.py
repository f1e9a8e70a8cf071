# SPDX-License-Identifier: Apache-2.0
"""Facts about a loaded run, in words, for a notebook."""

from typing import TYPE_CHECKING

from pippin.runs.overview import nearest_recipe

if TYPE_CHECKING:
    from pippin.sampling.load import LoadedRun

NAMED = 12
"""Number of classes that are named."""


def run_facts(run: "LoadedRun") -> dict[str, str]:
    """Name -> text: model, weights, conditions and sampling of a run."""
    recipe, sampling = run.recipe, run.recipe.sampling
    millions = sum(parameter.numel() for parameter in run.model.parameters()) / 1e6
    side = recipe.data.resolution
    return {
        "recipe": nearest_recipe(recipe),
        "model": f"{recipe.denoiser.kind}, {millions:.3g} M parameters, {side} x {side} pixels",
        "weights": run.description + (f", sha256 {run.sha256[:12]}" if run.sha256 else ""),
        "prompts": _prompts(run),
        "control": ", ".join(run.read_names) or "none",
        "sampling": f"{sampling.solver}, {sampling.steps} steps",
    }


def _prompts(run: "LoadedRun") -> str:
    """Kind of the prompts, with the first classes."""
    if run.recipe.conditioning.semantic.kind != "label":
        return f"text, read by {', '.join(run.recipe.text.source)}"
    names = run.class_names
    more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} classes: {', '.join(names[:NAMED])}{more}"
