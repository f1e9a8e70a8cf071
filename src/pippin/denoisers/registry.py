# SPDX-License-Identifier: Apache-2.0
"""Registry of denoisers by kind: pippin's, and those that a program registers.

A recipe contains only the kind and its settings, never a module to import: a downloaded checkpoint
cannot make pippin run code that its user did not register, import or install as a plugin.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from pippin.config import ConfigError
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.ddt.config import DDTConfig
from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.jit.config import JiTConfig
from pippin.denoisers.mdtv2.config import MDTv2Config
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.denoisers.pixart.config import PixArtConfig
from pippin.denoisers.unet.config import UNetConfig
from pippin.plugins import (
    find_registered,
    note_registration,
    refuse_redefinition,
    register_advice,
)

if TYPE_CHECKING:
    from pippin.denoisers.denoiser import Denoiser

Build = Callable[[Any, int], "Denoiser"]
"""(configuration, channels of a latent) -> denoiser."""


class _Registration(NamedTuple):
    config: type[DenoiserConfig]
    build: Build


def _lazy_build(module: str, name: str) -> Build:
    """Builder that imports a class of the package on first use: configurations need no torch."""

    def build(config: Any, latent_channels: int) -> "Denoiser":
        denoiser_class: Build = getattr(import_module(f"pippin.denoisers.{module}.model"), name)
        return denoiser_class(config, latent_channels)

    return build


_REGISTERED: dict[str, _Registration] = {
    "dit": _Registration(DiTConfig, _lazy_build("dit", "DiT")),
    "mdtv2": _Registration(MDTv2Config, _lazy_build("mdtv2", "MDTv2")),
    "pixart": _Registration(PixArtConfig, _lazy_build("pixart", "PixArt")),
    "mmdit": _Registration(MMDiTConfig, _lazy_build("mmdit", "MMDiT")),
    "unet": _Registration(UNetConfig, _lazy_build("unet", "UNet")),
    "jit": _Registration(JiTConfig, _lazy_build("jit", "JiT")),
    "ddt": _Registration(DDTConfig, _lazy_build("ddt", "DDT")),
}


def register_denoiser(config: type[DenoiserConfig], denoiser: Build) -> None:
    """Register a denoiser by the ``kind`` of its configuration in this process.

    Args:
        config: a frozen dataclass derived from :class:`DenoiserConfig`, or from the configuration
            of another denoiser; its field ``kind`` is a literal of its own, with itself as
            default.
        denoiser: a subclass of :class:`pippin.denoisers.denoiser.Denoiser`, built from such a
            configuration and the number of latent channels. docs/guides/extend.md has its
            requirements.

    Raises:
        ConfigError: a configuration without a kind of its own, or a kind of another class.
    """
    kind = getattr(config, "kind", None)
    if not isinstance(kind, str) or not issubclass(config, DenoiserConfig):
        raise ConfigError(
            f"{config.__name__} cannot be registered: derive it from DenoiserConfig and give it a "
            'field such as kind: Literal["mine"] = "mine"'
        )
    if kind in _REGISTERED:
        refuse_redefinition(_REGISTERED[kind].config, config, f"a denoiser of kind {kind!r}")
    _REGISTERED[kind] = _Registration(config, denoiser)
    note_registration(config)
    note_registration(denoiser)


def denoiser_config(kind: str) -> type[DenoiserConfig]:
    """Configuration class of a kind.

    Raises:
        ConfigError: the kind is not registered in this process, nor by an installed plugin.
    """
    return _find(kind).config


def build_denoiser(config: DenoiserConfig, latent_channels: int) -> "Denoiser":
    """Build a denoiser, whose weights ``initialise`` or a checkpoint sets later.

    Raises:
        ConfigError: its kind is not registered in this process.
    """
    return _find(config.kind).build(config, latent_channels)


def _find(kind: str) -> _Registration:
    return find_registered(
        _REGISTERED,
        kind,
        f"denoiser.kind {kind!r} is not known",
        register_advice("register_denoiser"),
        list_known=True,
    )
