# SPDX-License-Identifier: Apache-2.0
"""Peak CPU memory of tensors, measured at every operation."""

from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Dispatch mode that records in ``most`` the largest number of bytes held by tensors, of
    Python or C++, at the end of an operation; memory freed within an operation is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._seen: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        for value in tree_iter((args, kwargs, result)):
            local = value._local_tensor if isinstance(value, DTensor) else value
            if isinstance(local, torch.Tensor) and local.device.type == "cpu":
                storage = local.untyped_storage()
                self._seen.setdefault(storage._cdata, StorageWeakRef(storage))
        self.most = max(self.most, self.now())
        return result

    def now(self) -> int:
        """Current number of bytes."""
        total = 0
        for place, reference in list(self._seen.items()):
            storage = torch.UntypedStorage._new_with_weak_ptr(reference.cdata)
            if storage is None:
                del self._seen[place]
            else:
                total += storage.nbytes()
        return total
