# SPDX-License-Identifier: Apache-2.0
"""One or two loaded runs, and the images that settings of the page ask of them."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from jaxtyping import UInt8
from torch import Tensor

from pippin.app.controls import PlayControl
from pippin.app.form import RESCALE_LABEL, SCALE_LABELS, PlaySettings, read_settings
from pippin.app.play_model import PlayModel
from pippin.app.sheet import Request, Sheet
from pippin.config import ConfigError
from pippin.data.config import OpenMojiConfig
from pippin.sampling.sample import draw
from pippin.settings.conversion import MAX_SETTING
from pippin.system.output import hidden_progress

DEFAULT_STEPS = 16
"""Largest default number of steps; more can be chosen."""
EMOJI_PROMPT = "smiling cat"
"""First prompt for a model of the embedded images, which do not have everything."""
EMOJI_HINT = "The model knows names of emoji, such as red apple or sleeping face."
SweepName = str
"""Name of a control, of a scale or ``rescale``, or ``steps``."""


@dataclass(frozen=True, kw_only=True)
class PlayImage:
    """One finished image of a sheet."""

    request: Request
    seed: int
    pixels: UInt8[Tensor, "3 height width"]


class PlaySession:
    """Models side by side, one drawing at a time.

    Args:
        models: one or two, all of text or all of classes.

    Raises:
        ConfigError: text and classes side by side, or no class in common.
    """

    def __init__(self, models: Sequence[PlayModel]) -> None:
        self.models = tuple(models)
        self._lock = threading.Lock()
        kinds = {model.kind for model in models}
        if len(kinds) > 1:
            described = "; ".join(f"{model.source} reads {model.kind}" for model in models)
            raise ConfigError(f"models side by side must read the same: {described}")
        (self.kind,) = kinds
        if self.kind == "classes" and not self.class_names:
            raise ConfigError("the two models have no class in common: open one at a time")

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that all models have."""
        first, *others = (model.run.class_names for model in self.models)
        return tuple(name for name in first if all(name in names for names in others))

    @cached_property
    def controls(self) -> tuple[PlayControl, ...]:
        """Controls that any model has; equal names have one range that covers both."""
        merged: dict[str, PlayControl] = {}
        for control in (control for model in self.models for control in model.controls):
            known = merged.get(control.name, control)
            merged[control.name] = replace(
                known,
                low=min(known.low, control.low),
                high=max(known.high, control.high),
                choices=tuple(dict.fromkeys((*known.choices, *control.choices))),
            )
        return tuple(merged.values())

    @cached_property
    def guided_by_semantics(self) -> bool:
        """Whether the page has lambda."""
        return any(model.guided_by_semantics for model in self.models)

    @cached_property
    def guided_by_control(self) -> bool:
        """Whether the page has beta."""
        return any(model.guided_by_control for model in self.models)

    @cached_property
    def guide_name(self) -> str:
        """The weaker model that guides, in words; empty where there is none."""
        return ", ".join(dict.fromkeys(one.guide_name for one in self.models if one.guide_name))

    @property
    def is_guided(self) -> bool:
        """Whether the page has any guidance."""
        return self.guided_by_semantics or self.guided_by_control or bool(self.guide_name)

    @cached_property
    def sweeps(self) -> dict[SweepName, PlayControl]:
        """Everything that a sweep can change: the controls, then guidance and steps."""
        first, steps = self.defaults, self.defaults.steps
        swept = {control.name: control for control in self.controls}
        scales = (
            (self.guided_by_semantics, "semantic_scale", "lambda", 1.0, 8.0),
            (self.guided_by_control, "control_scale", "beta", 0.0, 4.0),
            (bool(self.guide_name), "guide_scale", SCALE_LABELS["guide_scale"], 1.0, 4.0),
            (self.is_guided, "rescale", RESCALE_LABEL, 0.0, 1.0),
        )
        for has_scale, name, label, low, high in scales:
            if has_scale:
                value = getattr(first, name)
                swept[name] = PlayControl(
                    name=name, label=label, low=low, high=high, step=0.1, default=value
                )
        swept["steps"] = PlayControl(
            name="steps", label="steps", low=1, high=64, step=1, log=True, default=steps
        )
        return swept

    @cached_property
    def defaults(self) -> PlaySettings:
        """Settings of the page at its start: those of the first model, with a fast solver."""
        sampling = self.models[0].sampling
        fast = sampling.steps > DEFAULT_STEPS
        return PlaySettings(
            prompt=self._first_prompt(),
            negative_prompt=sampling.negative_prompt or "",
            solver="dpm++" if fast else sampling.solver,
            steps=DEFAULT_STEPS if fast else sampling.steps,
            semantic_scale=sampling.guidance.semantic_scale,
            control_scale=sampling.guidance.control_scale,
            guide_scale=sampling.guidance.guide_scale,
            rescale=sampling.guidance.rescale,
            log_snr_interval=sampling.guidance.log_snr_interval,
            controls={control.name: control.default for control in self.controls},
        )

    def _first_prompt(self) -> str:
        if self.kind == "classes":
            return self.class_names[0]
        return EMOJI_PROMPT if self.prompt_hint else ""

    @property
    def prompt_hint(self) -> str:
        """Prompts that the text model knows, in a sentence; empty where unknown."""
        is_emoji = isinstance(self.models[0].run.recipe.data, OpenMojiConfig)
        return EMOJI_HINT if self.kind == "text" and is_emoji else ""

    def read(self, form: Mapping[str, Any]) -> PlaySettings:
        """Check the values of the page; see :func:`read_settings`."""
        return read_settings(form, self.controls)

    def images(self, settings: PlaySettings) -> Sheet:
        """One image of every seed, by every model.

        Raises:
            ConfigError: impossible settings, or a class that a model lacks.
        """
        requests = [self._request(i, settings, settings.seeds) for i in range(len(self.models))]
        return Sheet(kind="images", prompt=settings.prompt, requests=tuple(requests))

    def sweep(self, settings: PlaySettings, name: SweepName, count: int) -> Sheet:
        """The first seed at values over the whole range of a control.

        Args:
            settings: everything else.
            name: one of :attr:`sweeps`.
            count: largest number of values.

        Raises:
            ConfigError: as :meth:`images`, or there is no such control.
        """
        if name not in self.sweeps:
            raise ConfigError(
                f"no control {name!r:.40} to sweep; there are: {', '.join(self.sweeps)}"
            )
        control = self.sweeps[name]
        values = control.values(count)
        return self._sheet(
            "sweep",
            [[_with_value(settings, name, value) for value in values]],
            title=control.label,
            rows=("",),
            columns=tuple(map(control.caption, values)),
        )

    def grid(
        self,
        settings: PlaySettings,
        semantic_scales: Sequence[float],
        control_scales: Sequence[float],
    ) -> Sheet:
        """The first seed at all pairs of guidance scales.

        Args:
            settings: everything else.
            semantic_scales: values of lambda, the columns.
            control_scales: values of beta, the rows.

        Raises:
            ConfigError: as :meth:`images`.
        """
        table = [
            [
                replace(_with_lambda(settings, scale), control_scale=beta)
                for scale in semantic_scales
            ]
            for beta in control_scales
        ]
        return self._sheet(
            "grid",
            table,
            rows=tuple(f"beta {beta:g}" for beta in control_scales),
            columns=tuple(f"lambda {scale:g}" for scale in semantic_scales),
        )

    def _sheet(
        self,
        kind: Literal["sweep", "grid"],
        table: Sequence[Sequence[PlaySettings]],
        *,
        title: str = "",
        rows: tuple[str, ...],
        columns: tuple[str, ...],
    ) -> Sheet:
        """One image, of the first seed, for each cell of a table and each model."""
        requests = [
            self._request(index, cell, cell.seeds[:1], f"{title}{row} {column}")
            for index in range(len(self.models))
            for row, cells in zip(rows, table, strict=True)
            for column, cell in zip(columns, cells, strict=True)
        ]
        return Sheet(
            kind=kind,
            prompt=table[0][0].prompt,
            requests=tuple(requests),
            title=title,
            rows=rows,
            columns=columns,
        )

    def _request(
        self, index: int, settings: PlaySettings, seeds: tuple[int, ...], label: str = ""
    ) -> Request:
        model = self.models[index]
        if seeds[-1] > MAX_SETTING:
            raise ConfigError(f"seeds end at {MAX_SETTING}; got {seeds[-1]}")
        config = model.config(settings)
        model.run.sampler(config)  # refuses impossible settings before anything is drawn
        prompt = model.prompt(settings.prompt)
        return Request(model=index, prompt=prompt, seeds=seeds, config=config, label=label)

    def stream(self, sheet: Sheet) -> Iterator[tuple[PlayImage, ...]]:
        """Sample the images of a sheet, batch by batch.

        Raises:
            ValueError: settings that a model does not have.
            FloatingPointError: the model gave numbers that are not finite.
        """
        for request, seeds in sheet.batches():
            prompts = [request.prompt] * len(seeds)
            with self._lock, hidden_progress():
                images = draw(self.models[request.model].run, prompts, seeds, request.config)
            yield tuple(
                PlayImage(request=request, seed=seed, pixels=pixels)
                for seed, pixels in zip(seeds, images, strict=True)
            )

    def notes(self, settings: PlaySettings) -> tuple[str, ...]:
        """Words of both prompts that a model does not read."""
        texts = [settings.prompt, *filter(None, [settings.negative_prompt])]
        notes = (note for model in self.models for note in model.unread_words(texts))
        return tuple(dict.fromkeys(notes))

    def remarks(self) -> tuple[str, ...]:
        """Controls that the page lacks, or that only one of two models has."""
        remarks = []
        for model in self.models:
            if constant := model.constant_controls():
                remarks.append(
                    f"{model.source} also reads {', '.join(constant)}. All its training images "
                    "had the same, so there is no control for that"
                )
            own = {control.name for control in model.controls}
            if missing := [one.label for one in self.controls if one.name not in own]:
                remarks.append(f"{model.source} does not read {', '.join(missing)}")
        return tuple(remarks)


def _with_value(settings: PlaySettings, name: SweepName, value: Any) -> PlaySettings:
    """Settings with another value of a sweep's control, possible at each of them."""
    if name in settings.controls:
        chosen = {**settings.controls, name: value}
        if name == "crop_size" and value == 1:  # the whole image has no other position
            chosen |= {side: 0.0 for side in ("crop_top", "crop_left") if side in chosen}
        return replace(settings, controls=chosen)
    if name == "semantic_scale":
        return _with_lambda(settings, value)
    return replace(settings, **{name: value})


def _with_lambda(settings: PlaySettings, scale: float) -> PlaySettings:
    """Settings with another lambda; without the negative prompt at 1, where it has no effect."""
    negative_prompt = "" if scale == 1 else settings.negative_prompt
    return replace(settings, semantic_scale=scale, negative_prompt=negative_prompt)
