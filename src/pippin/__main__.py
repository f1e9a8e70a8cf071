# SPDX-License-Identifier: Apache-2.0
"""``python -m pippin``, which torchrun starts several times: ``torchrun ... -m pippin train``."""

from pippin.cli.main import main
from pippin.distributed.ranks import exit_rank

if __name__ == "__main__":
    exit_rank(main())
