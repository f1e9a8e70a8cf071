# SPDX-License-Identifier: Apache-2.0
"""Throughput of pippin's denoisers against diffusers' classes, with equal weights."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor, nn

from pippin.bench.config import AgainstConfig, Precision
from pippin.bench.diffusers_pairs import CHANNELS, NUM_CLASSES, Pair
from pippin.bench.record import Spread
from pippin.bench.timer import matmul_peak, synchronise
from pippin.run.cost import denoiser_flops, meta_model
from pippin.system.device import autocast, resolve_device

TOLERANCE = 1e-5
"""Largest difference of the two outputs, in units of the largest output, in fp32."""


@dataclass(frozen=True, kw_only=True)
class ThroughputComparison:
    """Throughput of both models in one mode, and their ratio within each round."""

    precision: str
    compiled: bool
    backward: bool
    pippin: Spread
    diffusers: Spread
    ratio: Spread
    """Above 1, pippin is faster."""
    peak_share: Spread
    """FLOP/s of pippin over those of a matrix product in the same round."""


def against_diffusers(config: AgainstConfig, console: Console) -> Iterator[ThroughputComparison]:
    """Measure each mode, after a check that both models give equal outputs.

    Raises:
        ValueError: the two outputs differ by more than rounding.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    pair = Pair(config.denoiser, config.size, config.side, config.batch_size, device)
    check_equal(pair)
    for compiled in (False, True) if config.compile else (False,):
        if compiled:
            pair.compile()
        for precision in config.precisions:
            for backward in (False, True):
                mode = f"{precision} {'compiled' if compiled else 'eager'}"
                with console.status(f"{mode}, {'with' if backward else 'without'} backward"):
                    comparison = _compare(pair, config, precision, compiled, backward)
                yield comparison


def check_equal(pair: Pair) -> None:
    """Refuse to time two models with different outputs.

    Raises:
        ValueError: the two outputs differ by more than rounding.
    """
    with torch.no_grad():
        output, reference = pair.run_model(), pair.run_reference()
    error = ((output - reference).abs().max() / reference.abs().max()).item()
    if not error <= TOLERANCE:
        raise ValueError(
            f"the two models' outputs differ by {error:.1e} of the largest output; allowed are "
            f"{TOLERANCE}: their throughputs are not comparable"
        )


def _flops(pair: Pair, *, backward: bool) -> int:
    """FLOPs of the denoiser for the whole batch."""
    model = meta_model(pair.conditioning, pair.denoiser, NUM_CLASSES, CHANNELS)
    return denoiser_flops(model, pair.latent_shape, backward=backward) * pair.batch_size


def _compare(
    pair: Pair, config: AgainstConfig, precision: Precision, compiled: bool, backward: bool
) -> ThroughputComparison:
    batch, work = pair.batch_size, _flops(pair, backward=backward)
    side = config.matmul_side
    rounds = [_round(pair, precision, backward, side) for _ in range(config.rounds + 1)]
    times = rounds[1:]  # the first round is a warm-up
    return ThroughputComparison(
        precision=precision,
        compiled=compiled,
        backward=backward,
        pippin=Spread.over([batch / seconds for seconds, _, _ in times]),
        diffusers=Spread.over([batch / seconds for _, seconds, _ in times]),
        ratio=Spread.over([reference / model for model, reference, _ in times]),
        peak_share=Spread.over([work / seconds / peak for seconds, _, peak in times]),
    )


def _round(
    pair: Pair, precision: Precision, backward: bool, matmul_side: int
) -> tuple[float, float, float]:
    """(seconds of pippin, seconds of diffusers, FLOP/s of a matrix product)."""
    return (
        _seconds(pair.run_model, pair.model, pair.device, precision, backward),
        _seconds(pair.run_reference, pair.reference, pair.device, precision, backward),
        matmul_peak(pair.device, precision, matmul_side),
    )


def _seconds(
    call: Callable[[], Tensor],
    model: nn.Module,
    device: torch.device,
    precision: Precision,
    backward: bool,
) -> float:
    synchronise(device)
    start = time.perf_counter()
    with autocast(device, precision), torch.set_grad_enabled(backward):
        output = call()
    if backward:
        output.float().square().mean().backward()
    synchronise(device)
    seconds = time.perf_counter() - start
    model.zero_grad(set_to_none=True)
    return seconds
