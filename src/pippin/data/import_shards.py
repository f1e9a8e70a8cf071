# SPDX-License-Identifier: Apache-2.0
"""Earlier name of :mod:`pippin.data.importing.shards`."""

from pippin.data.importing.shards import read_part

__all__ = ["read_part"]
