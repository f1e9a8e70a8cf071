# SPDX-License-Identifier: Apache-2.0
"""Merge of trained weights into a new model, with a report of every tensor."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from pippin.model import LatentDenoiser
from pippin.training.config import RuleName
from pippin.transfer.interval import EMBEDDING, TIME_BIAS, without_interval
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

MAX_NAMES = 8
"""Number of tensors that a message lists."""


@dataclass(frozen=True, kw_only=True)
class TensorRecord:
    """Outcome of one tensor."""

    name: str
    action: Action
    rule: str
    """Rule that allowed it; empty if name and shape are equal on both sides."""
    trained: tuple[int, ...] | None
    """Shape in the trained weights; None = a new tensor."""
    new: tuple[int, ...] | None
    """Shape in the new model; None = a dropped tensor."""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """Every tensor of both sides, once."""

    moved: tuple[TensorRecord, ...]
    rules: tuple[RuleName, ...]

    def counts(self) -> dict[str, int]:
        """Number of tensors for each action."""
        return dict(Counter(record.action for record in self.moved))

    @property
    def unused(self) -> tuple[RuleName, ...]:
        """Rules that matched no tensor."""
        used = {record.rule for record in self.moved}
        return tuple(rule for rule in self.rules if rule not in used)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "rules": list(self.rules),
            "counts": self.counts(),
            "tensors": [
                {
                    "name": record.name,
                    "action": record.action,
                    "rule": record.rule,
                    "trained": None if record.trained is None else list(record.trained),
                    "new": None if record.new is None else list(record.new),
                    "detail": record.detail,
                }
                for record in self.moved
            ],
        }

    def lines(self) -> list[str]:
        """A line of counts, then a line for each tensor that was not simply copied."""
        counted = ", ".join(f"{number} {action}" for action, number in self.counts().items())
        changed = [record for record in self.moved if record.action != "copied"]
        return [
            f"{len(self.moved)} tensors: {counted}",
            *(
                f"  {record.action:<11} {record.name} {_shapes(record)}"
                + (f"; {record.detail}" if record.detail else "")
                for record in changed
            ),
        ]


def merge(
    trained: Mapping[str, Tensor],
    model: LatentDenoiser,
    ends: TransferEnds,
    rules: Sequence[RuleName],
) -> tuple[dict[str, Tensor], TransferReport]:
    """Merge weights for a model: trained ones if they fit, otherwise its initial ones.

    Args:
        trained: by parameter name, on the CPU.
        model: with its initial weights, fp32.
        ends: the denoisers' configurations, which give ``positions`` the grids.
        rules: allowed differences, in any order; if two match one tensor, the first one in
            :data:`pippin.transfer.rules.RULES` decides.

    Returns:
        Weights by name, in the model's dtype and on the CPU, and the outcome of every tensor of
        both sides.

    Raises:
        ValueError: a tensor that is new, dropped or of another shape, and matches no given rule;
            the message lists the first ones, and the rules that would allow them.
    """
    rules = tuple(rule for rule in RULES if rule in rules)
    initial = {name: value.detach().cpu() for name, value in model.named_parameters()}
    trained, changes = _adapted(trained, initial, rules)
    unfit = _unfit_modules(trained, initial, rules)
    weights: dict[str, Tensor] = {}
    moved: list[TensorRecord] = []
    unmatched: list[str] = []
    for name in dict.fromkeys([*initial, *trained]):
        source, own = trained.get(name), initial.get(name)
        rule_name, rule = _rule(name, rules)
        fits = module_of(name, rule) not in unfit
        outcome = _outcome(name, source, own, rule, ends) if fits else _unfit_outcome(own)
        if outcome is None:
            unmatched.append(name)
            continue
        if own is not None:
            weights[name] = own if outcome.value is None else outcome.value
        change = changes.get(name) if outcome.action == "copied" else None
        same = outcome.action == "copied" and change is None
        moved.append(
            TensorRecord(
                name=name,
                action=outcome.action,
                rule=change.rule if change else "" if same else rule_name,
                trained=None if source is None else tuple(source.shape),
                new=None if own is None else tuple(own.shape),
                detail=change.detail if change else outcome.detail,
            )
        )
    if unmatched:
        raise ValueError(_refusal(unmatched, trained, initial, rules))
    return weights, TransferReport(moved=tuple(moved), rules=rules)


class _Change(NamedTuple):
    """Change of a trained tensor before it is copied."""

    rule: RuleName
    detail: str


def _adapted(
    trained: Mapping[str, Tensor], initial: Mapping[str, Tensor], rules: Sequence[RuleName]
) -> tuple[Mapping[str, Tensor], dict[str, _Change]]:
    """Trained tensors with control fields renamed to the group that the model has them in, and
    with a dropped embedding of intervals added to that of time; and these changes by name."""
    changes: dict[str, _Change] = {}
    if "control" in rules:
        renamed = {name: regrouped(name) or "" for name in trained if name not in initial}
        renamed = {name: new for name, new in renamed.items() if new in initial}
        trained = {renamed.get(name, name): value for name, value in trained.items()}
        changes |= {new: _Change("control", f"from {name}") for name, new in renamed.items()}
    if "interval" in rules and _has_interval(trained) and not _has_interval(initial):
        trained = without_interval(trained)
        changes[TIME_BIAS] = _Change("interval", "plus the embedding of the interval at r = t")
    return trained, changes


def _has_interval(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(f"{EMBEDDING}.") for name in tensors)


def _unfit_modules(
    trained: Mapping[str, Tensor], initial: Mapping[str, Tensor], rules: Sequence[RuleName]
) -> set[str]:
    """Modules with a tensor of another shape, with which their other tensors were trained."""
    modules = {
        module_of(name, _rule(name, rules)[1])
        for name in initial.keys() & trained.keys()
        if initial[name].shape != trained[name].shape
    }
    return {module for module in modules if module is not None}


def _unfit_outcome(own: Tensor | None) -> Outcome:
    """Outcome of a tensor whose module does not fit."""
    action: Action = "dropped" if own is None else "initialised"
    return Outcome(value=None, action=action, detail="its module does not fit")


def _rule(name: str, rules: Sequence[RuleName]) -> tuple[str, Rule | None]:
    for rule in rules:
        if RULES[rule].pattern.fullmatch(name):
            return rule, RULES[rule]
    return "", None


def _outcome(
    name: str, trained: Tensor | None, own: Tensor | None, rule: Rule | None, ends: TransferEnds
) -> Outcome | None:
    """Outcome of a tensor; None if not allowed."""
    if trained is not None and own is not None:
        same = trained.shape == own.shape and same_meaning(name, ends)
        if same and not (rule and rule.always):
            return Outcome(value=trained.to(own.dtype), action="copied")
        if rule is not None and rule.place is not None:
            return rule.place(name, trained, own, ends)
    if rule is None:
        return None
    if own is None:
        return Outcome(value=None, action="dropped")
    return Outcome(value=rule.initial(name, own), action="initialised")


def _refusal(
    unmatched: list[str],
    trained: Mapping[str, Tensor],
    initial: Mapping[str, Tensor],
    rules: Sequence[RuleName],
) -> str:
    shown = []
    for name in unmatched[:MAX_NAMES]:
        source, own = (_shape(side.get(name)) for side in (trained, initial))
        allowing = [rule_name for rule_name, rule in RULES.items() if rule.pattern.fullmatch(name)]
        hint = f" (init.transfer {allowing[0]})" if allowing else ""
        shown.append(f"\n  {name}: {source} trained, {own} here{hint}")
    more = f"\n  and {len(unmatched) - MAX_NAMES} more" if len(unmatched) > MAX_NAMES else ""
    pronoun = "it" if len(unmatched) == 1 else "them"
    available = "".join(f"\n  {name}: {rule.says}" for name, rule in RULES.items())
    return (
        f"{_tensors(len(unmatched))} not fit, and init.transfer ({', '.join(rules) or 'no rule'}) "
        f"does not cover {pronoun}:{''.join(shown)}{more}\navailable rules:{available}"
    )


def _tensors(count: int) -> str:
    return "1 tensor does" if count == 1 else f"{count} tensors do"


def _shape(value: Tensor | None) -> str:
    return "absent" if value is None else str(list(value.shape))


def _shapes(record: TensorRecord) -> str:
    if record.trained == record.new or record.trained is None or record.new is None:
        return str(list(record.new or record.trained or ()))
    return f"{list(record.trained)} to {list(record.new)}"
