# SPDX-License-Identifier: Apache-2.0
"""Earlier name of :mod:`pippin.studies.results`."""

from pippin.studies.results import Row, append, read

__all__ = ["Row", "append", "read"]
