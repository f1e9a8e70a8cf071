# SPDX-License-Identifier: Apache-2.0
"""Earlier name of :mod:`pippin.evaluation.runs.protocol`."""

from pippin.evaluation.runs.protocol import Stages

__all__ = ["Stages"]
