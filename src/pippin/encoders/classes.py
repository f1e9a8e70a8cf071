# SPDX-License-Identifier: Apache-2.0
"""Autoencoder classes that pippin reads: shape and kind of their latents, from config.json alone.

Everything that differs between the classes is in :data:`CLASSES`, without torch, so that plans and
checks of recipes read no weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pippin.system.formats import ENTRY_ERRORS, foreign_entry_error

Settings = Mapping[str, Any]
"""Content of config.json; settings that are missing have the defaults of diffusers."""
OutputField = Literal["latent_dist", "latent", "latents"]
"""Field of an encoder's output: a posterior, or the latents of a deterministic encoder."""

PIXEL_CLASS = "PixelNetwork"
"""Class in config.json of the identity, see :mod:`pippin.encoders.pixels`."""
REPRESENTATION_CLASS = "RepresentationNetwork"
"""Class in config.json of :mod:`pippin.encoders.representation.network`."""
OWN_CLASSES = (PIXEL_CLASS, REPRESENTATION_CLASS)
"""Classes that are pippin's, not diffusers'."""


@dataclass(frozen=True, kw_only=True)
class LatentLayout:
    """Shape of an autoencoder's latents."""

    factor: int
    """Downsampling factor: pixels per latent along a side."""
    channels: int
    has_variance: bool = True
    """False for a deterministic encoder: one latent for each image."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderClass:
    """How one class of diffusers encodes and decodes images."""

    name: str
    channels: Callable[[Settings], int]
    """Channels of the network's latents, before patches are folded."""
    factor: Callable[[Settings], int]
    """Downsampling factor of the network."""
    output: OutputField = "latent_dist"
    reads_frames: bool = False
    """Whether it reads videos, of which an image is one frame."""
    batch_norm: bool = False
    """Whether the running statistics of its layer ``bn`` normalise the latents."""
    fold: Callable[[Settings], int] = lambda settings: 1
    """Side of the patches of latents that its pipelines fold into channels before they normalise;
    1 = none."""
    derived: tuple[str, ...] = ()
    """Settings in config.json that are no arguments of the class."""

    def layout(self, settings: Settings) -> LatentLayout:
        """Shape of the latents that a diffusion model reads.

        Raises:
            KeyError, TypeError: settings are missing, or of another type.
            ValueError: a factor or a number of channels that no network has.
        """
        side = self.fold(settings)
        factor, channels = self.factor(settings) * side, self.channels(settings) * side**2
        if min(factor, channels) < 1:
            raise ValueError(f"factor and channels must be 1 or more; got {factor} and {channels}")
        return LatentLayout(
            factor=factor, channels=channels, has_variance=self.output == "latent_dist"
        )


def _setting(name: str, default: int | None = None) -> Callable[[Settings], int]:
    """Value of a setting; without a default it must be there."""
    if default is None:
        return lambda settings: int(settings[name])
    return lambda settings: int(settings.get(name, default))


def _levels(name: str, default: int | None = None) -> Callable[[Settings], int]:
    """Factor of a network that halves the sides between the levels that a setting lists.

    Args:
        name: the setting.
        default: number of levels if it is missing; None = it must be there.
    """
    if default is None:
        return lambda settings: 2 ** (len(settings[name]) - 1)
    return lambda settings: 2 ** (len(settings.get(name, range(default))) - 1)


def _wan_factor(settings: Settings) -> int:
    """Factor of Wan's levels, and of the patches of pixels that its encoder reads (Wan 2.2)."""
    return _levels("dim_mult", 4)(settings) * int(settings.get("patch_size") or 1)


def _square_patch(settings: Settings) -> int:
    """Side of FLUX.2's patches."""
    height, width = settings.get("patch_size", (2, 2))
    if height != width:
        raise ValueError(f"patch_size must have two equal sides; got {height} x {width}")
    return int(height)


CLASSES: dict[str, AutoencoderClass] = {
    kind.name: kind
    for kind in (
        AutoencoderClass(
            name="AutoencoderKL",
            channels=_setting("latent_channels"),
            factor=_levels("block_out_channels"),
        ),
        AutoencoderClass(
            name="AutoencoderKLFlux2",
            channels=_setting("latent_channels", 32),
            factor=_levels("block_out_channels", 4),
            batch_norm=True,
            fold=_square_patch,
        ),
        AutoencoderClass(
            name="AutoencoderKLHunyuanImage",
            channels=_setting("latent_channels"),
            factor=_setting("spatial_compression_ratio"),
        ),
        AutoencoderClass(
            name="AutoencoderKLKVAE",
            channels=_setting("z_channels", 16),
            factor=_levels("ch_mult", 4),
        ),
        AutoencoderClass(
            name="AutoencoderKLQwenImage",
            channels=_setting("z_dim", 16),
            factor=_levels("dim_mult", 4),
            reads_frames=True,
        ),
        AutoencoderClass(
            name="AutoencoderKLWan",
            channels=_setting("z_dim", 16),
            factor=_wan_factor,
            reads_frames=True,
        ),
        AutoencoderClass(
            name="AutoencoderDC",
            channels=_setting("latent_channels", 32),
            factor=_levels("encoder_block_out_channels", 6),
            output="latent",
        ),
        AutoencoderClass(
            name="AutoencoderTiny",
            channels=_setting("latent_channels", 4),
            factor=_levels("encoder_block_out_channels", 4),
            output="latents",
            derived=("block_out_channels",),
        ),
        AutoencoderClass(
            name=PIXEL_CLASS,
            channels=_setting("latent_channels", 3),
            factor=_levels("block_out_channels", 1),
            output="latent",
        ),
        AutoencoderClass(
            name=REPRESENTATION_CLASS,
            channels=_setting("latent_channels"),
            factor=_levels("block_out_channels"),
            output="latent",
        ),
    )
}
"""Class name in config.json -> class."""
DEFAULT_CLASS = "AutoencoderKL"
"""Class of a config.json that names none."""


def find_class(settings: Settings) -> AutoencoderClass:
    """Class of a config.json.

    Raises:
        ValueError: the class is not supported; the message names the supported ones.
    """
    name = settings.get("_class_name", DEFAULT_CLASS)
    if not isinstance(name, str) or name not in CLASSES:
        raise ValueError(
            f"autoencoder of an unsupported class: config.json names {name!r}; supported are the "
            f"diffusers classes {', '.join(supported_classes())}: give --autoencoder.source a "
            "folder of one of these"
        )
    return CLASSES[name]


def supported_classes() -> list[str]:
    """Names of the supported classes of diffusers."""
    return [name for name in CLASSES if name not in OWN_CLASSES]


def read_layout(settings: Settings) -> LatentLayout:
    """Shape of the latents of a config.json.

    Raises:
        ValueError: an unsupported class, or settings without the shape.
    """
    kind = find_class(settings)
    try:
        return kind.layout(settings)
    except ENTRY_ERRORS as error:
        what = f"the latents of an autoencoder of class {kind.name}"
        raise foreign_entry_error("config.json", what, error) from error
