# SPDX-License-Identifier: Apache-2.0
"""Constructor arguments of a model class, each asked for once, and what they make."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pippin.conditioning.config import ConditioningConfig, ControlConfig, LabelSemantic
from pippin.denoisers.config import DenoiserConfig
from pippin.diffusion.config import DiffusionConfig


@dataclass(frozen=True, kw_only=True)
class Configured:
    """What a published model is, in our terms."""

    denoiser: DenoiserConfig
    conditioning: ConditioningConfig
    diffusion: DiffusionConfig
    latent_channels: int
    latent_side: int
    """That the class was built for; ours takes other sides too, where positions allow."""
    num_classes: int = 1
    latent_scale: float | None = None
    """(moments - shift) * scale are the latents that its published weights were trained on;
    None = not known."""
    latent_shift: float = 0.0
    notes: tuple[str, ...] = ()
    """What was chosen where the arguments leave it open."""


_LIKE: dict[type, tuple[type, ...]] = {
    int: (int,),
    float: (float, int),
    bool: (bool,),
    str: (str,),
    tuple: (tuple, list),
}
"""Type of a default -> types of values."""


class Arguments:
    """Constructor arguments, each of which must be asked for.

    Args:
        source: named in messages.
        given: by name.
    """

    def __init__(self, source: str, given: Mapping[str, Any]) -> None:
        self.source, self._left = source, dict(given)

    def take(self, name: str, default: Any) -> Any:
        """An argument, or the default of the published class.

        Raises:
            ValueError: a value of another type than the default's.
        """
        value = self._left.pop(name, default)
        allowed = _LIKE.get(type(default), (object,))
        right = type(value) in allowed or allowed == (object,)
        if not right and value != default:
            raise ValueError(
                f"{self.source}: {name}={value!r} must be {allowed[0].__name__}, as {default!r}"
            )
        return value

    def gives(self, name: str) -> bool:
        """Whether an argument is given and not yet asked for."""
        return name in self._left

    def take_one(self, name: str, default: Any) -> Any:
        """An argument that may be given for each level, where ours has one for all.

        Raises:
            ValueError: levels that differ, or as :meth:`take`.
        """
        values = self._left.get(name)
        if isinstance(values, (list, tuple)):
            if len(set(map(str, values))) != 1:
                raise ValueError(
                    f"{self.source}: {name}={list(values)} is not supported; only equal values"
                )
            self._left[name] = values[0]
        return self.take(name, default)

    def one_of(self, name: str, *allowed: Any) -> Any:
        """An argument of which we have some values only; the first is the default.

        Raises:
            ValueError: another value.
        """
        value = self._left.pop(name, allowed[0])
        if value not in allowed:
            listed = " or ".join(map(repr, allowed))
            raise ValueError(f"{self.source}: {name}={value!r} is not supported; only {listed}")
        return value

    def only(self, name: str, *allowed: Any) -> None:
        """As :meth:`one_of`, where the values make no difference to ours."""
        self.one_of(name, *allowed)

    def ignore(self, *names: str) -> None:
        """Arguments that change training or speed only."""
        for name in names:
            self._left.pop(name, None)

    def done(self) -> None:
        """Refuse what nobody asked for. An unknown argument without a value is one that a later
        version of the class has and these weights do not use.

        Raises:
            ValueError: naming it.
        """
        left = [f"{name}={value!r}" for name, value in self._left.items() if value is not None]
        if left:
            raise ValueError(
                f"{self.source} has no argument {', '.join(sorted(left))} here; what it does to "
                "the model is not known"
            )


NO_CONTROL = ControlConfig(high=(), low=())
BY_CLASS = ConditioningConfig(
    semantic=LabelSemantic(), rules={"label": "modulation"}, control=NO_CONTROL
)
SD_VAE_SCALE = 0.18215
SD3_SCALE, SD3_SHIFT = 1.5305, 0.0609
