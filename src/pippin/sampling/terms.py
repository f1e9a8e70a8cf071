# SPDX-License-Identifier: Apache-2.0
"""The model under each choice of kept conditions: one batch a term, or all of them in one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pippin.sampling.guidance import Predict, Predictions, Term
from pippin.types import Conditions, Keep, Prediction


@runtime_checkable
class ConditionalModel(Protocol):
    """Interface of a model for the sampler."""

    def prepare(self, conditions: Conditions, keep: Keep | None = None) -> Any:
        """Embed the conditions (on the CPU) once; what is not kept becomes its null."""

    def __call__(self, x_t: Tensor, t: Tensor, prepared: Any) -> Prediction:
        """Predict for states (batch, channels, height, width) at times (batch,)."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As :meth:`torch.nn.Module.parameters`."""

    def modules(self) -> Iterator[nn.Module]:
        """As :meth:`torch.nn.Module.modules`."""


class GuidanceTerms:
    """The model under each choice of kept conditions."""

    def __init__(
        self,
        model: ConditionalModel,
        conditions: Conditions,
        rows: int,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._model, self._conditions, self._rows = model, conditions, rows
        self._autocast = autocast

    def __call__(self, semantic: bool, control: bool) -> Predict:
        """One term: a batch of its own."""
        return self._predict(*self._conditions_of((semantic, control)))

    def batched(self, keys: tuple[Term, ...]) -> Predictions:
        """All terms in one batch, concatenated along the rows."""
        parts, keeps = zip(*map(self._conditions_of, keys), strict=True)
        keep = Keep(
            semantic=torch.cat([part.semantic for part in keeps]),
            control=torch.cat([part.control for part in keeps]),
        )
        predict_all = self._predict(Conditions.cat(parts), keep)

        def predict(x_t: Tensor, t: Tensor) -> dict[Term, Prediction]:
            prediction = predict_all(x_t.repeat(len(keys), 1, 1, 1), t.repeat(len(keys)))
            means = prediction.mean.chunk(len(keys))
            variances: Sequence[Tensor | None] = [None] * len(keys)
            if prediction.variance is not None:
                variances = prediction.variance.chunk(len(keys))
            return {
                key: Prediction(mean=mean, variance=variance)
                for key, mean, variance in zip(keys, means, variances, strict=True)
            }

        return predict

    def _conditions_of(self, key: Term) -> tuple[Conditions, Keep]:
        """The conditions of a term, and which of them are kept."""
        (semantic, control), conditions = key, self._conditions
        if not semantic and conditions.negative_text is not None:
            conditions, semantic = replace(conditions, text=conditions.negative_text), True
        device = device_of(self._model)
        keep = Keep(
            semantic=torch.full((self._rows,), semantic, device=device),
            control=torch.full((self._rows,), control, device=device),
        )
        return replace(conditions, negative_text=None), keep

    def _predict(self, conditions: Conditions, keep: Keep) -> Predict:
        with self._autocast():
            prepared = self._model.prepare(conditions, keep)

        def predict(x_t: Tensor, t: Tensor) -> Prediction:
            with self._autocast():
                return self._model(x_t, t, prepared)

        return predict


def device_of(model: ConditionalModel) -> torch.device:
    """Device of the model; the CPU for one without parameters."""
    first = next(iter(model.parameters()), None)
    return torch.device("cpu") if first is None else first.device
