# SPDX-License-Identifier: Apache-2.0
"""``pippin convert PATH OUT --from dit``: convert weights of another implementation."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from pippin.cli.parsing.options import parse
from pippin.system.formats import parse_json
from pippin.system.text import print_text

AUTOENCODER = "ldm_vae"
"""Format of an autoencoder; all others are of a denoiser."""

if TYPE_CHECKING:
    from pippin.recipes.recipe import Recipe

Format = Literal[
    "diffusers",
    "dit",
    "sit",
    "lightningdit",
    "mdtv2",
    "pixart",
    "pixart_ms",
    "mmdit_sd3",
    "ldm_unet",
    "jit",
    "ddt",
    "ldm_vae",
]


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Write config.json and model.safetensors, for sampling or for initialising a run."""

    path: Annotated[Path, tyro.conf.Positional]
    """A weight file (.safetensors, .pt, .pth, .ckpt, .bin) or an index of several; for diffusers
    the folder of a model or a pipeline."""
    out: Annotated[Path, tyro.conf.Positional]
    """New folder, or one left unfinished by the same command; for ldm_vae new or empty."""
    source: Annotated[Format, tyro.conf.arg(name="from")]
    """Implementation that the weights come from. ldm_vae is an autoencoder, such as VA-VAE's or
    kl-f4: OUT becomes a folder for autoencoder.source."""
    arguments: tuple[str, ...] = ()
    """Arguments of the published class's constructor, such as hidden_size=384 depth=12; others
    have the class's defaults."""
    key: str | None = None
    """Entry of a checkpoint file, or prefix of tensor names, that holds the weights, such as
    model, ema.ema_model; None = averaged weights, if any."""
    schedule: Literal["sd", "ldm-f4", "ddpm", "cosine", "flow"] | None = None
    """Noise schedule of the weights' training, see diffusion.schedule; None = that of the folder,
    or of the published class."""
    prediction: Literal["eps", "v", "x0", "flow"] | None = None
    """Prediction type of the network; None as above. flow: noise - data at x_t = (1 - t) data +
    t noise, where the network reads 1000 t."""
    weights: Literal["raw", "ema"] | None = None
    """Kind of weights, if the file does not state it: raw or averaged."""
    autoencoder: str | None = None
    """Autoencoder of the latents: a folder or a hub name; None = the pipeline's own, or the
    published one."""
    statistics: Path | None = None
    """For ldm_vae, a file with mean and std of each latent channel, such as VA-VAE's
    latents_stats.pt; None = none, so that runs need autoencoder.normalisation measured."""
    images_seen: int = 0
    """Number of images that the weights were trained on, for the lineage of fine-tuned runs;
    0 = unknown."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type of the weights on disk; loading casts them to float32."""


def main(argv: list[str]) -> int:
    """Parse, convert, save, and list what was not converted."""
    command = parse(ConvertCommand, "pippin convert", argv)
    if command.images_seen < 0:
        raise ValueError(f"--images-seen must be 0 or more; got {command.images_seen}")
    arguments = parse_arguments(command.arguments)
    if command.source == AUTOENCODER:
        return _convert_autoencoder(command, arguments)
    if command.statistics is not None:
        raise ValueError(
            f"--statistics are of an autoencoder, --from {AUTOENCODER}; got --from "
            f"{command.source}: leave --statistics out"
        )

    import torch

    from pippin.interop.convert import convert
    from pippin.runs.exports import check_export_folder
    from pippin.runs.trained import Trained, export
    from pippin.system.weight_checks import check_cast

    check_export_folder(command.out)
    incoming = convert(
        command.source,
        command.path,
        arguments=arguments,
        key=command.key,
        autoencoder=command.autoencoder,
        schedule=command.schedule,
        prediction=command.prediction,
        weights=command.weights,
    )
    loaded, dtype = incoming.loaded, getattr(torch, command.dtype)
    check_cast(loaded.model.state_dict(), dtype, str(command.path))
    trained = Trained(
        source=f"{loaded.source}: {command.path}",
        recipe=incoming.recipe,
        tensors=dict(loaded.model.state_dict()),
        weights=loaded.weights,
        images_seen=command.images_seen,
        lineage=(),
        average=loaded.average,
    )
    lacking = export(trained, command.out, dtype, fetch=False)
    for note in (*incoming.notes, *lacking):
        print_text(f"note: {note}")
    _list("not supported by pippin, dropped", loaded.unused_tensors)
    _list("missing in these weights, set to zero", loaded.zero_filled)
    count = sum(tensor.numel() for tensor in trained.tensors.values())
    diffusion = incoming.recipe.diffusion
    print_text(
        f"converted: {command.out} ({loaded.source}, {trained.description}, {count / 1e6:.2f} M "
        f"parameters, schedule {diffusion.schedule}, prediction {diffusion.prediction}, "
        f"autoencoder {incoming.recipe.autoencoder.source})\n"
        f"next: {_next(command.out, incoming.recipe, loaded.weights)}"
    )
    return 0


def _convert_autoencoder(command: ConvertCommand, arguments: dict[str, Any]) -> int:
    """Convert an autoencoder to a folder of diffusers' AutoencoderKL."""
    default = ConvertCommand(path=command.path, out=command.out, source=command.source)
    options = ("schedule", "prediction", "weights", "autoencoder", "images_seen")
    unused = [name for name in options if getattr(command, name) != getattr(default, name)]
    unused = [f"--{name.replace('_', '-')}" for name in unused]
    unused += [f"--arguments {name}" for name in arguments if name != "norm_num_groups"]
    if unused:
        raise ValueError(
            f"{', '.join(unused)} have no effect with --from {AUTOENCODER}, which reads an "
            "autoencoder: leave them out; it takes --key, --statistics, --dtype and --arguments "
            "norm_num_groups=N"
        )
    if command.out.exists() and (not command.out.is_dir() or any(command.out.iterdir())):
        raise ValueError(f"{command.out} exists: choose a new folder, or an empty one")

    import torch

    from pippin.interop.ldm_autoencoder import NORM_GROUPS, convert_autoencoder
    from pippin.system.weight_checks import check_cast

    groups = arguments.get("norm_num_groups", NORM_GROUPS)
    if type(groups) is not int or groups < 1:
        raise ValueError(
            f"--arguments norm_num_groups={groups} is no number of groups; it must be an integer "
            f"of 1 or more that divides the widths of the autoencoder: leave it out for "
            f"{NORM_GROUPS}, or give --arguments norm_num_groups=N"
        )
    dtype = getattr(torch, command.dtype)
    converted = convert_autoencoder(
        command.path, statistics=command.statistics, key=command.key, norm_groups=groups
    )
    own = converted.autoencoder
    check_cast(own.state_dict(), dtype, str(command.path))
    own.save(command.out, dtype=dtype)
    for note in converted.notes:
        print_text(f"note: {note}")
    _list("of its training, dropped", converted.dropped)
    layout, count = own.layout, sum(value.numel() for value in own.network.parameters())
    measured = "" if own.has_statistics else " --autoencoder.normalisation measured"
    print_text(
        f"converted: {command.out} ({AUTOENCODER}, factor {layout.factor}, {layout.channels} "
        f"channels, {count / 1e6:.2f} M parameters)\n"
        f"next: --autoencoder.source {shlex.quote(str(command.out))}{measured}"
    )
    return 0


def parse_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE constructor arguments; the value is JSON, a Python literal, or text.

    Raises:
        ValueError: no = in a pair.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--arguments are NAME=VALUE; got {pair!r}")
        words = {"None": None, "True": True, "False": False}
        try:
            arguments[name] = words[text] if text in words else parse_json(text)
        except ValueError:
            arguments[name] = text
    return arguments


def _list(title: str, names: Sequence[str]) -> None:
    if names:
        print_text(f"{title}: {', '.join(names)}")


def _next(out: Path, recipe: "Recipe", weights: str) -> str:
    """Suggested next commands, one per line."""
    from pippin.interop.convert import base_recipe, fine_tuning

    text = recipe.conditioning.semantic.kind == "text"
    encoders = "CLIP-L CLIP-G T5" if recipe.text.combine == "sd3" else "ENCODER"
    folder = shlex.quote(str(out))
    prompts = f" --prompts ... --text-source {encoders}" if text else ""
    sample = f"pippin sample {folder}{prompts}"
    settings = fine_tuning(recipe)
    if settings is None:
        return sample
    words = ["pippin train", base_recipe(recipe.denoiser), "--data.path FOLDER"]
    words += [f"--init.run {folder}", *([] if text else ["--init.transfer classes"])]
    words += ["--init.weights raw"] if weights == "raw" else []
    words += [
        f"--{path.replace('_', '-')} {_option_value(value)}" for path, value in settings.items()
    ]
    return f"{sample}\n  or: {' '.join(words)}"


def _option_value(value: Any) -> str:
    """Value of a command-line option."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return " ".join(shlex.quote(str(item)) for item in values)
