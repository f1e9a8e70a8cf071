# SPDX-License-Identifier: Apache-2.0
"""The table of accelerators, and what is refused."""

import inspect

import pytest

from pippin.config import ConfigError
from pippin.planning.devices import DEVICES, Cluster


def test_peaks_are_those_of_dense_products_summed_in_fp32():
    """Multiprocessors x multiply-accumulates a clock x 2 x boost clock, by the vendor's papers."""
    counted = {
        "a100-40": 108 * 1024 * 2 * 1.41e9,
        "h100": 132 * 2048 * 2 * 1.83e9,
        "4090": 128 * 256 * 2 * 2.52e9,
    }
    for name, peak in counted.items():
        assert DEVICES[name].bf16 == pytest.approx(peak, rel=0.01), name
    assert DEVICES["h200"].bf16 == DEVICES["h100"].bf16  # the same chip with more memory
    assert all(device.bf16 > device.fp32 for device in DEVICES.values())


def test_the_help_names_every_device():
    listed = inspect.getsource(Cluster)
    assert all(name in listed for name in DEVICES)


def test_speed_and_memory_are_shares_of_the_data_sheet():
    cluster = Cluster(device="a100-80", utilisation=0.5, headroom=0.25)
    assert cluster.speed("bf16") == 156e12
    assert cluster.speed("fp32") == 9.75e12
    assert cluster.usable == 60 * 10**9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "v100"}, "no device 'v100'; there are: a100-40, a100-80, h100"),
        ({"devices": 0}, "devices must be 1 or more; got 0"),
        ({"utilisation": 0.0}, "utilisation must be more than 0 and at most 1; got 0.0"),
        ({"utilisation": 1.5}, "got 1.5"),
        ({"headroom": 1.0}, "headroom must be 0 or more and below 1; got 1.0"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Cluster(**settings)
