# SPDX-License-Identifier: Apache-2.0
"""Measurement of all scaling curves of a configuration."""

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from rich.console import Console

from pippin.bench.record import Spread
from pippin.bench.scaling.cache_curves import data_family
from pippin.bench.scaling.config import CurveName, ScalingConfig
from pippin.bench.scaling.declarations import PIPPIN, CurveDeclaration, CurveFamily, Measured
from pippin.bench.scaling.metric_curves import kid_family, prdc_family
from pippin.bench.scaling.process_curve import processes_family
from pippin.bench.scaling.scaling_record import (
    CurveResult,
    PointResult,
    ScalingRecord,
    SeriesResult,
)
from pippin.bench.scaling.training_curves import (
    batch_family,
    text_family,
    tokens_family,
    width_family,
)
from pippin.bench.timer import machine
from pippin.system.device import resolve_device
from pippin.system.installation import environment
from pippin.system.main_memory import is_out_of_memory

FAMILIES: dict[CurveName, Callable[[ScalingConfig], CurveFamily]] = {
    "tokens": tokens_family,
    "width": width_family,
    "batch": batch_family,
    "text": text_family,
    "processes": processes_family,
    "data": data_family,
    "kid": kid_family,
    "prdc": prdc_family,
}
"""Declaration of every curve."""
MIN_PREDICTIVE = 0.5
"""Seconds of a call from which those of the next point are predicted; shorter calls are mostly
fixed costs."""
SeriesValues = Mapping[str, Sequence[float]]
"""Series -> one figure for each repetition."""


def measure_scaling(config: ScalingConfig, console: Console) -> ScalingRecord:
    """Measure the curves of ``config``, one after the other.

    Args:
        config: curves and points.
        console: console for progress.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    start, load = time.perf_counter(), _load_average()
    curves: list[CurveResult] = []
    for name in config.curves:
        curves += _measure_family(FAMILIES[name](config), config, console)
    return ScalingRecord(
        versions=environment(),
        machine=machine(resolve_device(config.device)),
        load_average=(*load, *_load_average()),
        settings=config.to_dict(),
        seconds=time.perf_counter() - start,
        curves=tuple(curves),
    )


def _measure_family(
    family: CurveFamily, config: ScalingConfig, console: Console
) -> list[CurveResult]:
    measured: dict[int, Measured] = {}
    left_out: list[str] = []
    for point in family.points:
        if reason := _reason_to_skip(family, point, measured, config.longest):
            left_out.append(f"{point}: {reason}")
            continue
        with console.status(f"{family.name}: {point}"):
            try:
                measured[point] = family.measure(point)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                left_out.append(f"{point}: not enough memory")
        gc.collect()  # models and optimizers of one point are not in the memory of the next
    return [_curve(declared, measured, tuple(left_out)) for declared in family.curves]


def _reason_to_skip(
    family: CurveFamily, point: int, measured: dict[int, Measured], longest: float
) -> str:
    """Reason to leave a point out, or an empty text."""
    if family.limit is not None and point > family.limit:
        return family.limit_words
    if not measured:
        return ""
    last = max(measured)
    if measured[last].call_seconds < MIN_PREDICTIVE:
        return ""
    predicted = measured[last].call_seconds * family.cost(point) / family.cost(last)
    if predicted > longest:
        return f"a call takes {predicted:.0f} s, predicted from {last}; the limit is {longest:g} s"
    return ""


def _curve(
    declared: CurveDeclaration, measured: dict[int, Measured], left_out: tuple[str, ...]
) -> CurveResult:
    """Result of one curve of a family."""
    values = {point: one.values[declared.key] for point, one in measured.items()}
    names = next(iter(values.values()), {})
    return CurveResult(
        key=declared.key,
        title=declared.title,
        axis=declared.axis,
        unit=declared.unit,
        better=declared.better,
        law=declared.law.words,
        note=declared.note,
        series=tuple(
            SeriesResult(name=name, points=tuple(_points(declared, name, values)))
            for name in names
        ),
        left_out=left_out,
    )


def _points(
    declared: CurveDeclaration, name: str, values: Mapping[int, SeriesValues]
) -> Iterator[PointResult]:
    spreads = {point: Spread.over(one[name]) for point, one in values.items()}
    first = next(iter(spreads.values())).median
    ideals = declared.law.ideal(list(spreads), first)
    for (point, spread), ideal in zip(spreads.items(), ideals, strict=True):
        yield PointResult(x=point, value=spread, ideal=ideal, ratio=_ratio(name, values[point]))


def _ratio(name: str, values: SeriesValues) -> Spread | None:
    """Figure of pippin over that of a peer, within each round."""
    if name == PIPPIN:
        return None
    pairs = zip(values[PIPPIN], values[name], strict=True)
    return Spread.over([own / peer for own, peer in pairs])


def _load_average() -> tuple[float, ...]:
    try:
        return (round(os.getloadavg()[0], 2),)
    except (AttributeError, OSError):  # unknown to this system
        return ()
