# SPDX-License-Identifier: Apache-2.0
"""Speed against diffusers' classes and against the published DiT in plain torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
from gpu.models import draw_model
from gpu.section import Context, Settings, Task
from rich.console import Console
from torch import Tensor, nn

from pippin.bench.against import CHANNELS, NUM_CLASSES, Pair, ThroughputComparison, compare_pair
from pippin.bench.config import AgainstConfig, Kind
from pippin.bench.record import Spread
from pippin.bench.scaling.published_dit import PublishedDiT
from pippin.denoisers.config import TransformerConfig
from pippin.denoisers.dit.published import PUBLISHED
from pippin.denoisers.weights.tensor_table import shapes_of, to_source
from pippin.model import LatentDenoiser

TOLERANCE = 1e-4
"""Largest difference of the outputs of two models that are timed, in units of the largest output;
kernels of a GPU add in other orders than those of a CPU, through 28 blocks."""


@dataclass(frozen=True, kw_only=True)
class BaselineRow:
    """Images/s of pippin and of another implementation with equal weights, in bf16."""

    denoiser: str
    against: str
    compiled: bool
    backward: bool
    """Forward and backward, otherwise forward alone."""
    batch: int
    pippin: Spread
    other: Spread
    ratio: Spread
    """Above 1, pippin is faster."""
    mfu: float
    """FLOP/s of pippin over those of a large matrix product in the same round."""


class DevicePair(Pair):
    """Both models are built on the device: at XL a CPU takes half a minute for each."""

    def build_model(self, draws: torch.Generator) -> LatentDenoiser:
        """Build pippin's model with weights that the device draws."""
        return draw_model(
            self.conditioning, self.denoiser, self.device, NUM_CLASSES, channels=CHANNELS
        )

    def build_reference(self, model: LatentDenoiser, side: int) -> nn.Module:
        """Build diffusers' model on the device."""
        with torch.device(self.device):
            return super().build_reference(model, side)


class PublishedPair(DevicePair):
    """pippin's DiT, and the published one in plain torch."""

    def build_reference(self, model: LatentDenoiser, side: int) -> nn.Module:
        """Build the published DiT with the weights of pippin's model."""
        denoiser = self.denoiser
        assert isinstance(denoiser, TransformerConfig)
        with torch.device(self.device):
            reference = PublishedDiT(
                input_size=side,
                patch_size=denoiser.patch_size,
                in_channels=CHANNELS,
                hidden_size=denoiser.width,
                depth=denoiser.depth,
                num_heads=denoiser.num_heads,
                mlp_ratio=denoiser.mlp_ratio,
                num_classes=NUM_CLASSES,
                learn_sigma=False,
            ).eval()
        table = PUBLISHED["dit"].table(denoiser, shapes_of(model))
        weights = to_source(table, model.state_dict(), shapes_of(reference))
        reference.load_state_dict(weights | {"pos_embed": reference.pos_embed})
        return reference

    def run_reference(self) -> Tensor:
        """Run the published DiT."""
        return self.reference(self.x_t, self.t, self.label.to(self.device))

    def reference_blocks(self) -> Iterable[nn.Module]:
        """Blocks of the published DiT."""
        return list(self.reference.blocks)


def tasks(context: Context) -> Iterator[Task]:
    """The published DiT, then each denoiser that diffusers has."""
    settings = context.settings
    yield Task(name="dit, published", run=partial(_rows, PublishedPair, "dit", settings))
    for kind in get_args(Kind):
        yield Task(name=f"{kind}, diffusers", run=partial(_rows, DevicePair, kind, settings))


def _rows(pair_class: type[Pair], kind: Kind, settings: Settings) -> Iterator[BaselineRow]:
    config = _config(kind, settings)
    pair = pair_class(kind, config.size, config.side, config.batch_size, settings.device)
    other = "published" if pair_class is PublishedPair else "diffusers"
    quiet = Console(quiet=True)
    for comparison in compare_pair(pair, config, quiet, TOLERANCE):
        yield _row(comparison, kind, other, config.batch_size)


def _config(kind: Kind, settings: Settings) -> AgainstConfig:
    """Modes and sizes. The blocks of a UNet differ, and would take minutes to compile."""
    xl = settings.is_xl
    return AgainstConfig(
        precisions=("bf16",),
        compile=settings.compiled and kind != "unet",
        denoiser=kind,
        size="XL" if xl else "tiny",
        side=32 if xl else 8,
        batch_size=32 if xl else 2,
        rounds=5 if xl else 2,
        matmul_side=0 if xl else 256,
    )


def _row(comparison: ThroughputComparison, kind: str, other: str, batch: int) -> BaselineRow:
    return BaselineRow(
        denoiser=kind,
        against=other,
        compiled=comparison.compiled,
        backward=comparison.backward,
        batch=batch,
        pippin=comparison.pippin,
        other=comparison.diffusers,
        ratio=comparison.ratio,
        mfu=comparison.peak_share.median,
    )
