# SPDX-License-Identifier: Apache-2.0
"""Our denoisers and diffusers' classes, equal weights, in turns in one process."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor, nn

from pippin.bench.clock import matmul_peak, synchronise
from pippin.bench.config import AgainstConfig, Precision
from pippin.bench.diffusers_pairs import CHANNELS, NUM_CLASSES, Pair
from pippin.bench.record import Spread
from pippin.run.cost import denoiser_flops, meta_model
from pippin.system.device import autocast, resolve_device

TOLERANCE = 1e-5
"""Largest difference of the two outputs, in units of the largest output, in fp32."""


@dataclass(frozen=True, kw_only=True)
class Duel:
    """One mode: images/s of both and their ratio within each round."""

    precision: str
    compiled: bool
    backward: bool
    ours: Spread
    theirs: Spread
    ratio: Spread
    """Above 1 ours is faster."""
    peak_share: Spread
    """Ours, of the matrix product's FLOP/s in the same round."""


def against_diffusers(config: AgainstConfig, console: Console) -> Iterator[Duel]:
    """Measure mode after mode, after checking that both models compute the same.

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
                what = f"{precision} {'compiled' if compiled else 'eager'}"
                with console.status(f"{what}, {'with' if backward else 'without'} backward"):
                    duel = _duel(pair, config, precision, compiled, backward)
                yield duel


def check_equal(pair: Pair) -> None:
    """Refuse to time two models that do not compute the same.

    Raises:
        ValueError: the two outputs differ by more than rounding.
    """
    with torch.no_grad():
        ours, theirs = pair.run_ours(), pair.run_theirs()
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    if not error <= TOLERANCE:
        raise ValueError(
            f"the two models differ by {error:.1e} of the largest output, more than {TOLERANCE}: "
            "a comparison of their speed would mean nothing"
        )


def _flops(pair: Pair, *, backward: bool) -> int:
    """Of the denoiser, for the whole batch."""
    counted = meta_model(pair.conditioning, pair.denoiser, NUM_CLASSES, CHANNELS)
    return denoiser_flops(counted, pair.latent_shape, backward=backward) * pair.batch_size


def _duel(
    pair: Pair, config: AgainstConfig, precision: Precision, compiled: bool, backward: bool
) -> Duel:
    batch, work = pair.batch_size, _flops(pair, backward=backward)
    side = config.matmul_side
    rounds = [_round(pair, precision, backward, side) for _ in range(config.rounds + 1)]
    times = rounds[1:]  # the first one warms up
    return Duel(
        precision=precision,
        compiled=compiled,
        backward=backward,
        ours=Spread.over([batch / ours for ours, _, _ in times]),
        theirs=Spread.over([batch / theirs for _, theirs, _ in times]),
        ratio=Spread.over([theirs / ours for ours, theirs, _ in times]),
        peak_share=Spread.over([work / ours / peak for ours, _, peak in times]),
    )


def _round(
    pair: Pair, precision: Precision, backward: bool, matmul_side: int
) -> tuple[float, float, float]:
    """Seconds of ours, seconds of theirs, FLOP/s of a matrix product."""
    return (
        _seconds(pair.run_ours, pair.ours, pair.device, precision, backward),
        _seconds(pair.run_theirs, pair.theirs, pair.device, precision, backward),
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
    began = time.perf_counter()
    with autocast(device, precision), torch.set_grad_enabled(backward):
        output = call()
    if backward:
        output.float().square().mean().backward()
    synchronise(device)
    seconds = time.perf_counter() - began
    model.zero_grad(set_to_none=True)
    return seconds
