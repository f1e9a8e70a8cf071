# SPDX-License-Identifier: Apache-2.0
"""Shapes in signatures are checked at run time under tests; two threads at the most."""

from jaxtyping import install_import_hook

_hook = install_import_hook("pippin", "shape_checks.check")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(2)
