# SPDX-License-Identifier: Apache-2.0
"""Throughput of training against image tokens, width, batch size and text length."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from pippin.bench.scaling.config import PATCH_SIZE, CurveName, ScalingConfig
from pippin.bench.scaling.declarations import (
    PIPPIN,
    CurveDeclaration,
    CurveFamily,
    Law,
    Measured,
)
from pippin.bench.scaling.peers import PEER_NOTE, peer_steps
from pippin.bench.scaling.training_step import TrainingCase, training_step
from pippin.bench.scaling.turns import Call, take_turns
from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.denoisers.weights.arguments import BY_CLASS, NO_CONTROL
from pippin.system.device import resolve_device
from pippin.system.heap import retained_heap

FLOPS_LAW = "images/s fall as the counted FLOPs of an image rise"
Cases = Callable[[int], TrainingCase]
"""Point of the axis -> the case to train."""


def base_case(config: ScalingConfig) -> TrainingCase:
    """DiT that the training curves vary; classes are its only condition."""
    return TrainingCase(
        denoiser=_dit(config, config.width),
        conditioning=BY_CLASS,
        side=PATCH_SIZE * math.isqrt(config.image_tokens),
        batch_size=config.batch_size,
        precision=config.precision,
        device=resolve_device(config.device),
    )


def _dit(config: ScalingConfig, width: int) -> DiTConfig:
    heads = width // config.head_width
    return DiTConfig(depth=config.depth, width=width, num_heads=heads, patch_size=PATCH_SIZE)


def tokens_family(config: ScalingConfig) -> CurveFamily:
    """Curve of image tokens, with the peers."""
    base = base_case(config)

    def case(tokens: int) -> TrainingCase:
        return replace(base, side=PATCH_SIZE * math.isqrt(tokens))

    def steps(tokens: int) -> Mapping[str, Call]:
        if not config.peers:
            return {PIPPIN: training_step(case(tokens))}
        return peer_steps(case(tokens), config.peers, check=tokens == config.tokens[0])

    note = PEER_NOTE if config.peers else ""
    return _family(config, "tokens", "image tokens", config.tokens, case, steps, note=note)


def width_family(config: ScalingConfig) -> CurveFamily:
    """Curve of the width, at constant depth."""
    base = base_case(config)

    def case(width: int) -> TrainingCase:
        return replace(base, denoiser=_dit(config, width))

    return _family(config, "width", "width", config.widths, case)


def batch_family(config: ScalingConfig) -> CurveFamily:
    """Curve of the batch size. Images cost equally much in every batch."""
    base = base_case(config)
    law = Law(words="images/s do not depend on the batch size", relative=lambda _: 1.0)
    return _family(
        config,
        "batch",
        "batch size",
        config.batches,
        lambda batch: replace(base, batch_size=batch),
        law=law,
        note="A larger batch shares the cost of optimizer and EMA among more images",
    )


def text_family(config: ScalingConfig) -> CurveFamily:
    """Curve of the text length: an mmDiT, whose attention joins text and image tokens."""
    base = base_case(config)
    width = config.width

    def case(tokens: int) -> TrainingCase:
        text = TextSemantic(token_features=width, pooled_features=width, num_tokens=tokens)
        conditioning = ConditioningConfig(
            semantic=text,
            rules={"text": "attention", "pooled": "modulation"},
            control=NO_CONTROL,
        )
        denoiser = MMDiTConfig(
            depth=config.depth, width=width, num_heads=width // config.head_width, qk_norm=False
        )
        return replace(base, denoiser=denoiser, conditioning=conditioning)

    note = f"mmDiT with {config.image_tokens} image tokens; text features are in memory"
    return _family(config, "text", "text tokens", config.text_tokens, case, note=note)


def _family(
    config: ScalingConfig,
    name: CurveName,
    axis: str,
    points: tuple[int, ...],
    case: Cases,
    steps: Callable[[int], Mapping[str, Call]] | None = None,
    law: Law | None = None,
    note: str = "",
) -> CurveFamily:
    """Family of one training curve; the law is that of the counted FLOPs by default."""
    flops = cache(lambda point: case(point).flops())
    start = steps or (lambda point: {PIPPIN: training_step(case(point))})

    def measure(point: int) -> Measured:
        device, batch = case(point).device, case(point).batch_size
        with retained_heap(device):  # as while training, for the peers too
            seconds = take_turns(start(point), config.seconds, device)
        speeds = {series: [batch / one for one in values] for series, values in seconds.items()}
        longest = max(max(values) for values in seconds.values())
        return Measured(values={name: speeds}, call_seconds=longest)

    declared = CurveDeclaration(
        key=name,
        title=f"Training against {axis}",
        axis=axis,
        unit="images/s",
        better="higher",
        law=law or Law(words=FLOPS_LAW, relative=lambda point: 1 / flops(point)),
        note=note,
    )
    return CurveFamily(
        name=name,
        points=points,
        curves=(declared,),
        cost=lambda point: float(flops(point) * case(point).batch_size),
        measure=measure,
    )
