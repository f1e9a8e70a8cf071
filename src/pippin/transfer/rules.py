# SPDX-License-Identifier: Apache-2.0
"""Rules for allowed differences between trained weights and the new model.

A rule matches tensor names and decides the outcome of each. Tensors that no rule of a transfer
matches must exist on both sides with the same shape.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from pippin.denoisers.config import DenoiserConfig
from pippin.training.config import RuleName
from pippin.transfer.interval import initial_interval

Grid = tuple[int, int]
"""(rows, columns) of patches."""
CLASS_TOKEN_ROWS = 3
"""Number of rows at the end of a relative bias table; see :mod:`pippin.nn.positions`."""


def resample_positions(
    table: Float[Tensor, "positions width"], old: Grid, new: Grid
) -> Float[Tensor, "new_places width"]:
    """Resample a table of one vector per grid position to another grid, bicubically."""
    assert len(table) == old[0] * old[1], (table.shape, old)
    return _bicubic(table, old, new)


def resample_biases(
    table: Float[Tensor, "offsets heads"], old: Grid, new: Grid
) -> Float[Tensor, "new_offsets heads"]:
    """Resample a table of one number per offset, bicubically: an offset is a share of the image.

    d patches of the new grid correspond to d old / new patches of the old one. The rows for a
    class token are copied.
    """
    offsets, rest = table[:-CLASS_TOKEN_ROWS], table[-CLASS_TOKEN_ROWS:]
    sides = tuple(2 * side - 1 for side in old)
    assert len(offsets) == sides[0] * sides[1], (table.shape, old)
    if old == new:
        return table
    image = offsets.T.reshape(1, -1, *sides).float()
    down, right = (_offset_positions(a, b) for a, b in zip(old, new, strict=True))
    positions = torch.stack(torch.meshgrid(down, right, indexing="ij"), -1).flip(-1)[None]
    sampled = grid_sample(
        image, positions.float(), mode="bicubic", padding_mode="border", align_corners=True
    )
    return torch.cat([sampled.flatten(2)[0].T.to(table.dtype), rest])


def _offset_positions(old: int, new: int) -> Float[Tensor, " offsets"]:
    """Position of each new offset in the old table, from -1 (first row) to 1 (last row)."""
    offsets = torch.arange(-(new - 1), new, dtype=torch.float64) * old / new
    return offsets / max(old - 1, 1)


def _bicubic(table: Tensor, old: Grid, new: Grid) -> Tensor:
    if old == new:
        return table
    image = table.T.reshape(1, -1, *old).float()
    # antialias also chooses the kernel that keeps a straight line straight (Keys 1981)
    resized = interpolate(image, size=new, mode="bicubic", antialias=True)
    return resized.flatten(2)[0].T.to(table.dtype)


Action = Literal["copied", "resampled", "initialised", "dropped"]


@dataclass(frozen=True, kw_only=True)
class TransferEnds:
    """Denoiser configurations of both ends of a transfer."""

    old: DenoiserConfig
    new: DenoiserConfig


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of one tensor."""

    value: Tensor | None
    """None: the model keeps its initial value."""
    action: Action
    detail: str = ""


Place = Callable[[str, Tensor, Tensor, TransferEnds], Outcome]
"""(name, trained, initial, ends) -> outcome."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One permitted difference."""

    pattern: re.Pattern[str]
    """Names that the rule matches. Tensors of one group ``module`` belong together: if one does
    not fit, all are reinitialised."""
    says: str
    """Description, for messages."""
    place: Place | None = None
    """Outcome of a tensor on both sides; None: it keeps its initial value if shapes differ."""
    always: bool = False
    """Whether ``place`` also decides for tensors of equal shape; otherwise those are copied."""
    initial: Callable[[str, Tensor], Tensor | None] = lambda name, initial: None
    """(name, initial) -> value of a tensor that the trained weights lack; None: it keeps its
    initial value."""


def _positions(name: str, trained: Tensor, initial: Tensor, ends: TransferEnds) -> Outcome:
    if name == "denoiser.table.weight":
        return Outcome(value=None, action="initialised", detail="computed for the new grid")
    old, new = ends.old.learned_grid, ends.new.learned_grid
    if old is None or new is None:
        return Outcome(value=None, action="initialised", detail="positions of no known grid")
    resample = resample_biases if name.endswith("bias.table") else resample_positions
    return Outcome(
        value=resample(trained, old, new),
        action="resampled",
        detail=f"grid {old[0]} x {old[1]} to {new[0]} x {new[1]}, bicubic",
    )


def _classes(name: str, trained: Tensor, initial: Tensor, ends: TransferEnds) -> Outcome:
    """Reinitialise the class table, but copy the null class, its last row."""
    value = initial.clone()
    if trained.shape[1:] != initial.shape[1:]:
        return Outcome(value=None, action="initialised", detail="another width")
    value[-1] = trained[-1]
    return Outcome(value=value, action="initialised", detail="the null class copied")


def _semantics(name: str, trained: Tensor, initial: Tensor, ends: TransferEnds) -> Outcome:
    """Reinitialise semantic embedders of any shape, and cross-attention if it does not fit."""
    if name.startswith("conditioner.") or trained.shape != initial.shape:
        return Outcome(value=None, action="initialised")
    return Outcome(value=trained.to(initial.dtype), action="copied")


def module_of(name: str, rule: "Rule | None") -> str | None:
    """Module that a tensor belongs to, by its rule; None if the rule names none."""
    match = rule.pattern.fullmatch(name) if rule else None
    return match.groupdict().get("module") if match else None


def regrouped(name: str) -> str | None:
    """Name of a control field's tensor in the other group: the embedder is the same, only the
    gate differs."""
    prefixes = (group for group in _GROUPS if name.startswith(f"conditioner.{group}.fields."))
    group = next(prefixes, None)
    return name.replace(group, _GROUPS[group], 1) if group else None


def same_meaning(name: str, ends: TransferEnds) -> bool:
    """Whether a tensor of equal shape has the same meaning on both sides: learned positions of two
    grids with equally many patches (4 x 8 and 8 x 4) do not."""
    grids = {ends.old.learned_grid, ends.new.learned_grid} - {None}
    return len(grids) < 2 or not RULES["positions"].pattern.fullmatch(name)


_GROUPS = {"high": "low", "low": "high"}
_SEMANTIC = r"conditioner\.(label_tokens|label_vector|text_tokens|text_vector|constant_tokens)\..*"
_CROSS = r"denoiser\..*\b(cross|norm_cross)\..*"
RULES: dict[RuleName, Rule] = {
    "positions": Rule(
        pattern=re.compile(
            r"denoiser\.((decoder_)?positions\.weight|table\.weight|.*\bbias\.table)"
        ),
        says="learned positions, resampled to the new grid",
        place=_positions,
    ),
    "classes": Rule(
        pattern=re.compile(r"conditioner\.label_(tokens|vector)\.weight"),
        says="a new class table; the null class stays",
        place=_classes,
        always=True,
    ),
    "semantics": Rule(
        pattern=re.compile(f"{_SEMANTIC}|{_CROSS}"),
        says="class to text, or another text encoder: semantic embedders are reinitialised, and "
        "cross-attention if it is new or of another width",
        place=_semantics,
        always=True,
    ),
    "control": Rule(
        pattern=re.compile(
            r"(?P<module>conditioner\.((high|low)\.fields\.\w+|image_shape\.\w+|micro_conditions))\..*"
        ),
        says="other control fields",
    ),
    "patches": Rule(
        pattern=re.compile(r"denoiser\.(patches|conv_in|conv_out|output\.linear)\b.*"),
        says="another patch size or other latent channels: first and last layer are reinitialised",
    ),
    "interval": Rule(
        pattern=re.compile(r"(?P<module>conditioner\.interval)\..*"),
        says="mean velocities (MeanFlow) from velocities, or the reverse: the embedding of the "
        "interval is new, or dropped; the velocity at r = t stays",
        initial=initial_interval,
    ),
}
