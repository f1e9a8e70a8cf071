# SPDX-License-Identifier: Apache-2.0
"""Our DiT and diffusers' ``DiTTransformer2DModel``, equal weights, in turns in one process."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor, nn

from pippin.bench.clock import matmul_peak, synchronise
from pippin.bench.config import AgainstConfig, Precision
from pippin.bench.diffusers_dit import blocks_of, build_theirs
from pippin.bench.record import Spread
from pippin.conditioning.config import ConditioningConfig, ControlConfig
from pippin.denoisers.config import dit
from pippin.model import build_model
from pippin.run.cost import denoiser_flops, meta_model
from pippin.training.device import autocast, resolve_device
from pippin.types import Conditions

NUM_CLASSES, CHANNELS = 1000, 4
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
    pair = Pair(config, resolve_device(config.device))
    pair.check_equal()
    for compiled in (False, True) if config.compile else (False,):
        if compiled:
            pair.compile()
        for precision in config.precisions:
            for backward in (False, True):
                what = f"{precision} {'compiled' if compiled else 'eager'}"
                with console.status(f"{what}, {'with' if backward else 'without'} backward"):
                    duel = _duel(pair, precision, compiled, backward)
                yield duel


class Pair:
    """Both models with equal weights, in evaluation mode: theirs drops classes otherwise."""

    def __init__(self, config: AgainstConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.latent_shape = (CHANNELS, config.side, config.side)
        self.conditioning = ConditioningConfig(
            rules={"label": "modulation"}, control=ControlConfig(high=(), low=())
        )
        self.shape = dit(config.size)
        ours = build_model(
            self.conditioning,
            self.shape,
            num_classes=NUM_CLASSES,
            latent_channels=CHANNELS,
            seed=0,
        )
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in ours.parameters():  # layers that start at 0 would hide the rest
                weight.add_(0.02 * torch.randn(weight.shape, generator=draws))
        theirs = build_theirs(ours, self.shape, self.latent_shape, NUM_CLASSES)
        self.ours, self.theirs = ours.to(device).eval(), theirs.to(device).eval()
        self.label = torch.arange(config.batch_size) % NUM_CLASSES
        self.t = torch.linspace(1, 999, config.batch_size).round().to(device)
        shape = (config.batch_size, *self.latent_shape)
        self.x_t = torch.randn(shape, generator=draws).to(device)

    def run_ours(self) -> Tensor:
        """Conditioning and denoiser, once."""
        prepared = self.ours.prepare(Conditions(label=self.label, control={}))
        return self.ours(self.x_t, self.t, prepared).mean

    def run_theirs(self) -> Tensor:
        """The same with diffusers."""
        label = self.label.to(self.device)
        return self.theirs(self.x_t, timestep=self.t, class_labels=label).sample

    def check_equal(self) -> None:
        """Refuse to time two models that do not compute the same."""
        with torch.no_grad():
            ours, theirs = self.run_ours(), self.run_theirs()
        error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        if not error <= TOLERANCE:
            raise ValueError(
                f"the two models differ by {error:.1e} of the largest output, more than "
                f"{TOLERANCE}: a comparison of their speed would mean nothing"
            )

    def compile(self) -> None:
        """Compile the blocks of both, as the trainer compiles ours."""
        for block in [*self.ours.denoiser.blocks, *blocks_of(self.theirs)]:
            block.compile()

    def flops(self, *, backward: bool) -> int:
        """Of the denoiser, for the whole batch."""
        counted = meta_model(self.conditioning, self.shape, NUM_CLASSES, CHANNELS)
        one = denoiser_flops(counted, self.latent_shape, backward=backward)
        return one * self.config.batch_size


def _duel(pair: Pair, precision: Precision, compiled: bool, backward: bool) -> Duel:
    batch, work = pair.config.batch_size, pair.flops(backward=backward)
    rounds = [_round(pair, precision, backward) for _ in range(pair.config.rounds + 1)]
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


def _round(pair: Pair, precision: Precision, backward: bool) -> tuple[float, float, float]:
    """Seconds of ours, seconds of theirs, FLOP/s of a matrix product."""
    return (
        _seconds(pair.run_ours, pair.ours, pair.device, precision, backward),
        _seconds(pair.run_theirs, pair.theirs, pair.device, precision, backward),
        matmul_peak(pair.device, precision, pair.config.matmul_side),
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
