# SPDX-License-Identifier: Apache-2.0
"""Trained weights into a new model, and what became of every tensor."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pippin.model import LatentDenoiser
from pippin.transfer.config import RuleName
from pippin.transfer.rules import (
    RULES,
    Action,
    Outcome,
    Rule,
    TransferEnds,
    module_of,
    regrouped,
    same_meaning,
)

LISTED = 8
"""Tensors that a message names."""


@dataclass(frozen=True, kw_only=True)
class TensorRecord:
    """What became of one tensor."""

    name: str
    action: Action
    rule: str
    """Which rule allowed it; empty where name and shape are the same on both sides."""
    trained: tuple[int, ...] | None
    """Its shape among the trained weights; None = it is new."""
    new: tuple[int, ...] | None
    """Its shape in the new model; None = it is gone."""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """Every tensor of both sides once."""

    moved: tuple[TensorRecord, ...]
    rules: tuple[RuleName, ...]

    def counts(self) -> dict[str, int]:
        """How many tensors had each action."""
        return dict(Counter(one.action for one in self.moved))

    @property
    def unused(self) -> tuple[RuleName, ...]:
        """Rules that touched nothing."""
        used = {one.rule for one in self.moved}
        return tuple(rule for rule in self.rules if rule not in used)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "rules": list(self.rules),
            "counts": self.counts(),
            "tensors": [
                {
                    "name": one.name,
                    "action": one.action,
                    "rule": one.rule,
                    "trained": None if one.trained is None else list(one.trained),
                    "new": None if one.new is None else list(one.new),
                    "detail": one.detail,
                }
                for one in self.moved
            ],
        }

    def lines(self) -> list[str]:
        """One line for each action and rule, then each tensor that was not simply copied."""
        counted = ", ".join(f"{number} {action}" for action, number in self.counts().items())
        changed = [one for one in self.moved if one.action != "copied"]
        return [
            f"{len(self.moved)} tensors: {counted}",
            *(
                f"  {one.action:<11} {one.name} {_shapes(one)}"
                + (f"; {one.detail}" if one.detail else "")
                for one in changed
            ),
        ]


def merge(
    trained: Mapping[str, Tensor],
    model: LatentDenoiser,
    ends: TransferEnds,
    rules: Sequence[RuleName],
) -> tuple[dict[str, Tensor], TransferReport]:
    """All weights of a model: trained ones where they fit, its own initial ones elsewhere.

    Args:
        trained: by parameter name, on the CPU.
        model: with its initial weights, fp32.
        ends: the denoisers' configurations, from which ``positions`` reads the grids.
        rules: what may differ, in any order; where two name one tensor, the first one of
            :data:`pippin.transfer.rules.RULES` decides.

    Returns:
        Weights by name, in the model's dtype and on the CPU, and what became of every tensor of
        either side.

    Raises:
        ValueError: a tensor that is new, gone or of another shape, and that no rule given names;
            the message lists the first ones, and the rules that would allow them.
    """
    rules = tuple(rule for rule in RULES if rule in rules)
    initial = {name: value.detach().cpu() for name, value in model.named_parameters()}
    trained, came_from = _regrouped(trained, initial, rules)
    unfit = _unfit_modules(trained, initial, rules)
    weights: dict[str, Tensor] = {}
    moved: list[TensorRecord] = []
    odd: list[str] = []
    for name in dict.fromkeys([*initial, *trained]):
        theirs, own = trained.get(name), initial.get(name)
        rule_name, rule = _rule(name, rules)
        whole = module_of(name, rule) not in unfit
        placed = _placed(name, theirs, own, rule, ends) if whole else _alone(own)
        if placed is None:
            odd.append(name)
            continue
        if own is not None:
            weights[name] = own if placed.value is None else placed.value
        came = came_from.get(name, "") if placed.action == "copied" else ""
        same = placed.action == "copied" and not came
        moved.append(
            TensorRecord(
                name=name,
                action=placed.action,
                rule="" if same else rule_name,
                trained=None if theirs is None else tuple(theirs.shape),
                new=None if own is None else tuple(own.shape),
                detail=f"from {came}" if came else placed.detail,
            )
        )
    if odd:
        raise ValueError(_refusal(odd, trained, initial, rules))
    return weights, TransferReport(moved=tuple(moved), rules=rules)


def _regrouped(
    trained: Mapping[str, Tensor], initial: Mapping[str, Tensor], rules: Sequence[RuleName]
) -> tuple[Mapping[str, Tensor], dict[str, str]]:
    """Trained tensors with those of control fields in the group where the model has the field,
    and what these were called."""
    if "control" not in rules:
        return trained, {}
    new = {name: regrouped(name) or "" for name in trained if name not in initial}
    new = {name: moved for name, moved in new.items() if moved in initial}
    named = {new.get(name, name): value for name, value in trained.items()}
    return named, {moved: name for name, moved in new.items()}


def _unfit_modules(
    trained: Mapping[str, Tensor], initial: Mapping[str, Tensor], rules: Sequence[RuleName]
) -> set[str]:
    """Modules with a tensor of another shape: the others in them were trained beside it."""
    found = {
        module_of(name, _rule(name, rules)[1])
        for name in initial.keys() & trained.keys()
        if initial[name].shape != trained[name].shape
    }
    return {module for module in found if module is not None}


def _alone(own: Tensor | None) -> Outcome:
    """Of a tensor whose module does not fit."""
    action: Action = "dropped" if own is None else "initialised"
    return Outcome(value=None, action=action, detail="its module does not fit")


def _rule(name: str, rules: Sequence[RuleName]) -> tuple[str, Rule | None]:
    for rule in rules:
        if RULES[rule].pattern.fullmatch(name):
            return rule, RULES[rule]
    return "", None


def _placed(
    name: str, trained: Tensor | None, own: Tensor | None, rule: Rule | None, ends: TransferEnds
) -> Outcome | None:
    """What becomes of a tensor; None where that is not allowed."""
    if trained is not None and own is not None:
        same = trained.shape == own.shape and same_meaning(name, ends)
        if same and not (rule and rule.always):
            return Outcome(value=trained.to(own.dtype), action="copied")
        if rule is not None and rule.place is not None:
            return rule.place(name, trained, own, ends)
    if rule is None:
        return None
    return Outcome(value=None, action="dropped" if own is None else "initialised")


def _refusal(
    odd: list[str],
    trained: Mapping[str, Tensor],
    initial: Mapping[str, Tensor],
    rules: Sequence[RuleName],
) -> str:
    shown = []
    for name in odd[:LISTED]:
        theirs, own = (_shape(side.get(name)) for side in (trained, initial))
        allowing = [rule for rule, one in RULES.items() if one.pattern.fullmatch(name)]
        hint = f" (init.transfer {allowing[0]})" if allowing else ""
        shown.append(f"\n  {name}: {theirs} trained, {own} here{hint}")
    more = f"\n  and {len(odd) - LISTED} more" if len(odd) > LISTED else ""
    it = "it" if len(odd) == 1 else "them"
    known = "".join(f"\n  {name}: {rule.says}" for name, rule in RULES.items())
    return (
        f"{_tensors(len(odd))} not fit, and init.transfer ({', '.join(rules) or 'no rule'}) does "
        f"not name {it}:{''.join(shown)}{more}\nrules that can be given:{known}"
    )


def _tensors(count: int) -> str:
    return "1 tensor does" if count == 1 else f"{count} tensors do"


def _shape(value: Tensor | None) -> str:
    return "absent" if value is None else str(list(value.shape))


def _shapes(one: TensorRecord) -> str:
    if one.trained == one.new or one.trained is None or one.new is None:
        return str(list(one.new or one.trained or ()))
    return f"{list(one.trained)} to {list(one.new)}"
