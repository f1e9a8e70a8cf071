# SPDX-License-Identifier: Apache-2.0
"""Control drift and effect of a run, beside real counterfactual pairs, with image strips."""

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pippin.config import ConfigError
from pippin.control import AUGMENTATION_FIELDS, PROBED_CONTROLS, Control, Size
from pippin.data.views.views import counterfactual
from pippin.evaluation.features.efflite0 import EffLite0, PerceptualDistance
from pippin.evaluation.features.lpips_distance import Lpips
from pippin.evaluation.measure import Measure
from pippin.evaluation.metric_parameters import CurvePosition
from pippin.evaluation.metrics.declared.drift import DRIFT, EXCESS_DRIFT, LPIPS
from pippin.evaluation.metrics.drift import (
    CurvePoint,
    control_measures,
    matched_drift,
    observe,
    subject_measures,
)
from pippin.evaluation.probes import (
    AugmentationProbe,
    CropProbe,
    FlipProbe,
    Probe,
    SizeProbe,
)
from pippin.evaluation.runs.protocol import noise_seed, sample_seeds
from pippin.images.files import image_grid, save_png
from pippin.rng import permutation
from pippin.sampling.config import ControlRequest
from pippin.sampling.load import LoadedRun
from pippin.sampling.sample import draw
from pippin.system.files import remove_temporary_files, write_json
from pippin.types import Images, Prompt

STRIP = 10
"""Number of pairs in a strip."""
ALONG: dict[str, Any] = {"reference": "null", "log_snr_interval": None}
"""Guidance settings for drift against effect, in place of the recipe's: with another reference,
or outside an interval, the control would act at beta = 0 too."""


def probes(run: LoadedRun) -> dict[str, Probe]:
    """One probe per control that the model reads; a small size is half the resolution.

    The large size is one that the source can show. There is no probe of the original size where
    the large size is not above the small one.
    """
    small, side = run.recipe.data.resolution // 2, run.components.train_source.probe_side
    available: dict[str, Probe] = {
        "flip": FlipProbe(size=side),
        "crop_corner": CropProbe(size=side // 20 * 20 or side // 5 * 5),
        **{
            name: AugmentationProbe(name=name, size=side)
            for name in PROBED_CONTROLS
            if name in AUGMENTATION_FIELDS
        },
    }
    if side > small:
        available = {"original_size": SizeProbe(small=small, large=side), **available}
    return {name: probe for name, probe in available.items() if name in run.read_names}


def size_curve_probes(run: LoadedRun) -> list[Probe]:
    """Probes of further original sizes: ``evaluation.size_curve`` of the recipe.

    Raises:
        ConfigError: a size at which the images cannot show the difference.
    """
    sizes, side = run.recipe.evaluation.size_curve, run.components.train_source.probe_side
    if any(small >= side for small in sizes):
        raise ConfigError(
            f"evaluation.size_curve must lie below {side}, the size that the others are compared "
            f"with; got {sizes}"
        )
    if "original_size" not in run.read_names:
        return []
    return [
        SizeProbe(small=small, large=side, position=CurvePosition("size", small))
        for small in sizes
    ]


def drift_measures(
    run: LoadedRun, folder: Path, network: EffLite0, lpips: Lpips | None = None
) -> list[Measure]:
    """Drift, effect and excess drift of every control that the model reads.

    Writes drift/CONTROL.png: the first pairs, one column each, one row per value; and the same of
    real images under real/drift/.
    """
    chosen, pairs = probes(run), Pairs(run)
    measures = control_measures(
        [*chosen.values(), *size_curve_probes(run)],
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
    """Drift and excess drift in LPIPS."""
    seed = pairs.run.recipe.evaluation.seed
    measures = control_measures(probes, pairs.generated, pairs.real, distance, seed=seed)
    drifts = [m for m in measures if m.metric.kind in (DRIFT, EXCESS_DRIFT)]
    return [replace(m, name=LPIPS(of=m.metric).name) for m in drifts]


def _along_guidance(pairs: "Pairs", probe: Probe, network: EffLite0) -> list[Measure]:
    """Drift and effect of a control at each scale of its guidance, and the matched drift."""
    config, distance = pairs.run.recipe.evaluation, PerceptualDistance(network)
    points, measures = [], []
    (real,) = observe(probe, pairs.real, distance).effects
    for scale in config.control_scales:
        observed = observe(probe, partial(pairs.generated, control_scale=scale), distance)
        (effect,) = observed.effects
        points.append(CurvePoint(scale=scale, drift=observed.drift, effect=effect.values))
        scaled_probe = place_probe(probe, CurvePosition("beta", scale))
        measures += [
            replace(measure, protocol=measure.protocol | ALONG | {"control_scale": scale})
            for measure in subject_measures(scaled_probe, observed, distance, config.seed, "arm")
        ]
    shared = measures[0].protocol | {"control_scales": list(config.control_scales)}
    del shared["control_scale"]
    matched = matched_drift(
        probe.name,
        points,
        real.values,
        seed=config.seed,
        protocol=shared,
        share=config.matched_share,
    )
    return [*matched, *measures]


def place_probe(probe: Probe, position: CurvePosition) -> Probe:
    """The same probe at a position of a curve, which the names of its measures end in."""
    assert is_dataclass(probe) and not isinstance(probe, type)
    return replace(probe, position=position)


class Pairs:
    """Renders the same seeds, or the same real images, under given control values.

    Only images that the source can show at every size of the probes are used, so there may be
    fewer than ``drift_pairs``; each measure records the count.
    """

    def __init__(self, run: LoadedRun) -> None:
        self.run = run
        config, source = run.recipe.evaluation, run.components.train_source
        order = permutation(len(source), "subset", noise_seed(run.recipe), "drift").tolist()
        largest = Size(source.probe_side, source.probe_side)
        usable = [index for index in order if source.can_show(index, largest)]
        self.indices = usable[: config.drift_pairs]
        captions = run.components.captions
        self.prompts: list[Prompt] = [
            captions.first[index] if captions is not None else source.label(index)
            for index in self.indices
        ]
        self._rendered: dict[tuple[str, Control], Images] = {}

    def generated(
        self, values: Mapping[str, tuple[float, ...]], control_scale: float | None = None
    ) -> Images:
        """Sample seed k with the class or caption of real image k; once for each control.

        Args:
            values: control values.
            control_scale: beta; None = the recipe's.
        """
        control = Control.from_values(values)
        guidance = self.run.recipe.sampling.guidance
        if control_scale is not None:  # beta = 0 must ignore the control altogether
            guidance = replace(guidance, control_scale=control_scale, **ALONG)
        key = (f"generated {guidance}", control)
        if key not in self._rendered:
            read = self.run.control_names  # a model without some field ignores it
            fields = {name: value for name, value in vars(control).items() if name in read}
            request = ControlRequest(**fields)
            config = replace(self.run.recipe.sampling, control=request, guidance=guidance)
            seeds = sample_seeds(self.run.recipe, len(self.prompts))
            self._rendered[key] = draw(self.run, self.prompts, seeds, config)
        return self._rendered[key]

    def real(self, values: Mapping[str, tuple[float, ...]]) -> Images:
        """The real images, prepared again with the given control."""
        control = Control.from_values(values)
        key = ("real", control)
        if key not in self._rendered:
            source = self.run.components.train_source
            images = [counterfactual(source, index, control) for index in self.indices]
            self._rendered[key] = torch.stack(images)
        return self._rendered[key]


def _write_strips(pairs: Pairs, chosen: Mapping[str, Probe], folder: Path) -> None:
    kinds = ((pairs.generated, folder / "drift"), (pairs.real, folder / "real" / "drift"))
    for render, subfolder in kinds:
        subfolder.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(subfolder)  # of an evaluation that was killed
        rows = {}
        for name, probe in chosen.items():
            first, second = probe.controls
            images = [render(control.values())[:STRIP] for control in (first, second)]
            columns = len(images[0])
            save_png(image_grid(torch.cat(images), columns=columns), subfolder / f"{name}.png")
            values = [control.values()[name] for control in (first, second)]
            rows[name] = f"top row: {name} = {values[0]}; bottom row: {values[1]}"
        write_json(subfolder / "manifest.json", rows)
