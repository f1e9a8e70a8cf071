# SPDX-License-Identifier: Apache-2.0
"""Earlier name of :mod:`pippin.data.importing.parts`."""

from pippin.data.importing.parts import read_part

__all__ = ["read_part"]
