# SPDX-License-Identifier: Apache-2.0
"""Start of a process group by ranks that torchrun may have restarted.

torchrun keeps one store of keys over all restarts, and a process group publishes its addresses
there. A restarted rank could read the address of a dead one, and the group would fail. So the
ranks of one attempt first agree on a token, and use only keys that start with it. The number of
restarts is no such token: after a failure on one machine torchrun counts it on that machine alone.
"""

import os
import time
import uuid
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

POLL_INTERVAL = 0.1
"""Seconds between two looks for the ranks that are still to start."""


def process_group_options(timeout: timedelta) -> dict[str, Any]:
    """Store, rank and world size for ``init_process_group``; empty where no store is kept.

    Args:
        timeout: time within which all ranks must have started.

    Raises:
        RuntimeError: some have not.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    store, rank, size = next(iter(rendezvous("env://", timeout=timeout)))
    token = agree_on_token(store, rank, size, timeout)
    return {"store": dist.PrefixStore(token, store), "rank": rank, "world_size": size}


def agree_on_token(store: dist.Store, rank: int, size: int, timeout: timedelta) -> str:
    """Token that the living ranks share; keys of earlier attempts in the store do no harm.

    Every other rank announces a name of its own, rank 0 answers each name with the token, and the
    rank confirms it. A name that a dead rank left is answered too, which nobody reads; the living
    rank replaces it.

    Raises:
        RuntimeError: some ranks did not start in time.
    """
    own, deadline = f"pippin/{uuid.uuid4()}", time.monotonic() + timeout.total_seconds()
    if rank:
        store.set(f"pippin/rank/{rank}", own)
        while not store.check([own]):
            _wait(deadline, "rank 0")
        token = store.get(own).decode()
        store.set(f"{token}/{rank}", "here")
        return token
    missing = set(range(1, size))
    while missing:
        for other in sorted(missing):
            if store.check([f"{own}/{other}"]):
                missing.remove(other)
            elif store.check([name := f"pippin/rank/{other}"]):
                store.set(store.get(name).decode(), own)
        if missing:
            _wait(deadline, f"ranks {', '.join(map(str, sorted(missing)))}")
    return own


def _wait(deadline: float, awaited: str) -> None:
    if time.monotonic() > deadline:
        raise RuntimeError(f"{awaited} did not start in time; see their logs")
    time.sleep(POLL_INTERVAL)
