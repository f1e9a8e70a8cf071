# SPDX-License-Identifier: Apache-2.0
"""Repeated timing of calls that take turns: other load of the machine meets all of them."""

import time
from collections.abc import Callable, Mapping

import torch

from pippin.bench.timer import synchronise

Call = Callable[[], object]
MIN_ROUNDS, MAX_ROUNDS = 3, 200
"""Rounds of calls whose warm-up stays within the budget."""


def take_turns(
    calls: Mapping[str, Call],
    seconds: float,
    device: torch.device,
    agree: Callable[[float], float] = lambda seconds: seconds,
) -> dict[str, list[float]]:
    """Seconds of each call in each round; in a round, each call has one turn.

    If a first call takes longer than the budget, the first round is the only one. Otherwise it is
    a warm-up, and rounds follow until each call has used up its budget on average.

    Args:
        calls: calls by name.
        seconds: budget of each call.
        device: synchronised before and after each call.
        agree: seconds of a call here to those of all ranks, which must make equally many calls.
    """

    def one_round() -> dict[str, float]:
        return {name: agree(timed(call, device)) for name, call in calls.items()}

    warm_up = one_round()
    if max(warm_up.values()) > seconds:
        return {name: [value] for name, value in warm_up.items()}
    rounds: list[dict[str, float]] = []
    used = 0.0
    while len(rounds) < MIN_ROUNDS or (used < seconds * len(calls) and len(rounds) < MAX_ROUNDS):
        rounds.append(one_round())
        used += sum(rounds[-1].values())
    return {name: [one[name] for one in rounds] for name in calls}


def timed(call: Call, device: torch.device) -> float:
    """Seconds of a call, the device's queued work included."""
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start
