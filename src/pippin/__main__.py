# SPDX-License-Identifier: Apache-2.0
"""``python -m pippin``, which torchrun starts several times: ``torchrun ... -m pippin train``."""

import sys

from pippin.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
