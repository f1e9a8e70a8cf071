# SPDX-License-Identifier: Apache-2.0
"""Diffusion process of published weights: as given by the user, or as published.

Weights do not contain their diffusion process. SiT (Ma et al. 2024, arXiv 2401.08740) and REPA (Yu
et al. 2024, arXiv 2410.06940) have DiT's tensor names and were trained by flow matching; their
networks read times from 0 to 1. SiT's run from noise to data; it is a source of its own. REPA's
run from data to noise, which no model of pippin computes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pippin.diffusion.config import DiffusionConfig, LogitNormalTime, PredictionType, ScheduleName
from pippin.interop.weight_files import WeightFile

FLOW_NAME = re.compile(r"(?<![a-z])(sit|repa)(?![a-z])", re.IGNORECASE)
"""Pattern of file names of SiT and REPA."""
PROJECTORS = re.compile(r"^projectors?\.")
"""Pattern of the projection heads of REPA, which only its training uses."""
FLOW_SETTINGS = ("path_type", "proj_coeff", "enc_type", "train_eps", "sample_eps")
"""Settings of the training scripts of SiT and REPA that those of DDPM models lack."""
REPA_NAME = re.compile(r"(?<![a-z])repa(?![a-z])", re.IGNORECASE)
REPA_SETTINGS = ("proj_coeff", "enc_type")
FLOW_AS_PUBLISHED = {"path_type": "linear", "prediction": "velocity"}
"""Settings of the training scripts of SiT and LightningDiT, with the supported values."""
PREDICTIONS = {
    "v": "v",
    "velocity": "v",
    "v_prediction": "v",
    "x0": "x0",
    "x_start": "x0",
    "sample": "x0",
    "pred_v": "v",
    "pred_x0": "x0",
}
"""Names in training scripts of predictions other than eps."""
PREDICTION_SETTINGS = ("prediction", "prediction_type", "parameterization", "objective")


def resolve_process(
    published: DiffusionConfig,
    schedule: ScheduleName | None = None,
    prediction: PredictionType | None = None,
) -> DiffusionConfig:
    """Diffusion process given by the user, with defaults as the class was published.

    Args:
        published: process of the published class.
        schedule, prediction: given by the user; None = not given.

    Raises:
        ValueError: only one of schedule and prediction is flow; they go together.
    """
    if schedule is None and prediction is None:
        return published
    if published.schedule == "flow" and (prediction or published.prediction) == "x0":
        schedule, prediction = schedule or "flow", prediction or "x0"
        if (schedule, prediction) == ("flow", published.prediction):
            return replace(published)  # as given, not assumed
    if "flow" in (schedule, prediction):
        schedule, prediction = schedule or "flow", prediction or "flow"
    schedule = schedule or published.schedule
    prediction = prediction or published.prediction
    if (schedule == "flow") != (prediction == "flow"):
        raise ValueError(
            f"--schedule {schedule} and --prediction {prediction} do not go together: flow "
            "matching is --schedule flow --prediction flow, the other schedules have the "
            "predictions eps, v and x0; give both"
        )
    if schedule == "flow":
        return DiffusionConfig(
            schedule=schedule, prediction=prediction, time_density=LogitNormalTime()
        )
    return DiffusionConfig(schedule=schedule, prediction=prediction)


def check_process(
    path: Path, weights: WeightFile, published: DiffusionConfig, requested: DiffusionConfig | None
) -> tuple[str, ...]:
    """Notes about the assumed diffusion process of weights.

    Args:
        path: the file.
        weights: weights that were read from it.
        published: process of the published class.
        requested: process given by the user; None = not given.

    Raises:
        ValueError: signs of another process in the file, and none is given, or one that the
            signs contradict.
    """
    process = requested or published
    if signs := "; ".join(_flow_signs(path, weights)):
        if requested is None or requested.schedule == "flow":
            alternative = DDPM if published.schedule == "flow" else published
            raise ValueError(
                f"{path} looks like weights of SiT or REPA ({signs}). They have DiT's tensor "
                "names and another process: flow matching with times from 0 to 1. Convert SiT by "
                "--from sit; REPA's times run from data to noise, which no model of pippin "
                "computes. If these were trained otherwise, give their process: "
                f"{_options(alternative)}"
            )
        return (f"{_describe(process)} is used as given; there are signs of another: {signs}",)
    setting = _prediction_setting(weights.settings)
    if setting is not None and requested is None and setting != published.prediction != "flow":
        raise ValueError(
            f"the training script's settings in {path} have prediction {setting}, and the class "
            f"was published with {_describe(published)}; give the process: "
            f"{_options(replace(published, prediction=setting))}, or {_options(published)}"
        )
    if requested is not None:
        return ()
    note = (
        f"the file does not say its process: assuming {_describe(process)}, as the class was "
        "published"
    )
    if published == DDPM:
        note += (
            ". SiT and REPA have DiT's tensor names and another process, flow matching with times "
            "from 0 to 1: their images would be wrong. SiT is --from sit; REPA is not supported"
        )
    return (f"{note}. Give another process with --schedule and --prediction",)


DDPM = DiffusionConfig(schedule="ddpm")


def check_data_time(
    source: str,
    path: Path,
    weights: WeightFile,
    requested: DiffusionConfig | None,
    prediction: PredictionType,
) -> tuple[str, ...]:
    """Notes about the assumed process of a class whose times run from 0 = noise to 1 = data.

    Args:
        source: name of the published class.
        path, weights, requested: as of :func:`check_process`.
        prediction: prediction of the published class, flow or x0.

    Raises:
        ValueError: another process is given, or the file shows signs of one: REPA, or another
            path or prediction than the straight path and the velocity.
    """
    if requested is not None and requested.schedule != "flow":
        raise ValueError(
            f"{source} is flow matching: leave --schedule and --prediction out; got "
            f"{_options(requested)}. Weights of DiT are --from dit"
        )
    settings = {name: value for name, value in weights.settings.items() if value is not None}
    signs = [f"the file name contains {match[0]}" for match in REPA_NAME.finditer(path.stem)]
    signs += sorted(filter(PROJECTORS.match, weights.tensors))[:1]
    signs += [f"{name} {settings[name]}" for name in REPA_SETTINGS if name in settings]
    if signs:
        raise ValueError(
            f"{path} looks like weights of REPA ({'; '.join(signs)}): its times run from 0 = data "
            f"to 1 = noise, which no model of pippin computes; {source} reads weights of its own "
            "training script only"
        )
    stated = {name: settings[name] for name in FLOW_AS_PUBLISHED if name in settings}
    for name, value in stated.items():
        if str(value).lower() != FLOW_AS_PUBLISHED[name]:
            raise ValueError(
                f"the training script's settings in {path} have {name} {value}; only "
                f"{name} {FLOW_AS_PUBLISHED[name]} is supported"
            )
    if len(stated) == len(FLOW_AS_PUBLISHED):
        return ()
    predicted = "velocity" if prediction == "flow" else "clean image"
    return (
        "the file does not say its path and prediction: assuming the straight path and the "
        f"{predicted}, as the class was published",
    )


def _flow_signs(path: Path, weights: WeightFile) -> Iterator[str]:
    """Signs that weights are of SiT or REPA."""
    if match := FLOW_NAME.search(path.stem):
        yield f"the file name contains {match[0]}"
    if heads := sorted(filter(PROJECTORS.match, weights.tensors)):
        yield f"{len(heads)} tensors are REPA's heads, such as {heads[0]}"
    names = [name for name in FLOW_SETTINGS if name in weights.settings]
    if names:
        values = ", ".join(f"{name} {weights.settings[name]}" for name in names)
        yield f"its training script's settings have {values}"


def _prediction_setting(settings: Mapping[str, Any]) -> PredictionType | None:
    """Prediction type in a training script's settings; None if unknown."""
    if settings.get("predict_xstart") is True:
        return "x0"
    for name in PREDICTION_SETTINGS:
        match PREDICTIONS.get(str(settings.get(name)).lower()):
            case "v":
                return "v"
            case "x0":
                return "x0"
    return None


def _describe(diffusion: DiffusionConfig) -> str:
    return f"schedule {diffusion.schedule}, prediction {diffusion.prediction}"


def _options(diffusion: DiffusionConfig) -> str:
    return f"--schedule {diffusion.schedule} --prediction {diffusion.prediction}"
