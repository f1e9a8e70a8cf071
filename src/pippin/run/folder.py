# SPDX-License-Identifier: Apache-2.0
"""Earlier name of :mod:`pippin.runs.folder`."""

from pippin.runs.folder import RunFolder

__all__ = ["RunFolder"]
