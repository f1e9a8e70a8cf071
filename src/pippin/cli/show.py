# SPDX-License-Identifier: Apache-2.0
"""``pippin show RECIPE [--latent-shape C H W] [--num-classes N] [--a.b value ...]``."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli.listing import recipe_list
from pippin.cli.parsing.common_options import RECIPE_OPTIONS
from pippin.cli.parsing.options import parse
from pippin.cli.parsing.text_encoder_option import TextEncoderOption
from pippin.cli.parsing.verb_help import HELP
from pippin.cli.recipe_argument import (
    config_first,
    find_recipe,
    located_recipe,
    recorded_classes,
)
from pippin.data.config import ImagesConfig
from pippin.data.views.buckets import size_name
from pippin.diffusion.config import DiffusionConfig, MeanFlowConfig
from pippin.encoders.config import HUB_PREFIX
from pippin.recipes.recipe import Recipe, Shape, latent_shape_of
from pippin.recipes.table import recipe_json, recipe_yaml
from pippin.system.text import plain_text, print_text

if TYPE_CHECKING:
    from rich.table import Table

USAGE = """usage: pippin show RECIPE [options]      pippin show RECIPE --help lists its options
       pippin show --config FILE.yaml|RUN/config.json [options]
       pippin show hf://USER/NAME [options]

{recipes}"""


@dataclass(frozen=True, kw_only=True)
class ShowCommand(TextEncoderOption):
    """Show a recipe and its cost, without reading data or weights."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    latent_shape: Shape | None = None
    """Channels, height, width; None = from the autoencoder if known, otherwise 4 channels and an
    eighth of the resolution."""
    num_classes: int | None = None
    """None = OpenMoji's groups, those of the run of --config, or ImageNet's 1000."""
    yaml: bool = False
    """Print all settings as YAML, a file for --config."""
    json: bool = False
    """Print all settings as JSON, a file for --config."""


def main(argv: list[str]) -> int:
    """Parse and print."""
    argv = config_first(argv)
    if not argv or argv[0] in HELP:
        print_text(USAGE.format(recipes=recipe_list()))
        return 0 if argv else 2
    argv, hub = _with_hub_settings(argv)
    name, recipe, rest = find_recipe(argv)
    name = hub or name
    default = ShowCommand(recipe=recipe, num_classes=recorded_classes(argv))
    command = parse(ShowCommand, f"pippin show {name}", rest, default, RECIPE_OPTIONS)
    command = replace(command, recipe=located_recipe(argv, command.recipe))
    if command.yaml or command.json:
        print_text(recipe_yaml(command.recipe) if command.yaml else recipe_json(command.recipe))
        return 0
    if min(command.latent_shape or (1,)) < 1 or (command.num_classes or 1) < 1:
        raise ValueError("--latent-shape and --num-classes must be 1 or more")

    from rich.console import Console

    Console().print(_table(name, command))
    return 0


def _with_hub_settings(argv: list[str]) -> tuple[list[str], str]:
    """Arguments with the settings of a hub model as ``--config FILE``, and its name with commit;
    other arguments are unchanged, with an empty name."""
    if not argv[0].startswith(HUB_PREFIX):
        return argv, ""
    from pippin.runs.hub_source import pinned_name, settings_folder

    folder = settings_folder(argv[0])
    return ["--config", str(folder / "config.json"), *argv[1:]], pinned_name(argv[0], folder)


def _table(name: str, command: ShowCommand) -> "Table":
    from rich.table import Column, Table

    table = Table("", Column(plain_text(name)), show_lines=False)
    shape = command.latent_shape or latent_shape_of(command.recipe)
    for left, right in (*_described(command.recipe), *_costs(command, shape)):
        table.add_row(plain_text(left), plain_text(right))
    return table


def _described(recipe: Recipe) -> list[tuple[str, str]]:
    """Rows that describe the recipe."""
    diffusion, conditioning, train = recipe.diffusion, recipe.conditioning, recipe.train
    control, sampling = conditioning.control, recipe.sampling
    rules = ", ".join(f"{source} by {path}" for source, path in conditioning.rules.items())
    gates = [
        f"{group}: {', '.join(fields)} ({gate.kind} gate)"
        for group, fields, gate in (
            ("high", control.high, control.high_gate),
            ("low", control.low, control.low_gate),
        )
        if fields
    ]
    return [
        ("denoiser", recipe.denoiser.kind),
        ("autoencoder", _autoencoder(recipe)),
        ("resolution", f"{recipe.data.resolution} pixels{_buckets(recipe)}"),
        ("schedule", _schedule(diffusion)),
        ("prediction", diffusion.prediction),
        ("times", diffusion.time_density.kind),
        ("loss weight", diffusion.loss_weight.kind),
        *_mean_velocities(diffusion.meanflow),
        ("semantics", rules or "none"),
        ("control", "; ".join(gates) or "none"),
        ("training", f"{train.images:,} images, batches of {train.batch_size}, {train.precision}"),
        (
            "sampling",
            f"{sampling.solver}, {sampling.steps} steps, "
            f"{'autoguidance' if sampling.autoguided else 'guidance'} {sampling.scale:g}",
        ),
    ]


def _autoencoder(recipe: Recipe) -> str:
    """Name of the autoencoder, and how latents are normalised."""
    measured = recipe.autoencoder.normalisation == "measured"
    return f"{recipe.autoencoder.source}{', latents normalised as measured' * measured}"


def _buckets(recipe: Recipe) -> str:
    """Sizes of non-square training images; costs are those of a square."""
    data = recipe.data
    if not isinstance(data, ImagesConfig) or not data.aspect_ratios:
        return ""
    return f", in buckets of {', '.join(map(size_name, data.view_sizes))}; costs are for a square"


def _costs(command: ShowCommand, shape: Shape) -> list[tuple[str, str]]:
    """Rows on the recipe's cost per image."""
    from pippin.evaluation.metrics.cost import denoiser_flops, training_flops
    from pippin.planning.activations import activation_bytes
    from pippin.planning.data_sizes import num_classes_of
    from pippin.planning.states import training_model
    from pippin.training.blocks import checkpoint_blocks

    recipe = command.recipe
    classes = command.num_classes or num_classes_of(recipe)
    own = recipe.conditioning, recipe.denoiser
    model = training_model(*own, classes, shape[0], recipe.train.repa)
    parts = {"denoiser": model.denoiser, "conditioner": model.conditioner}
    if model.projector is not None:
        parts["projector of training"] = model.projector
    counts = {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}
    forward = denoiser_flops(model, shape)
    step = training_flops(
        model, shape, masking=recipe.train.masking, meanflow=recipe.diffusion.meanflow
    )
    every = recipe.train.gradient_checkpointing
    checkpoint_blocks(model.denoiser.blocks, every)
    stored = activation_bytes(model, shape, recipe.train.masking.lowest_ratio)
    checkpointing = f"; gradient checkpointing {every}" if every else ""
    return [
        ("latent", " x ".join(map(str, shape))),
        ("classes", str(classes) if "label" in recipe.conditioning.rules else "none"),
        *((f"parameters, {part}", f"{count / 1e6:.2f} M") for part, count in counts.items()),
        ("parameters", f"{sum(counts.values()) / 1e6:.2f} M"),
        ("forward", f"{forward / 2e9:.4g} GMACs = {forward / 1e9:.4g} GFLOPs per image"),
        ("training", f"{step / 2e9:.4g} GMACs = {step / 1e9:.4g} GFLOPs per image"),
        (
            "activations",
            f"about {stored / 2**20:.4g} MiB per image in training, fp32{checkpointing}",
        ),
    ]


def _mean_velocities(meanflow: MeanFlowConfig) -> list[tuple[str, str]]:
    """Row on MeanFlow, where it is on."""
    if not meanflow.enabled:
        return []
    scale = meanflow.omega / (1 - meanflow.kappa)
    guided = f", guided in training by {scale:g}" if meanflow.guided else ""
    return [("mean velocities", f"{meanflow.share:.0%} of the images have r < t{guided}")]


def _schedule(diffusion: DiffusionConfig) -> str:
    rescaled = f", SNR / {diffusion.rescale:g}^2" if diffusion.rescale != 1 else ""
    return f"{diffusion.schedule}{rescaled}"
