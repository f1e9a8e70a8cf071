# SPDX-License-Identifier: Apache-2.0
"""The one table of denoisers by kind: ours, and those that a program registers before it trains.

A recipe holds the kind and its settings alone, never a module to import: a checkpoint of somebody
else cannot make pippin run code that its user did not register.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from pippin.config import ConfigError
from pippin.denoisers.config import (
    DenoiserConfig,
    DiTConfig,
    MDTv2Config,
    MMDiTConfig,
    PixArtConfig,
    UNetConfig,
)

if TYPE_CHECKING:
    from pippin.denoisers.denoiser import Denoiser

Build = Callable[[Any, int], "Denoiser"]
"""(configuration, channels of a latent) -> denoiser."""


class _Known(NamedTuple):
    config: type[DenoiserConfig]
    build: Build


def _ours(module: str, name: str) -> Build:
    """A class of the package, imported with its first model: configurations need no torch."""

    def build(config: Any, latent_channels: int) -> "Denoiser":
        found: Build = getattr(import_module(f"pippin.denoisers.{module}"), name)
        return found(config, latent_channels)

    return build


_REGISTERED: dict[str, _Known] = {
    "dit": _Known(DiTConfig, _ours("dit", "DiT")),
    "mdtv2": _Known(MDTv2Config, _ours("mdtv2", "MDTv2")),
    "pixart": _Known(PixArtConfig, _ours("pixart", "PixArt")),
    "mmdit": _Known(MMDiTConfig, _ours("mmdit", "MMDiT")),
    "unet": _Known(UNetConfig, _ours("unet", "UNet")),
}


def register_denoiser(config: type[DenoiserConfig], denoiser: Build) -> None:
    """Make a denoiser known by the ``kind`` of its configuration in this process.

    Args:
        config: a frozen dataclass derived from :class:`DenoiserConfig`, or from that of a denoiser
            of ours; its field ``kind`` is a literal of its own, with itself as default.
        denoiser: a subclass of :class:`pippin.denoisers.denoiser.Denoiser`, made from such a
            configuration and the number of a latent's channels. docs/guides/extend.md says what it
            must do.

    Raises:
        ConfigError: a configuration without a kind of its own, or a kind that another class has.
    """
    kind = getattr(config, "kind", None)
    if not isinstance(kind, str) or not issubclass(config, DenoiserConfig):
        raise ConfigError(
            f"{config.__name__} cannot be registered: derive it from DenoiserConfig and give it a "
            'field such as kind: Literal["mine"] = "mine"'
        )
    known = _REGISTERED[kind].config if kind in _REGISTERED else config
    if (known.__module__, known.__qualname__) != (config.__module__, config.__qualname__):
        raise ConfigError(
            f"a denoiser of kind {kind!r} is registered already; choose another name"
        )
    # Classes that were defined anew, as in a notebook, take their place.
    _REGISTERED[kind] = _Known(config, denoiser)


def denoiser_config(kind: str) -> type[DenoiserConfig]:
    """The class that holds the settings of a kind.

    Raises:
        ConfigError: nothing of that kind was registered in this process.
    """
    return _find(kind).config


def build_denoiser(config: DenoiserConfig, latent_channels: int) -> "Denoiser":
    """A denoiser, its weights not yet set by ``initialise`` or a checkpoint.

    Raises:
        ConfigError: nothing of its kind was registered in this process.
    """
    return _find(config.kind).build(config, latent_channels)


def _find(kind: str) -> _Known:
    if kind not in _REGISTERED:
        raise ConfigError(
            f"denoiser.kind {kind!r} is not known; there are: {', '.join(_REGISTERED)}; call "
            "register_denoiser in the program that trains, samples or measures"
        )
    return _REGISTERED[kind]
