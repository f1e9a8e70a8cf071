# SPDX-License-Identifier: Apache-2.0
"""Earlier name of :mod:`pippin.images.files`."""

from pippin.images.files import read_image

__all__ = ["read_image"]
