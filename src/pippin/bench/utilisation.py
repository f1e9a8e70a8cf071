# SPDX-License-Identifier: Apache-2.0
"""Measured utilisation of a bench record, in place of the assumed one of a plan."""

from pippin.bench.record import BenchRecord
from pippin.config import ConfigError
from pippin.planning.devices import DEVICES, device_named


def measured_utilisation(record: BenchRecord, precision: str, *, compiled: bool = False) -> float:
    """Share of the data sheet's peak that a record's training reached: images/s times FLOPs of an
    image, forward and backward, over the peak of its GPU at this precision.

    Args:
        record: of ``pippin bench RECIPE --out``. Blocks that it recomputed are not counted.
        precision: fp32 or bf16, as ``train.precision``.
        compiled: whether blocks are compiled.

    Raises:
        ConfigError: another GPU than those of :data:`pippin.planning.devices.DEVICES`, whose peak
            is unknown, or no such mode in the record.
    """
    reported = record.machine.get("device", "unknown")
    name = device_named(reported)
    if name is None:
        raise ConfigError(
            f"the record was measured on {reported!r}, whose peak is unknown; allowed are records "
            f"of {', '.join(DEVICES)}: give the share of the peak with --utilisation"
        )
    modes = {(mode.precision, mode.compiled): mode for mode in record.modes}
    mode = modes.get((precision, compiled))
    if mode is None:
        wanted = f"{precision} {'compiled' if compiled else 'eager'}"
        raise ConfigError(
            f"the record has no mode {wanted}, with which the recipe trains; it has: "
            f"{', '.join(mode.name for mode in record.modes)}. Measure it with pippin bench "
            f"RECIPE --bench.precisions {precision} --bench.compile {compiled}"
        )
    device = DEVICES[name]
    peak = device.bf16 if precision == "bf16" else device.fp32
    return mode.images_per_second.median * record.step_flops / peak
