# SPDX-License-Identifier: Apache-2.0
"""Time and memory of KID, and of precision, recall, density and coverage, against samples."""

from collections.abc import Callable

import torch
from torch import Tensor

from pippin.bench.scaling.config import CurveName, ScalingConfig
from pippin.bench.scaling.declarations import (
    PIPPIN,
    CurveDeclaration,
    CurveFamily,
    Law,
    Measured,
)
from pippin.bench.scaling.turns import take_turns
from pippin.bench.timer import peak_memory, reset_peak_memory
from pippin.evaluation.metrics import kid, prdc
from pippin.evaluation.metrics.kid import kernel_distance
from pippin.evaluation.metrics.prdc import prdc as neighbour_metrics
from pippin.system.heap import release_free_memory

NEIGHBOURS = 5
MIB = 2**20
CPU = torch.device("cpu")
NAMES: dict[CurveName, str] = {
    "kid": "KID",
    "prdc": "precision, recall, density, coverage",
}


def kid_family(config: ScalingConfig) -> CurveFamily:
    """Curves of the kernel distance."""
    return _family(config, "kid", kernel_distance, kid.CELLS)


def prdc_family(config: ScalingConfig) -> CurveFamily:
    """Curves of the metrics of nearest neighbours."""

    def metrics(generated: Tensor, reference: Tensor) -> object:
        return neighbour_metrics(generated, reference, NEIGHBOURS)

    return _family(config, "prdc", metrics, prdc.CELLS)


def block_bytes(samples: int, features: int, cells: int) -> int:
    """Bytes that blockwise computation needs at least: both sides in float64, and one block of
    pairs.

    Args:
        samples: samples on each side.
        features: features of a sample.
        cells: pairs of a block, at least those of one sample.
    """
    rows = min(samples, max(1, cells // samples))
    return 8 * (2 * samples * features + rows * samples)


def _family(
    config: ScalingConfig, name: CurveName, metric: Callable[[Tensor, Tensor], object], cells: int
) -> CurveFamily:
    features = config.features
    axis = "samples on each side"
    time_law = Law(words="time grows as the square of the samples", relative=lambda n: float(n**2))
    memory_law = Law(
        words="both sides in float64 and one block of pairs, counted",
        relative=lambda n: block_bytes(n, features, cells) / MIB,
        anchored=False,
    )
    return CurveFamily(
        name=name,
        points=config.samples,
        curves=(
            CurveDeclaration(
                key=f"{name}-seconds",
                title=f"Time of {NAMES[name]}",
                axis=axis,
                unit="s",
                better="lower",
                law=time_law,
                note=f"{features} features, in float64 on the CPU; the reference's part included",
            ),
            CurveDeclaration(
                key=f"{name}-memory",
                title=f"Memory of {NAMES[name]}",
                axis=axis,
                unit="MiB",
                better="lower",
                law=memory_law,
                note="Peak resident memory above that before the call, features excluded",
            ),
        ),
        cost=time_law.relative,
        measure=lambda samples: _measure(name, metric, samples, config),
    )


def _measure(
    name: CurveName,
    metric: Callable[[Tensor, Tensor], object],
    samples: int,
    config: ScalingConfig,
) -> Measured:
    draws = torch.Generator().manual_seed(0)
    sides = [torch.randn(samples, config.features, generator=draws) for _ in range(2)]
    peaks: list[float] = []

    def call() -> None:
        release_free_memory()  # small calls would reuse resident pages, and seem to need none
        reset_peak_memory(CPU)
        before = peak_memory(CPU)
        metric(*sides)
        peaks.append((peak_memory(CPU) - before) / MIB)

    seconds = take_turns({PIPPIN: call}, config.seconds, CPU)[PIPPIN]
    memory = peaks[-len(seconds) :]  # without that of a warm-up
    return Measured(
        values={f"{name}-seconds": {PIPPIN: seconds}, f"{name}-memory": {PIPPIN: memory}},
        call_seconds=max(seconds),
    )
