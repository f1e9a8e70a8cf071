# SPDX-License-Identifier: Apache-2.0
"""Earlier name of :mod:`pippin.sampling.sample_folder`."""

from pippin.sampling.sample_folder import make_room

__all__ = ["make_room"]
