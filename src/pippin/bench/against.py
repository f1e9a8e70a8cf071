# SPDX-License-Identifier: Apache-2.0
"""Throughput of pippin's denoisers against diffusers' classes, with equal weights."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from pippin.bench.config import AgainstConfig, Kind, Precision
from pippin.bench.record import Spread
from pippin.bench.timer import matmul_peak, synchronise
from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.config import DenoiserConfig, SizeName
from pippin.denoisers.weights.arguments import ModelSpec
from pippin.diffusion.config import DiffusionConfig
from pippin.evaluation.metrics.cost import denoiser_flops, meta_model
from pippin.interop.diffusers_config import class_of
from pippin.interop.diffusers_format import to_diffusers
from pippin.model import LatentDenoiser, build_model
from pippin.system.device import autocast, resolve_device
from pippin.training.blocks import compile_blocks
from pippin.types import Conditions, TextFeatures

NUM_CLASSES, CHANNELS = 1000, 4


class Pair:
    """Both models in evaluation mode, because diffusers' DiT drops classes in training mode.

    diffusers' DiT divides time features by half - 1, the published DiT and pippin divide by half.
    This is corrected in diffusers' model, so that both compute one function. A subclass compares
    with another implementation.

    Args:
        kind, size: denoiser and its size.
        side: side of the latents.
        batch_size: batch size of the inputs.
        device: device of both.
    """

    def __init__(
        self, kind: Kind, size: SizeName, side: int, batch_size: int, device: torch.device
    ) -> None:
        self.model_class, self.batch_size, self.device = class_of(kind), batch_size, device
        self.latent_shape = (CHANNELS, side, side)
        self.denoiser, self.conditioning = self.model_class.benchmark(size, side)
        draws = torch.Generator().manual_seed(0)
        model = self.build_model(draws)
        reference = self.build_reference(model, side)
        self.model, self.reference = model.to(device).eval(), reference.to(device).eval()
        self.label = torch.arange(batch_size) % NUM_CLASSES
        self.text = self._captions(draws)
        self.t = torch.linspace(1, 999, batch_size).round().to(device)
        self.x_t = torch.randn((batch_size, *self.latent_shape), generator=draws).to(device)

    def build_model(self, draws: torch.Generator) -> LatentDenoiser:
        """Build pippin's model, with random weights."""
        model = build_model(
            self.conditioning,
            self.denoiser,
            num_classes=NUM_CLASSES,
            latent_channels=CHANNELS,
            seed=0,
        )
        with torch.no_grad():
            for weight in model.parameters():  # zero-initialised layers would hide the rest
                weight.add_(0.02 * torch.randn(weight.shape, generator=draws))
        return model

    def build_reference(self, model: LatentDenoiser, side: int) -> nn.Module:
        """Build the other implementation, with the weights of pippin's model."""
        return to_diffusers_model(model, self.denoiser, self.conditioning, side)

    def _captions(self, draws: torch.Generator) -> TextFeatures | None:
        semantic = self.conditioning.semantic
        if not isinstance(semantic, TextSemantic):
            return None
        rows, pooled = self.batch_size, semantic.pooled_features
        tokens = torch.randn(
            rows, semantic.num_tokens, semantic.token_features or 1, generator=draws
        )
        vector = None if pooled is None else torch.randn(rows, pooled, generator=draws)
        return TextFeatures(
            tokens=tokens.to(self.device),
            pooled=None if vector is None else vector.to(self.device),
        )

    def run_model(self) -> Tensor:
        """Run pippin's conditioner and denoiser."""
        label = self.label if self.text is None else None
        conditions = Conditions(label=label, text=self.text, control={})
        return self.model(self.x_t, self.t, self.model.prepare(conditions)).mean

    def run_reference(self) -> Tensor:
        """Run the other implementation."""
        if self.text is None:
            label = self.label.to(self.device)
            return self.reference(self.x_t, timestep=self.t, class_labels=label).sample
        tokens, extra = self.text.tokens, self.model_class.inputs(self.text)
        return self.reference(
            self.x_t, timestep=self.t, encoder_hidden_states=tokens, **extra
        ).sample

    def compile(self) -> None:
        """Compile the blocks of both models, as the trainer does."""
        compile_blocks(self.denoiser, [*self.model.denoiser.blocks, *self.reference_blocks()])

    def reference_blocks(self) -> Iterable[nn.Module]:
        """Repeated blocks of the other implementation."""
        return _blocks(self.reference)


def to_diffusers_model(
    model: LatentDenoiser, denoiser: DenoiserConfig, conditioning: ConditioningConfig, side: int
) -> nn.Module:
    """diffusers' model with the weights of pippin's, computing the same function.

    Args:
        model: on the CPU, with :data:`NUM_CLASSES` classes and :data:`CHANNELS` channels.
        denoiser, conditioning: of the model.
        side: side of the latents.
    """
    spec = ModelSpec(
        denoiser=denoiser,
        conditioning=conditioning,
        diffusion=DiffusionConfig(),
        latent_channels=CHANNELS,
        latent_side=side,
        num_classes=NUM_CLASSES,
    )
    reference = to_diffusers(spec, model.state_dict()).build()
    class_of(denoiser.kind).equalise(reference)
    return reference


def _blocks(reference: Any) -> Iterable[Any]:
    """Repeated blocks of diffusers' model; a UNet's are ResNet blocks and transformers."""
    if hasattr(reference, "transformer_blocks"):
        return list(reference.transformer_blocks)
    levels = [*reference.down_blocks, reference.mid_block, *reference.up_blocks]
    return [
        block
        for level in levels
        for block in (*level.resnets, *(getattr(level, "attentions", None) or ()))
    ]


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
    """Build both models and measure each mode, see :func:`compare_pair`.

    Raises:
        ValueError: the two outputs differ by more than rounding.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    pair = Pair(config.denoiser, config.size, config.side, config.batch_size, device)
    yield from compare_pair(pair, config, console)


def compare_pair(
    pair: Pair, config: AgainstConfig, console: Console, tolerance: float = TOLERANCE
) -> Iterator[ThroughputComparison]:
    """Measure each mode, after a check that both models give equal outputs.

    Args:
        pair: the two models.
        config: modes and rounds; what it says of the models is not read.
        console: console for progress.
        tolerance: see :data:`TOLERANCE`.

    Raises:
        ValueError: the two outputs differ by more than the tolerance.
    """
    check_equal(pair, tolerance)
    for compiled in (False, True) if config.compile else (False,):
        if compiled:
            pair.compile()
        for precision in config.precisions:
            for backward in (False, True):
                mode = f"{precision} {'compiled' if compiled else 'eager'}"
                with console.status(f"{mode}, {'with' if backward else 'without'} backward"):
                    comparison = _compare(pair, config, precision, compiled, backward)
                yield comparison


def check_equal(pair: Pair, tolerance: float = TOLERANCE) -> None:
    """Refuse to time two models with different outputs.

    Raises:
        ValueError: the two outputs differ by more than the tolerance.
    """
    with torch.no_grad():
        output, reference = pair.run_model(), pair.run_reference()
    error = ((output - reference).abs().max() / reference.abs().max()).item()
    if not error <= tolerance:
        raise ValueError(
            f"the two models' outputs differ by {error:.1e} of the largest output; allowed are "
            f"{tolerance}: their throughputs are not comparable"
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
