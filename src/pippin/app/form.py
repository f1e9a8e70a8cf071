# SPDX-License-Identifier: Apache-2.0
"""Values of the page, checked: messages name the labels of the page and what is allowed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from pippin.app.controls import PlayControl, Value
from pippin.config import ConfigError
from pippin.sampling.config import SolverName
from pippin.settings.conversion import MAX_SETTING
from pippin.system.text import printable

MAX_CHARACTERS = 2000
"""Longest prompt; the text encoders read at most a few hundred tokens."""
MAX_IMAGES, MAX_STEPS, MAX_SCALE, MAX_LOG_SNR = 64, 1000, 50.0, 50.0
MAX_GRID_SIDE = 6
"""Largest number of values on a side of the guidance grid."""
MAX_SWEEP = 16
SOLVERS: tuple[str, ...] = get_args(SolverName)


@dataclass(frozen=True, kw_only=True)
class PlaySettings:
    """Settings of the page, for all models."""

    prompt: str = ""
    """Text, or the name of a class."""
    negative_prompt: str = ""
    """Empty = none."""
    first_seed: int = 0
    count: int = 16
    """Number of images, of consecutive seeds."""
    solver: SolverName
    steps: int
    semantic_scale: float = 1.0
    control_scale: float = 1.0
    guide_scale: float = 1.0
    """For a model with a guide; 1 = off."""
    rescale: float = 0.0
    log_snr_interval: tuple[float, float] | None = None
    controls: Mapping[str, Value] = field(default_factory=dict)
    """Name of a control -> its value."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the images."""
        return tuple(range(self.first_seed, self.first_seed + self.count))


def read_settings(form: Mapping[str, Any], controls: Sequence[PlayControl]) -> PlaySettings:
    """Check the values of the page.

    Args:
        form: name of a field of :class:`PlaySettings` or of a control -> value. ``interval`` says
            whether ``interval_low`` and ``interval_high`` count. Missing names take defaults.
        controls: those of the page.

    Raises:
        ConfigError: naming the label, the value and what is allowed.
    """
    solver = form.get("solver")
    if solver not in SOLVERS:
        raise ConfigError(f"solver must be one of {', '.join(SOLVERS)}; got {solver!r:.40}")
    scales = {
        name: read_number(label, form.get(name, 1.0), -MAX_SCALE, MAX_SCALE)
        for name, label in SCALE_LABELS.items()
    }
    return PlaySettings(
        prompt=read_text("prompt", form.get("prompt", "")),
        negative_prompt=_read_negative_prompt(form.get("negative_prompt", "")),
        first_seed=read_integer("first seed", form.get("first_seed", 0), 0, MAX_SETTING),
        count=read_integer("number of images", form.get("count", 16), 1, MAX_IMAGES),
        solver=solver,
        steps=read_integer("steps", form.get("steps"), 1, MAX_STEPS),
        semantic_scale=scales["semantic_scale"],
        control_scale=scales["control_scale"],
        guide_scale=scales["guide_scale"],
        rescale=read_number(RESCALE_LABEL, form.get("rescale", 0.0), 0, 1),
        log_snr_interval=_read_interval(form),
        controls={
            control.name: read_value(control, form.get(control.name, control.default))
            for control in controls
        },
    )


SCALE_LABELS = {
    "semantic_scale": "guidance scale (lambda)",
    "control_scale": "control guidance scale (beta)",
    "guide_scale": "guide scale",
}
"""Labels of all scales."""
RESCALE_LABEL = "guidance rescale (phi)"


def _read_interval(form: Mapping[str, Any]) -> tuple[float, float] | None:
    """The guidance interval, if it is on."""
    if not form.get("interval"):
        return None
    low, high = (
        read_number(f"guidance interval, {side}", form.get(f"interval_{side}"), -span, span)
        for side, span in (("low", MAX_LOG_SNR), ("high", MAX_LOG_SNR))
    )
    if not low < high:
        raise ConfigError(
            f"the guidance interval must begin below its end; got {low:g} to {high:g}"
        )
    return low, high


def read_text(label: str, text: object) -> str:
    """Check a text.

    Raises:
        ConfigError: too long, or with characters that act on a terminal, where the copied command
            would run.
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ConfigError(f"{label} must be text; got {text!r:.40}")
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"the {label} has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed"
        )
    acting = next((letter for letter in text if printable(letter) != letter), None)
    if acting is not None:
        raise ConfigError(
            f"the {label} has the control character U+{ord(acting):04X} at position "
            f"{text.index(acting) + 1}: remove it"
        )
    return text


def _read_negative_prompt(value: object) -> str:
    """The negative prompt, which ``pippin sample --negative-prompt`` must be able to give."""
    text = read_text("negative prompt", value)
    if text == "None":
        raise ConfigError(
            "the negative prompt None means no negative prompt in commands: write none, or leave "
            "it empty"
        )
    return text


def read_number(label: str, value: object, low: float, high: float) -> float:
    """Check a number.

    Args:
        label: its name on the page.
        value: a number, or text that is one.
        low, high: the range.

    Raises:
        ConfigError: not a finite number inside the range.
    """
    number = _number(value)
    if not low <= number <= high:
        raise ConfigError(
            f"{label} must be a number from {low:g} to {high:g}; got {_shown(value)}"
        )
    return number


def read_integer(label: str, value: object, low: int, high: int) -> int:
    """Check a whole number; see :func:`read_number`.

    Raises:
        ConfigError: not a whole number inside the range.
    """
    number = _number(value)
    if not low <= number <= high or number != int(number):
        raise ConfigError(
            f"{label} must be a whole number from {low} to {high}; got {_shown(value)}"
        )
    return int(number)


def _number(value: object) -> float:
    """The value as a number; NaN, which lies in no range, if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _shown(value: object) -> str:
    return "nothing" if value is None or value == "" else printable(f"{value!r:.40}")


def read_value(control: PlayControl, value: object) -> Value:
    """Check the value of a control.

    Raises:
        ConfigError: the value is not one of the control's.
    """
    if control.kind == "switch":
        if not isinstance(value, bool):
            raise ConfigError(f"{control.label} must be yes or no; got {_shown(value)}")
        return value
    if control.kind == "choice":
        if not isinstance(value, str) or value not in control.choices:
            allowed = ", ".join(control.choices)
            raise ConfigError(f"{control.label} must be one of {allowed}; got {_shown(value)}")
        return value
    if control.step >= 1:
        return read_integer(control.label, value, int(control.low), int(control.high))
    return read_number(control.label, value, control.low, control.high)


def read_values(label: str, text: object) -> tuple[float, ...]:
    """Scales of one side of the guidance grid, separated by commas or spaces, each once.

    Raises:
        ConfigError: none, too many, or anything but numbers.
    """
    words = str(text if text is not None else "")[:MAX_CHARACTERS].replace(",", " ").split()
    numbers = [read_number(label, word, -MAX_SCALE, MAX_SCALE) for word in words]
    values = tuple(dict.fromkeys(numbers))
    if not 1 <= len(values) <= MAX_GRID_SIDE:
        raise ConfigError(
            f"{label} takes 1 to {MAX_GRID_SIDE} numbers, such as 1, 2, 3; got {len(values)}"
        )
    return values
