# SPDX-License-Identifier: Apache-2.0
"""What may differ between trained weights and the model that they go into, rule by rule.

A rule names the tensors that it may touch and says what becomes of each. Whatever no rule of a
transfer names must be there on both sides, in one shape.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from pippin.denoisers.config import DenoiserConfig, MDTv2Config
from pippin.transfer.config import RuleName
from pippin.transfer.resample import resample_biases, resample_positions

Action = Literal["copied", "resampled", "initialised", "dropped"]


@dataclass(frozen=True, kw_only=True)
class TransferEnds:
    """The two ends of a transfer."""

    old: DenoiserConfig
    new: DenoiserConfig


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What becomes of one tensor."""

    value: Tensor | None
    """None: the model's own initial value stays."""
    action: Action
    detail: str = ""


Place = Callable[[str, Tensor, Tensor, TransferEnds], Outcome]
"""(name, trained, initial, ends) -> what the model gets."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One permitted difference."""

    pattern: re.Pattern[str]
    """Of the names that it may touch. Tensors of one group ``module`` are of use together only:
    where one does not fit, all of them start anew."""
    says: str
    """In words, for messages."""
    place: Place | None = None
    """For a tensor of both sides; None: it keeps its initial value where shapes differ."""
    always: bool = False
    """Whether ``place`` decides for tensors of one shape too; otherwise those are copied."""


def _positions(name: str, trained: Tensor, initial: Tensor, ends: TransferEnds) -> Outcome:
    if name == "denoiser.table.weight":
        return Outcome(value=None, action="initialised", detail="computed for the new grid")
    assert isinstance(ends.old, MDTv2Config) and isinstance(ends.new, MDTv2Config)
    old, new = ends.old.grid, ends.new.grid
    resample = resample_biases if name.endswith("bias.table") else resample_positions
    return Outcome(
        value=resample(trained, old, new),
        action="resampled",
        detail=f"grid {old[0]} x {old[1]} to {new[0]} x {new[1]}, bicubic",
    )


def _classes(name: str, trained: Tensor, initial: Tensor, ends: TransferEnds) -> Outcome:
    """New classes start anew; the null class, the last row, means what it meant."""
    value = initial.clone()
    if trained.shape[1:] != initial.shape[1:]:
        return Outcome(value=None, action="initialised", detail="another width")
    value[-1] = trained[-1]
    return Outcome(value=value, action="initialised", detail="the null class copied")


def _semantics(name: str, trained: Tensor, initial: Tensor, ends: TransferEnds) -> Outcome:
    """What embeds semantics starts anew at any shape; cross-attention where it does not fit."""
    if name.startswith("conditioner.") or trained.shape != initial.shape:
        return Outcome(value=None, action="initialised")
    return Outcome(value=trained.to(initial.dtype), action="copied")


def module_of(name: str, rule: "Rule | None") -> str | None:
    """What a tensor is of use within only, by a rule that says so."""
    found = rule.pattern.fullmatch(name) if rule else None
    return found.groupdict().get("module") if found else None


def regrouped(name: str) -> str | None:
    """What a tensor of a control field is called in the other group: its embedder is the same
    there, and only the gate is another."""
    group = next((one for one in _GROUPS if name.startswith(f"conditioner.{one}.fields.")), None)
    return name.replace(group, _GROUPS[group], 1) if group else None


def same_meaning(name: str, ends: TransferEnds) -> bool:
    """Whether a tensor that has one shape on both sides means one thing there: learned positions
    of two grids with as many patches (4 x 8 and 8 x 4) do not."""
    grids = {one.grid for one in (ends.old, ends.new) if isinstance(one, MDTv2Config)}
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
        says="class to text, or another text encoder: what embeds semantics starts anew, and "
        "cross-attention where it is new or of another width",
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
        says="another patch size or other latent channels: first and last layer start anew",
    ),
}
