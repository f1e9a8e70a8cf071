# SPDX-License-Identifier: Apache-2.0
"""Earlier name of :mod:`pippin.studies.executors`."""

from pippin.studies.executors import LocalExecutor

__all__ = ["LocalExecutor"]
