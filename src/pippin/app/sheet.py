# SPDX-License-Identifier: Apache-2.0
"""Sheets: the images of one click, arranged as a plain list, a sweep or a grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pippin.sampling.config import SamplingConfig
from pippin.types import Prompt

BATCH_SIZE = 4
"""Images that are sampled, and appear, together."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Images of one model with one configuration."""

    model: int
    """Index of the model in the session."""
    prompt: Prompt
    seeds: tuple[int, ...]
    config: SamplingConfig
    label: str = ""
    """Position in the sheet, such as ``original size 64``; empty for a plain list."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """All images of one click."""

    kind: Literal["images", "sweep", "grid"]
    prompt: str
    """As the user gave it."""
    requests: tuple[Request, ...]
    title: str = ""
    """Name of what a sweep changes."""
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Headings of a sweep or a grid; requests of one model go row by row."""

    @property
    def total(self) -> int:
        """Number of images."""
        return sum(len(request.seeds) for request in self.requests)

    def of_model(self, model: int) -> tuple[Request, ...]:
        """Requests of one model, in order."""
        return tuple(request for request in self.requests if request.model == model)

    def batches(self) -> Iterator[tuple[Request, tuple[int, ...]]]:
        """Requests with the seeds of each batch, so that all models advance together."""
        models = sorted({request.model for request in self.requests})
        queues = [list(_batches(self.of_model(model))) for model in models]
        for index in range(max(map(len, queues), default=0)):
            for queue in queues:
                if index < len(queue):
                    yield queue[index]


def _batches(requests: tuple[Request, ...]) -> Iterator[tuple[Request, tuple[int, ...]]]:
    for request in requests:
        for start in range(0, len(request.seeds), BATCH_SIZE):
            yield request, request.seeds[start : start + BATCH_SIZE]
