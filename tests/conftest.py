# SPDX-License-Identifier: Apache-2.0
"""Shapes in signatures are checked at run time under tests; one thread, tensors are small."""

from jaxtyping import install_import_hook

_hook = install_import_hook("pippin", "shape_checks.check")

import torch  # noqa: E402

torch.set_num_threads(1)
