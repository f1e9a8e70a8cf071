# SPDX-License-Identifier: Apache-2.0
"""Control drift and effect of a run, beside real counterfactual pairs, with strips to look at."""

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pippin.config import ConfigError
from pippin.control import Control, Size
from pippin.data.views import counterfactual
from pippin.evaluation.control import control_measures, observe, subject_measures
from pippin.evaluation.efflite0 import EffLite0
from pippin.evaluation.lpips_distance import Lpips
from pippin.evaluation.matched import Point, matched_drift
from pippin.evaluation.measure import Measure
from pippin.evaluation.perceptual import PerceptualDistance
from pippin.evaluation.probes import (
    CropProbe,
    FlipProbe,
    GrainProbe,
    JitterProbe,
    JpegProbe,
    Probe,
    SizeProbe,
)
from pippin.rng import permutation
from pippin.run.evaluation_seeds import noise_seed, sample_seeds
from pippin.run.load import LoadedRun
from pippin.run.pictures import grid, save_png
from pippin.run.sample import draw
from pippin.sampling.config import ControlRequest
from pippin.system.files import remove_staged, write_json
from pippin.types import Images, Prompt

STRIP = 10
"""Pairs shown."""
ALONG: dict[str, Any] = {"reference": "null", "log_snr_interval": None}
"""Guidance along which drift is measured against effect, whatever the recipe's is: with another
reference, or outside an interval, the control would act at beta = 0 too."""


def probes(run: LoadedRun) -> dict[str, Probe]:
    """A probe of each control that the model reads; a small size is half the resolution.

    The large size is one that the source can show. Where that is no larger than the small one,
    there is no probe of the original size.
    """
    small, side = run.recipe.data.resolution // 2, run.parts.train_source.probe_side
    every: dict[str, Probe] = {
        "flip": FlipProbe(size=side),
        "crop_corner": CropProbe(size=side // 20 * 20 or side // 5 * 5),
        "jpeg_quality": JpegProbe(size=side),
        "colour_jitter": JitterProbe(size=side),
        "grain": GrainProbe(size=side),
    }
    if side > small:
        every = {"original_size": SizeProbe(small=small, large=side), **every}
    return {name: probe for name, probe in every.items() if name in run.read_names}


def curve(run: LoadedRun) -> list[Probe]:
    """Probes of further original sizes, ``evaluation.size_curve`` of the recipe.

    Raises:
        ConfigError: a size at which the images cannot show the difference.
    """
    asked, side = run.recipe.evaluation.size_curve, run.parts.train_source.probe_side
    if any(small >= side for small in asked):
        raise ConfigError(
            f"evaluation.size_curve must lie below {side}, the size that the others are held "
            f"against; got {asked}"
        )
    if "original_size" not in run.read_names:
        return []
    return [
        SizeProbe(small=small, large=side, name=f"original_size at {small}") for small in asked
    ]


def drift_measures(
    run: LoadedRun, folder: Path, network: EffLite0, lpips: Lpips | None = None
) -> list[Measure]:
    """Drift, effect and excess drift of every control that the model reads.

    Writes drift/CONTROL.png: the first pairs, one column each, both values below each other;
    and the same of real pictures under real/drift/.
    """
    chosen, pairs = probes(run), Pairs(run)
    measures = control_measures(
        [*chosen.values(), *curve(run)],
        pairs.generated,
        pairs.real,
        PerceptualDistance(network),
        seed=run.recipe.evaluation.seed,
    )
    if lpips is not None:
        measures += _in_lpips(pairs, list(chosen.values()), lpips)
    _write_strips(pairs, chosen, folder)
    if run.recipe.evaluation.control_scales:
        for name in run.recipe.evaluation.scaled_controls:
            if name in chosen:
                measures += _along_guidance(pairs, chosen[name], network)
    return measures


def _in_lpips(pairs: "Pairs", probes: list[Probe], distance: Lpips) -> list[Measure]:
    """Drift and excess drift once more, in LPIPS."""
    seed = pairs.run.recipe.evaluation.seed
    found = control_measures(probes, pairs.generated, pairs.real, distance, seed=seed)
    return [replace(one, name=f"LPIPS {one.name}") for one in found if one.unit == distance.name]


def _along_guidance(pairs: "Pairs", probe: Probe, network: EffLite0) -> list[Measure]:
    """Drift and effect of a control at each scale of its guidance, and the matched drift."""
    config, distance = pairs.run.recipe.evaluation, PerceptualDistance(network)
    points, found = [], []
    (real,) = observe(probe, pairs.real, distance).effects
    for scale in config.control_scales:
        seen = observe(probe, partial(pairs.generated, control_scale=scale), distance)
        (effect,) = seen.effects
        points.append(Point(scale=scale, drift=seen.drift, effect=effect.values))
        at = renamed(probe, f"{probe.name} at beta {scale:g}")
        found += [
            replace(one, protocol=one.protocol | ALONG | {"control_scale": scale})
            for one in subject_measures(at, seen, distance, config.seed, "arm")
        ]
    shared = found[0].protocol | {"control_scales": list(config.control_scales)}
    del shared["control_scale"]
    matched = matched_drift(
        probe.name,
        points,
        real.values,
        seed=config.seed,
        protocol=shared,
        share=config.matched_share,
    )
    return [*matched, *found]


def renamed(probe: Probe, name: str) -> Probe:
    """The same probe, whose measures end in another name."""
    assert is_dataclass(probe) and not isinstance(probe, type)
    return replace(probe, name=name)


class Pairs:
    """Renders the same seeds, or the same real pictures, under given control values.

    Only pictures that the source can show at every size of the probes are taken, so there may be
    fewer than ``drift_pairs``; each measure says how many.
    """

    def __init__(self, run: LoadedRun) -> None:
        self.run = run
        config, source = run.recipe.evaluation, run.parts.train_source
        order = permutation(len(source), "subset", noise_seed(run.recipe), "drift").tolist()
        largest = Size(source.probe_side, source.probe_side)
        known = [index for index in order if source.can_show(index, largest)]
        self.pictures = known[: config.drift_pairs]
        captions = run.parts.captions
        self.prompts: list[Prompt] = [
            captions.first[index] if captions is not None else source.label(index)
            for index in self.pictures
        ]
        self._made: dict[tuple[str, Control], Images] = {}

    def generated(
        self, values: Mapping[str, tuple[float, ...]], control_scale: float | None = None
    ) -> Images:
        """Seed k with the class or caption of real picture k; drawn once for each control.

        Args:
            values: of the control.
            control_scale: beta; None = the recipe's.
        """
        control = Control.from_values(values)
        guidance = self.run.recipe.sampling.guidance
        if control_scale is not None:  # beta = 0 must ignore the control altogether
            guidance = replace(guidance, control_scale=control_scale, **ALONG)
        key = (f"generated {guidance}", control)
        if key not in self._made:
            read = self.run.control_names  # a model without some field ignores it
            asked = {name: value for name, value in vars(control).items() if name in read}
            request = ControlRequest(**asked)
            config = replace(self.run.recipe.sampling, control=request, guidance=guidance)
            seeds = sample_seeds(self.run.recipe, len(self.prompts))
            self._made[key] = draw(self.run, self.prompts, seeds, config)
        return self._made[key]

    def real(self, values: Mapping[str, tuple[float, ...]]) -> Images:
        """The pictures as they would be if they had been prepared as the control says."""
        control = Control.from_values(values)
        key = ("real", control)
        if key not in self._made:
            source = self.run.parts.train_source
            images = [counterfactual(source, index, control) for index in self.pictures]
            self._made[key] = torch.stack(images)
        return self._made[key]


def _write_strips(pairs: Pairs, chosen: Mapping[str, Probe], folder: Path) -> None:
    kinds = ((pairs.generated, folder / "drift"), (pairs.real, folder / "real" / "drift"))
    for render, place in kinds:
        place.mkdir(parents=True, exist_ok=True)
        remove_staged(place)  # of an evaluation that was killed
        rows = {}
        for name, probe in chosen.items():
            first, second = probe.controls
            images = [render(control.values())[:STRIP] for control in (first, second)]
            columns = len(images[0])
            save_png(grid(torch.cat(images), columns=columns), place / f"{name}.png")
            values = [control.values()[name] for control in (first, second)]
            rows[name] = f"top row: {name} = {values[0]}; bottom row: {values[1]}"
        write_json(place / "manifest.json", rows)
