# SPDX-License-Identifier: Apache-2.0
"""Reading of a weight file that a setting of the evaluation names."""

from pathlib import Path

from torch import Tensor

from pippin.config import ConfigError
from pippin.system.weight_checks import check_plain
from pippin.system.weight_files import read_tensors


def read_weight_file(path: Path, setting: str, files: str) -> dict[str, Tensor]:
    """Read tensors by name; pickled code is never run.

    Args:
        path: the file.
        setting: names the file, such as ``evaluation.lpips``; for messages.
        files: the files that fit, for messages.

    Raises:
        ConfigError: no such file, or one without plain, finite weights.
    """
    if not path.is_file():
        raise ConfigError(f"{setting}: there is no file {path}; give {files}")
    try:
        tensors = read_tensors(path)
        check_plain(tensors, str(path))
    except ValueError as error:
        raise ConfigError(
            f"{setting}: {path} holds no readable weights ({error}); give {files}"
        ) from error
    return tensors
