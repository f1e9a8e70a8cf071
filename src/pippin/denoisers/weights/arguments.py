# SPDX-License-Identifier: Apache-2.0
"""Constructor arguments of a model class, each read once, and the resulting model description."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pippin.conditioning.config import ConditioningConfig, ControlConfig, LabelSemantic
from pippin.denoisers.config import DenoiserConfig
from pippin.diffusion.config import DiffusionConfig


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Description of a published model as pippin configurations."""

    denoiser: DenoiserConfig
    conditioning: ConditioningConfig
    diffusion: DiffusionConfig
    latent_channels: int
    latent_side: int
    """Latent side that the class was built for; pippin also accepts other sides, if positions
    allow."""
    num_classes: int = 1
    latent_scale: float | None = None
    """Scale of the latents (moments - shift) * scale of the published weights; None = unknown."""
    latent_shift: float = 0.0
    autoencoder: str | None = None
    """Published autoencoder of the latents; None: that of the denoiser's published recipe."""
    notes: tuple[str, ...] = ()
    """Choices made where the arguments are ambiguous."""


_LIKE: dict[type, tuple[type, ...]] = {
    int: (int,),
    float: (float, int),
    bool: (bool,),
    str: (str,),
    tuple: (tuple, list),
}
"""Type of a default -> allowed types of values."""


class Arguments:
    """Constructor arguments, each of which must be read.

    Args:
        source: name of the class, for messages.
        arguments: arguments by name.
    """

    def __init__(self, source: str, arguments: Mapping[str, Any]) -> None:
        self.source, self._remaining = source, dict(arguments)

    def take(self, name: str, default: Any) -> Any:
        """Read an argument, or the default of the published class.

        Raises:
            ValueError: a value of another type than the default's.
        """
        value = self._remaining.pop(name, default)
        allowed = _LIKE.get(type(default), (object,))
        is_allowed = type(value) in allowed or allowed == (object,)
        if not is_allowed and value != default:
            raise ValueError(
                f"{self.source}: {name}={value!r} must be {allowed[0].__name__}, as {default!r}"
            )
        return value

    def has(self, name: str) -> bool:
        """True if an argument is given and not yet read."""
        return name in self._remaining

    def take_uniform(self, name: str, default: Any) -> Any:
        """Read an argument that may be a list with one value per level; pippin has one for all.

        Raises:
            ValueError: levels that differ, or as :meth:`take`.
        """
        values = self._remaining.get(name)
        if isinstance(values, (list, tuple)):
            if len(set(map(str, values))) != 1:
                raise ValueError(
                    f"{self.source}: {name}={list(values)} is not supported; only equal values"
                )
            self._remaining[name] = values[0]
        return self.take(name, default)

    def take_choice(self, name: str, *allowed: Any) -> Any:
        """Read an argument of which pippin supports some values only; the first is the default.

        Raises:
            ValueError: another value.
        """
        value = self._remaining.pop(name, allowed[0])
        if value not in allowed:
            listed = " or ".join(map(repr, allowed))
            raise ValueError(f"{self.source}: {name}={value!r} is not supported; only {listed}")
        return value

    def require(self, name: str, *allowed: Any) -> None:
        """Like :meth:`take_choice`, for values that are equivalent in pippin."""
        self.take_choice(name, *allowed)

    def ignore(self, *names: str) -> None:
        """Discard arguments that change training or speed only."""
        for name in names:
            self._remaining.pop(name, None)

    def check_all_used(self) -> None:
        """Refuse unread arguments. An unknown argument of value None belongs to a later version of
        the class, and these weights do not use it.

        Raises:
            ValueError: an unread argument; it is named.
        """
        unused = [
            f"{name}={value!r}" for name, value in self._remaining.items() if value is not None
        ]
        if unused:
            raise ValueError(
                f"{self.source} has no argument {', '.join(sorted(unused))} here; its effect on "
                "the model is unknown"
            )


NO_CONTROL = ControlConfig(high=(), low=())
BY_CLASS = ConditioningConfig(
    semantic=LabelSemantic(), rules={"label": "modulation"}, control=NO_CONTROL
)
SD_VAE = "stabilityai/sd-vae-ft-mse"
SD_VAE_SCALE = 0.18215
SD3_SCALE, SD3_SHIFT = 1.5305, 0.0609


XL_WIDTH = 1152
"""Default width of the published classes, with 16 heads."""


def class_conditional(args: Arguments, denoiser: DenoiserConfig, side: int) -> ModelSpec:
    return ModelSpec(
        denoiser=denoiser,
        conditioning=BY_CLASS,
        diffusion=DiffusionConfig(schedule="ddpm"),
        latent_channels=args.take("in_channels", 4),
        latent_side=side,
        num_classes=args.take("num_classes", 1000),
        latent_scale=SD_VAE_SCALE,
    )


def take_width(args: Arguments, default: int, heads: str = "num_heads") -> int:
    """Read ``hidden_size``, which needs the number of heads beside it.

    Args:
        args: arguments of the class.
        default: default of the class.
        heads: name of the argument with the number of heads.

    Raises:
        ValueError: another width than the default, and no number of heads.
    """
    heads_given = args.has(heads)
    width: int = args.take("hidden_size", default)
    if width != default and not heads_given:
        raise ValueError(
            f"{args.source}: hidden_size={width} without {heads}: weights do not contain the "
            f"number of heads; give {heads} too (S 6, B 12, L and XL 16)"
        )
    return width


def transformer_arguments(args: Arguments) -> dict[str, Any]:
    return {
        "width": take_width(args, XL_WIDTH),
        "depth": args.take("depth", 28),
        "num_heads": args.take("num_heads", 16),
        "patch_size": args.take("patch_size", 2),
        "mlp_ratio": args.take("mlp_ratio", 4.0),
    }
