# SPDX-License-Identifier: Apache-2.0
"""The sampler: from seeds and conditions to latents and images.

An image depends on its seed, its conditions and the sampling configuration. Batch size and the
other images of a batch change it by rounding only.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from pippin import rng
from pippin.diffusion.config import PredictionType
from pippin.diffusion.prediction import to_x0_and_eps
from pippin.diffusion.schedules import NoiseSchedule
from pippin.diffusion.times import Point, build_grid
from pippin.nn.attention import cached_keys_values
from pippin.sampling.config import SamplingConfig
from pippin.sampling.guidance import (
    CONDITIONAL,
    ConditionalModel,
    GuidanceTerms,
    GuidedPredict,
    Predictions,
    Term,
    acts_at,
    device_of,
    guided,
    separate_terms,
)
from pippin.sampling.solvers import SOLVERS, Denoise, Estimate
from pippin.system.device import to_device
from pippin.system.progress import ProgressCallback
from pippin.types import Conditions, Images, Latents, Prediction


@runtime_checkable
class Decoder(Protocol):
    """Interface of an autoencoder for the sampler."""

    def latent_shape(self, height: int, width: int | None = None) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of an image; square where width is None."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents to uint8 images (batch, 3, height, width)."""


@dataclass(frozen=True, kw_only=True)
class SampleBatch:
    """A batch of images, in the order of the request."""

    seeds: tuple[int, ...]
    images: Images
    """On the CPU."""
    labels: Int[Tensor, " batch"] | None


class Evaluations(NamedTuple):
    """Network evaluations of one image."""

    model: int
    guide: int
    """Those of the weaker model of autoguidance."""


class Sampler:
    """Draws samples from a model.

    Args:
        model: in evaluation mode while it samples, and back afterwards.
        schedule: noise schedule of the training.
        prediction_type: prediction type of the model.
        config: solver, steps, guidance, precision, batch size.
        guide: the weaker model of autoguidance, on the same device; needed where the
            configuration has a ``guide_scale``.

    Raises:
        ValueError: as :func:`build_grid`, or no guide.
    """

    def __init__(
        self,
        model: ConditionalModel,
        schedule: NoiseSchedule,
        prediction_type: PredictionType,
        config: SamplingConfig,
        guide: ConditionalModel | None = None,
    ) -> None:
        if config.autoguided and guide is None:
            raise ValueError(
                f"guidance.guide_scale {config.guidance.guide_scale} guides by a weaker model: "
                "give it as guide, or leave the scale at 1"
            )
        self.model = model
        self.guide = guide if config.autoguided else None
        self.schedule = schedule
        self.prediction_type: PredictionType = prediction_type
        self.config = config
        self._grid = build_grid(config, schedule)

    @property
    def evaluations_per_image(self) -> int:
        """Number of network evaluations per image; each term of guidance counts, and those of
        the weaker model of autoguidance."""
        return sum(self.evaluations)

    @property
    def evaluations(self) -> "Evaluations":
        """Number of evaluations per image of the model and of its guide.

        It is found by running the solver with a prediction that costs nothing.
        """
        evaluated: list[Term] = []
        guided_at: list[Tensor] = []

        def terms(keys: tuple[Term, ...]) -> Predictions:
            def predict(
                x_t: Tensor, t: Tensor, interval: Tensor | None = None
            ) -> dict[Term, Prediction]:
                evaluated.extend(keys)
                return dict.fromkeys(keys, Prediction(mean=torch.zeros_like(x_t)))

            return predict

        def guide(x_t: Tensor, t: Tensor, interval: Tensor | None = None) -> Prediction:
            guided_at.append(t)
            return Prediction(mean=torch.zeros_like(x_t))

        predict = guided(terms, self.config.guidance, self.schedule, guide)
        state = torch.zeros(1, self.config.guidance.cfg_channels or 1, 1, 1)
        solver = SOLVERS[self.config.solver]
        solver(self._denoise(predict), state, self._grid, lambda _: state)
        return Evaluations(len(evaluated), len(guided_at))

    @property
    def unguided_reason(self) -> str | None:
        """Reason why a scale other than 1 guides no step; None if one does, or if all are 1."""
        guidance, times = self.config.guidance, [point.t for point in self._grid[:-1]]
        scales = (guidance.semantic_scale, guidance.control_scale, guidance.guide_scale)
        if set(scales) == {1} or any(acts_at(guidance, self.schedule, t) for t in times):
            return None
        count = f"{len(times)} step" + "s" * (len(times) > 1)
        in_interval = replace(guidance, semantic_power=None)
        if not any(acts_at(in_interval, self.schedule, t) for t in times):
            log_snrs = self.schedule.log_snr(torch.tensor(times, dtype=torch.float64))
            low, high = float(log_snrs.min()), float(log_snrs.max())
            return (
                f"sampling.guidance.log_snr_interval {guidance.log_snr_interval} holds no step: "
                f"the {count} lie at log-SNR {low:.2f} to {high:.2f}. The samples are not guided: "
                "give an interval with some of them, or leave all scales at 1"
            )
        return (
            f"sampling.guidance.semantic_power {guidance.semantic_power:g} turns guidance off in "
            f"the {count} of sampling.solver {self.config.solver}. The samples are not guided: "
            "give more --sampling.steps, leave the power out, or leave all scales at 1"
        )

    def latents(
        self, conditions: Conditions, seeds: Sequence[int], shape: tuple[int, int, int]
    ) -> Latents:
        """Sample normalised latents (fp32, on the model's device), one per seed.

        Args:
            conditions: one row per seed.
            seeds: seeds of the samples' noise.
            shape: (channels, height, width).

        Raises:
            ValueError: no seeds, or not as many conditions as seeds.
            FloatingPointError: the latents are not finite; the message names the seeds.
        """
        _check_rows(conditions, seeds)
        parts = []
        for rows in self._slices(len(seeds)):
            latents = self._draw(conditions.rows(rows), seeds[rows], shape)
            _check_finite(latents, seeds[rows])
            parts.append(latents)
        return torch.cat(parts)

    def batches(
        self,
        conditions: Conditions,
        seeds: Sequence[int],
        autoencoder: Decoder,
        resolution: int,
        progress: ProgressCallback | None = None,
    ) -> Iterator[SampleBatch]:
        """Sample images in batches of at most ``config.batch_size``, exactly one per seed.

        The call checks its arguments; the iterator samples. An interrupt loses the current batch
        only: a batch that was yielded is complete.

        Args:
            conditions: one row per seed.
            seeds: seeds of the samples' noise.
            autoencoder: the decoder, on the model's device.
            resolution: side of the square images in pixels, unless the configuration has a size.
            progress: called after each batch with the images done and the images in all.

        Raises:
            ValueError, FloatingPointError: as :meth:`latents`.
        """
        _check_rows(conditions, seeds)
        shape = autoencoder.latent_shape(*self.config.pixels(resolution))
        return self._images(conditions, seeds, autoencoder, shape, progress)

    def _images(
        self,
        conditions: Conditions,
        seeds: Sequence[int],
        autoencoder: Decoder,
        shape: tuple[int, int, int],
        progress: ProgressCallback | None,
    ) -> Iterator[SampleBatch]:
        for rows in self._slices(len(seeds)):
            part = conditions.rows(rows)
            latents = self._draw(part, seeds[rows], shape)
            with torch.inference_mode():
                images = autoencoder.decode(latents).cpu()
            _check_finite(latents, seeds[rows])  # a GPU has already been waited for
            if progress is not None:
                progress(min(rows.stop, len(seeds)), len(seeds))
            # A copy made outside of inference mode can be used like any other tensor.
            yield SampleBatch(seeds=tuple(seeds[rows]), images=images.clone(), labels=part.label)

    def _slices(self, count: int) -> list[slice]:
        size = self.config.batch_size
        return [slice(start, start + size) for start in range(0, count, size)]

    def _draw(
        self, conditions: Conditions, seeds: Sequence[int], shape: tuple[int, int, int]
    ) -> Latents:
        """The latents of one batch."""
        device = device_of(self.model)
        models = (self.model,) if self.guide is None else (self.model, self.guide)
        with torch.inference_mode(), ExitStack() as stack:
            for model in models:
                stack.enter_context(_evaluating(model))
                stack.enter_context(cached_keys_values(model))
            fast = device.type != "cpu" or self.config.precision == "bf16"
            together = self.config.terms == "together" or (self.config.terms == "auto" and fast)
            terms, *weak = (
                GuidanceTerms(model, conditions, len(seeds), self._autocast(device))
                for model in models
            )
            predict = guided(
                terms.batched if together else separate_terms(terms),
                self.config.guidance,
                self.schedule,
                weak[0](*CONDITIONAL) if weak else None,
            )
            latents = SOLVERS[self.config.solver](
                self._denoise(predict),
                _noise(shape, seeds, device),
                self._grid,
                lambda step: _noise(shape, seeds, device, step),
            )
        return latents.clone()

    def _denoise(self, predict: GuidedPredict) -> Denoise:
        def denoise(x_t: Tensor, here: Point, end: Point | None = None) -> Estimate:
            alpha, sigma = (x_t.new_full((len(x_t),), value) for value in here[1:3])
            interval = None if end is None else here.t - end.t
            prediction = predict(x_t, here.t, interval)
            mean = prediction.mean.float()
            pair = to_x0_and_eps(self.prediction_type, x_t, mean, alpha, sigma)
            return Estimate(*pair, variance=prediction.variance)

        return denoise

    def _autocast(self, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
        enabled = self.config.precision == "bf16"
        return lambda: torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _noise(
    shape: tuple[int, int, int], seeds: Sequence[int], device: torch.device, *step: int
) -> Latents:
    """Each sample's noise: the initial noise, or that of a step of ancestral sampling."""
    noise = torch.stack([rng.normal(shape, "sample", seed, *step) for seed in seeds])
    return to_device(noise, device)


@contextmanager
def _evaluating(model: ConditionalModel) -> Iterator[None]:
    """Evaluation mode inside; restores each module's mode afterwards, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _check_finite(latents: Latents, seeds: Sequence[int]) -> None:
    """Refuse latents that are not finite; one copy from the device tells."""
    finite = latents.flatten(1).isfinite().all(1).tolist()
    if all(finite):
        return
    failed = [seed for seed, is_finite in zip(seeds, finite, strict=True) if not is_finite]
    raise FloatingPointError(
        f"the model gave non-finite latents for seeds {failed}: train it longer or from "
        "an earlier checkpoint, or sample with a lower sampling.guidance.semantic_scale, "
        "another sampling.solver or sampling.precision fp32"
    )


def _check_rows(conditions: Conditions, seeds: Sequence[int]) -> None:
    if len(seeds) == 0:
        raise ValueError("no seeds: there is nothing to sample")
    counts = {name: len(values) for name, values in conditions.columns().items()}
    wrong = {name: rows for name, rows in counts.items() if rows != len(seeds)}
    if wrong:
        raise ValueError(f"{len(seeds)} seeds, but conditions with other numbers of rows: {wrong}")
