# SPDX-License-Identifier: Apache-2.0
"""Published UNet of latent diffusion: its constructor arguments and its tensors."""

from collections.abc import Iterator

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.unet.config import UNetConfig
from pippin.denoisers.unet.layers import spatial_transformer
from pippin.denoisers.weights.arguments import (
    NO_CONTROL,
    SD_VAE,
    SD_VAE_SCALE,
    Arguments,
    ModelSpec,
)
from pippin.denoisers.weights.formats import PublishedFormat
from pippin.denoisers.weights.tensor_table import Entry, Shapes, layers
from pippin.diffusion.config import DiffusionConfig

UNUSED_SIDE = 32
"""``image_size`` in the configurations of Stable Diffusion, whose latents are 64 x 64."""
SD_CONTEXTS = (768, 1024)
"""Caption widths of Stable Diffusion 1 and 2."""
SIDE_NOTE = (
    f"image_size={UNUSED_SIDE} of Stable Diffusion's configurations is unused: assuming latents "
    "of 64 x 64 (512 pixels); `pippin sample --size HxW` samples other sizes"
)


SD2_NOTE = (
    "Stable Diffusion 2, whose captions are 1024 wide, has models of two processes with the same "
    "tensors: those of 768 pixels predict v (--prediction v), those of 512 eps"
)


def read_ldm_unet(args: Arguments) -> ModelSpec:
    """CompVis/latent-diffusion, with spatial transformers.

    Latents of 3 channels belong to its f4 models, which have their own schedule and no latent
    scale; 4 channels belong to Stable Diffusion.
    """
    args.ignore("use_checkpoint", "use_fp16", "legacy")
    args.require("use_spatial_transformer", True)
    args.require("dims", 2)
    args.require("conv_resample", True)
    args.require("dropout", 0.0, 0)
    args.require("num_classes", None)
    args.require("n_embed", None)
    args.require("num_heads_upsample", -1)
    args.require("use_scale_shift_norm", False)
    args.require("resblock_updown", False)
    args.require("use_new_attention_order", False)
    channels = args.take("in_channels", 4)
    args.require("out_channels", channels)
    head_width = args.take("num_head_channels", -1)
    heads = args.take("num_heads", -1)
    context = args.take_uniform("context_dim", None)
    if not isinstance(context, int):
        raise ValueError(
            f"{args.source}: context_dim={context!r} is not supported; give its width"
        )
    denoiser = UNetConfig(
        channels=args.take("model_channels", 320),
        channel_multiples=tuple(args.take("channel_mult", (1, 2, 4, 8))),
        blocks_per_level=args.take("num_res_blocks", 2),
        attention_factors=tuple(args.take("attention_resolutions", (4, 2, 1))),
        token_width=context,
        num_heads=heads if head_width == -1 else None,
        head_width=None if head_width == -1 else head_width,
        transformer_depth=args.take("transformer_depth", 1),
        norm_groups=args.take("group_norm_groups", 32),
    )
    semantic = TextSemantic(token_features=context, num_tokens=77, projection="none")
    side, notes = args.take("image_size", 64), tuple[str, ...]()
    if (channels, side) == (4, UNUSED_SIDE) and context in SD_CONTEXTS:
        side, notes = 64, (SIDE_NOTE,)
    if (channels, context) == (4, SD_CONTEXTS[1]):
        notes = (*notes, SD2_NOTE)
    return ModelSpec(
        denoiser=denoiser,
        conditioning=ConditioningConfig(
            semantic=semantic, rules={"text": "attention"}, control=NO_CONTROL
        ),
        diffusion=DiffusionConfig(schedule="ldm-f4" if channels == 3 else "sd"),
        latent_channels=channels,
        latent_side=side,
        latent_scale=1.0 if channels == 3 else SD_VAE_SCALE,
        autoencoder=SD_VAE if channels == 4 else None,
        notes=notes,
    )


def unet_table(config: UNetConfig, shapes: Shapes) -> Iterator[Entry]:
    """CompVis/latent-diffusion, class ``UNetModel`` with spatial transformers."""
    for target, source in (("linear_in", "time_embed.0"), ("linear_out", "time_embed.2")):
        yield from layers(f"conditioner.time.{target}", source, shapes=shapes)
    for target, source in (("conv_in", "input_blocks.0.0"), ("norm_out", "out.0")):
        yield from layers(f"denoiser.{target}", source, shapes=shapes)
    yield from layers("denoiser.conv_out", "out.2", shapes=shapes)
    top, count = len(config.channel_multiples) - 1, config.blocks_per_level
    number, index = 0, 1
    for level in range(top + 1):
        for _ in range(count):
            yield from _unet_block(number, f"input_blocks.{index}", 0, config, shapes)
            number, index = number + 1, index + 1
        if level < top:
            down = f"denoiser.down.{level}"
            yield from layers(down, f"input_blocks.{index}.0.op", shapes=shapes)
            index += 1
    yield from _unet_block(number, "middle_block", 0, config, shapes)
    yield from _unet_block(number + 1, "middle_block", 2, config, shapes)
    number, index = number + 2, 0
    for level in reversed(range(top + 1)):
        for _ in range(count + 1):
            source = f"output_blocks.{index}"
            yield from _unet_block(number, source, 0, config, shapes)
            number, index = number + 1, index + 1
        if level > 0:
            attends = 2**level in config.attention_factors
            conv = f"{source}.{2 if attends else 1}.conv"
            yield from layers(f"denoiser.up.{level - 1}", conv, shapes=shapes)


def _unet_block(
    number: int, source: str, first: int, config: UNetConfig, shapes: Shapes
) -> Iterator[Entry]:
    """Residual block at ``source.first``, and the transformer after it, if there is one."""
    target = f"denoiser.blocks.{number}"
    for a, b in (
        ("norm_in", "in_layers.0"),
        ("conv_in", "in_layers.2"),
        ("modulation", "emb_layers.1"),
        ("norm_out", "out_layers.0"),
        ("conv_out", "out_layers.3"),
        ("shortcut", "skip_connection"),
    ):
        yield from layers(f"{target}.residual.{a}", f"{source}.{first}.{b}", shapes=shapes)
    yield from spatial_transformer(
        f"{target}.transformer", f"{source}.{first + 1}", config, shapes
    )


PUBLISHED = {
    "ldm_unet": PublishedFormat(
        read=read_ldm_unet,
        table=unet_table,
        anchors=("input_blocks.0.0.weight", "out.2.weight"),
        zero_filled=("conditioner.text_tokens.null",),
        tokens="context",
    )
}
