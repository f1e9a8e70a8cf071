# SPDX-License-Identifier: Apache-2.0
"""Earlier name of :mod:`pippin.data.importing.import_sources`."""

from pippin.data.importing.import_sources import FileShard

__all__ = ["FileShard"]
