# SPDX-License-Identifier: Apache-2.0
"""Conditioner: the only module that passes conditions to denoisers, and its registry.

Rules map each semantic output to a mechanism; control enters the modulation vector under its gate;
time is also embedded here. The result, :class:`pippin.types.Embedded`, is the only conditioning
input of a denoiser. ``entangled`` (class by modulation, constant gate) and ``disentangled`` (class
by attention, power-cosine gate) are two of four combinations of the same code path.

Conditioners are registered by name. A recipe contains only that name
(``conditioning.conditioner``), never a module to import: a downloaded checkpoint cannot make
pippin run code that its user did not register, import or install as a plugin.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.conditioning.config import (
    ConditioningConfig,
    ConstantGate,
    ControlConfig,
    Gate,
    LabelSemantic,
    NoSemantic,
    TextSemantic,
)
from pippin.conditioning.control_embedding import ControlGroup, LogSnr, gate_value
from pippin.conditioning.micro_conditions import ImageShape, MicroConditions
from pippin.conditioning.semantic import ConstantTokens, LabelTable, PooledText, TextTokens
from pippin.config import ConfigError
from pippin.nn.embeddings import INTERVAL, TimeEmbedding
from pippin.plugins import (
    find_registered,
    note_registration,
    refuse_redefinition,
    register_advice,
)
from pippin.types import Conditions, Embedded, Keep, TextFeatures, Times


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Embedded conditions without time, computed once per batch or sample."""

    conditioner: "Conditioner"
    tokens: Float[Tensor, "batch tokens token_width"] | None
    mask: Bool[Tensor, "batch tokens"] | None
    semantic: Float[Tensor, "batch modulation_width"] | None
    """Semantics by modulation."""
    control: tuple[tuple[Gate, Float[Tensor, "batch modulation_width"]], ...]
    """Gate and vector of each group."""

    def at(self, t: Times, interval: Times | None = None) -> Embedded:
        """Embed time: modulation(t) = time(t) + sum over groups of gamma(t) E(c) [+ semantics].

        Args:
            interval: t - r of a model with ``conditioning.interval``, which adds its embedding to
                that of time; None = 0.
        """
        with torch.autocast(t.device.type, enabled=False):  # (B, D): fp32 costs nothing here
            time = modulation = self.conditioner.embed_time(t, interval)
            for gate, vector in self.control:
                gamma = gate_value(gate, t, self.conditioner.log_snr)
                modulation = modulation + gamma[:, None] * vector
            if self.semantic is not None:
                modulation = modulation + self.semantic
        return Embedded(tokens=self.tokens, mask=self.mask, modulation=modulation, time=time)


class Conditioner(nn.Module):
    """Embedding of conditions and time to :class:`Embedded`.

    Args:
        config: semantics, rules, control and drop.
        num_classes: number of classes; the null class has one additional row.
        token_width, modulation_width, time_features: widths that the denoiser declares.
        token_use: how the denoiser reads tokens: "none", "cross" or "joint".

    Raises:
        ConfigError: a rule without its output, or a mechanism that the denoiser lacks.
    """

    log_snr: LogSnr | None = None
    """Log-SNR of the model's noise schedule by time; only gates in log-SNR read it."""

    def __init__(
        self,
        config: ConditioningConfig,
        *,
        num_classes: int,
        token_width: int,
        modulation_width: int,
        time_features: int,
        token_use: str,
    ) -> None:
        super().__init__()
        _check_rules(config, token_use)
        self.config = config
        mechanism = config.rules.get("label")
        num_tokens = 1 if isinstance(config.semantic, NoSemantic) else config.semantic.num_tokens
        by_attention = mechanism in ("attention", "both")
        by_modulation = mechanism in ("modulation", "both")
        init_std = config.semantic.init_std if isinstance(config.semantic, LabelSemantic) else 0.02
        text = config.semantic if isinstance(config.semantic, TextSemantic) else None
        self.text_tokens = (
            TextTokens(text, token_width) if text and text.token_features is not None else None
        )
        self.text_vector = (
            PooledText(text.pooled_features, modulation_width, learned=text.null == "learned")
            if text and text.pooled_features is not None
            else None
        )
        self.time = TimeEmbedding(time_features, modulation_width)
        self.interval = TimeEmbedding(time_features, modulation_width) if config.interval else None
        if self.interval is not None:
            self.interval.input = INTERVAL
        self.label_tokens = (
            LabelTable(num_classes, num_tokens * token_width, init_std) if by_attention else None
        )
        self.label_vector = (
            LabelTable(num_classes, modulation_width, init_std) if by_modulation else None
        )
        self.constant_tokens = (
            ConstantTokens(num_tokens, token_width)
            if token_use != "none" and not by_attention and self.text_tokens is None
            else None
        )
        self.num_tokens, self.token_width = num_tokens, token_width
        self.image_shape = (
            ImageShape(time_features, modulation_width) if config.image_shape else None
        )
        self._add_control(config.control, modulation_width)

    def _add_control(self, control: ControlConfig, width: int) -> None:
        """Add the embeddings of the control fields: one per group, or one for all."""
        names = control.fields
        shared = control.embedding == "sdxl"
        self.micro_conditions = MicroConditions(names, width) if shared and names else None
        self.high, self.low = (
            ControlGroup(group, control, width) if group and not shared else None
            for group in (control.high, control.low)
        )

    @property
    def has_tokens(self) -> bool:
        """True if the denoiser gets tokens, ``num_tokens`` of them."""
        sources = (self.label_tokens, self.text_tokens, self.constant_tokens)
        return any(source is not None for source in sources)

    def embed_time(
        self, t: Times, interval: Times | None
    ) -> Float[Tensor, "batch modulation_width"]:
        """Embedding of time, and of the interval t - r that ends there; None = 0.

        Raises:
            ValueError: an interval, and a model without its embedding.
        """
        if self.interval is not None:
            return self.time(t) + self.interval(
                torch.zeros_like(t) if interval is None else interval
            )
        if interval is not None:
            raise ValueError(
                "this model has no embedding of intervals, which mean velocities need; train one "
                "with conditioning.interval True and diffusion.meanflow.share above 0"
            )
        return self.time(t)

    def set_null(self, text: TextFeatures) -> None:
        """Set the null caption to a caption (a batch of one), with its mask if it has one."""
        with torch.no_grad():
            if self.text_tokens is not None and text.tokens is not None:
                null = self.text_tokens.null
                null.copy_(text.tokens[0])
                self.text_tokens.null_mask = (
                    None if text.mask is None else text.mask[0].to(null.device)
                )
            if self.text_vector is not None and text.pooled is not None:
                self.text_vector.null.copy_(text.pooled[0])

    @property
    def null_mask(self) -> Tensor | None:
        """Mask (positions,) of the null caption's own tokens; None if all positions are read."""
        return None if self.text_tokens is None else self.text_tokens.null_mask

    def set_null_mask(self, mask: Tensor | None) -> None:
        """Set only the null caption's mask; its features are among the weights."""
        if self.text_tokens is not None:
            device = self.text_tokens.null.device
            self.text_tokens.null_mask = None if mask is None else mask.to(device)

    def prepare(self, conditions: Conditions, keep: Keep) -> Prepared:
        """Embed the conditions, which do not depend on time; dropped ones become their null.

        Conditions may stay on the CPU, where checking their ranges needs no synchronisation.

        Raises:
            ValueError: a condition that the model reads is missing, or out of its range.
        """
        device = next(self.parameters()).device
        keep = keep.to(device)
        with torch.autocast(device.type, enabled=False):
            tokens, mask = self._tokens(conditions, keep)
            return Prepared(
                conditioner=self,
                tokens=tokens,
                mask=mask,
                semantic=self._semantic(conditions, keep),
                control=self._control(conditions, keep),
            )

    def _tokens(self, conditions: Conditions, keep: Keep) -> tuple[Tensor | None, Tensor | None]:
        """Condition tokens and their mask."""
        if self.text_tokens is not None:
            return self.text_tokens(_text(conditions), keep.semantic)
        if self.label_tokens is not None:
            rows = self.label_tokens(_label(conditions), keep.semantic)  # (B, L * D)
            return rows.unflatten(-1, (-1, self.token_width)), None
        if self.constant_tokens is not None:
            return self.constant_tokens(len(keep.semantic)), None
        return None, None

    def _semantic(self, conditions: Conditions, keep: Keep) -> Tensor | None:
        """Time-independent part of modulation: semantics, and PixArt's image shape."""
        parts = []
        if self.label_vector is not None:
            parts.append(self.label_vector(_label(conditions), keep.semantic))
        if self.text_vector is not None:
            parts.append(self.text_vector(_text(conditions), keep.semantic))
        if self.image_shape is not None:
            parts.append(self.image_shape(conditions.control))
        return torch.stack(parts).sum(dim=0) if parts else None

    def _control(self, conditions: Conditions, keep: Keep) -> tuple[tuple[Gate, Tensor], ...]:
        if self.micro_conditions is not None:
            return ((ConstantGate(), self.micro_conditions(conditions.control, keep)),)
        gates = self.config.control
        groups = ((gates.high_gate, self.high), (gates.low_gate, self.low))
        return tuple(
            (gate, group(conditions.control, keep)) for gate, group in groups if group is not None
        )


def keep_all(batch: int) -> Keep:
    """Flags that drop nothing."""
    flags = torch.ones(batch, dtype=torch.bool)
    return Keep(semantic=flags, control=flags)


def _label(conditions: Conditions) -> Tensor:
    if conditions.label is None:
        raise ValueError("this model is conditioned on class labels, and the batch has none")
    return conditions.label


def _text(conditions: Conditions) -> TextFeatures:
    if conditions.text is None:
        raise ValueError("this model is conditioned on text, and the batch has no text features")
    return conditions.text


def _check_rules(config: ConditioningConfig, token_use: str) -> None:
    outputs = config.semantic.outputs
    if set(config.rules) != outputs:
        raise ConfigError(
            f"conditioning.rules must name exactly the outputs of semantic "
            f"{config.semantic.kind!r}: {sorted(outputs)}; got {sorted(config.rules)}"
        )
    for output, allowed in (("text", "attention"), ("pooled", "modulation")):
        if config.rules.get(output, allowed) != allowed:
            raise ConfigError(
                f"conditioning.rules: {output!r} supports {allowed!r} only; got "
                f"{config.rules[output]!r}"
            )
    token_rules = {"attention", "both"} & {*config.rules.values()}
    if token_rules and token_use == "none":
        raise ConfigError(
            f"a rule says {token_rules.pop()!r}, but this denoiser reads no tokens: use the rule "
            "'modulation', or a denoiser with attention to conditions (mmdit, dit and ddt with "
            "cross_attention True, or jit with context_start)"
        )


_REGISTERED: dict[str, type[Conditioner]] = {"pippin": Conditioner}


def register_conditioner(name: str, kind: type[Conditioner]) -> None:
    """Register a conditioner as ``conditioning.conditioner NAME`` in this process.

    Args:
        name: its name in recipes and reports.
        kind: a subclass of :class:`Conditioner` that overrides ``prepare`` or one of its parts.
            The result of ``prepare`` has a method ``at(t)`` that returns an
            :class:`pippin.types.Embedded`: tokens of ``token_width`` if ``has_tokens``, and a
            modulation vector of ``modulation_width`` that contains time. Conditions dropped by
            ``keep`` must have no effect. Its layers declare their initialisation
            (:mod:`pippin.nn.initialise`), so that layers of equal name have equal initial weights
            in every arm.

    Raises:
        ConfigError: another class has this name.
    """
    refuse_redefinition(_REGISTERED.get(name, kind), kind, f"a conditioner named {name!r}")
    _REGISTERED[name] = kind
    note_registration(kind)


def find_conditioner(name: str) -> type[Conditioner]:
    """Class of a registered name.

    Raises:
        ConfigError: the name is not registered in this process, nor by an installed plugin.
    """
    return find_registered(
        _REGISTERED,
        name,
        f"conditioning.conditioner {name!r} is not known",
        register_advice("register_conditioner"),
        list_known=True,
    )
