# SPDX-License-Identifier: Apache-2.0
"""The process that published weights were trained by: as the user states it, or as published.

Weights do not say their process. SiT (Ma et al. 2024, arXiv 2401.08740) and REPA (Yu et al. 2024,
arXiv 2410.06940) have the tensors of DiT by name and were trained by flow matching; their network
reads times from 0 to 1. Ours reads times from 0 to 1000, so no model here computes what theirs do.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pippin.diffusion.config import DiffusionConfig, LogitNormalTime, PredictionType, ScheduleName
from pippin.interop.weight_files import WeightFile

FLOW_NAME = re.compile(r"(?<![a-z])(sit|repa)(?![a-z])", re.IGNORECASE)
"""In the name of a file."""
PROJECTORS = re.compile(r"^projectors?\.")
"""Heads of REPA, which only its training reads."""
FLOW_SETTINGS = ("path_type", "proj_coeff", "enc_type", "train_eps", "sample_eps")
"""Settings that the training scripts of SiT and REPA have and those of DDPM models do not."""
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
"""How training scripts call what a network predicts, where it is not eps."""
PREDICTION_SETTINGS = ("prediction", "prediction_type", "parameterization", "objective")


def stated(
    published: DiffusionConfig,
    schedule: ScheduleName | None = None,
    prediction: PredictionType | None = None,
) -> DiffusionConfig:
    """The process that a user states; what is left out is as the class was published.

    Args:
        published: the process of the class.
        schedule, prediction: stated.

    Raises:
        ValueError: flow matching stated by half: its schedule and its prediction go together.
    """
    if schedule is None and prediction is None:
        return published
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
    path: Path, weights: WeightFile, published: DiffusionConfig, given: DiffusionConfig | None
) -> tuple[str, ...]:
    """What must be said of the process that weights are taken to have.

    Args:
        path: of the file.
        weights: that were read of it.
        published: the process of the class.
        given: the process that the user states; None = none.

    Raises:
        ValueError: signs of another process in the file, and none is stated, or one that the
            signs contradict.
    """
    taken = given or published
    if signs := "; ".join(_signs_of_flow(path, weights)):
        if given is None or given.schedule == "flow":
            ours = DDPM if published.schedule == "flow" else published
            raise ValueError(
                f"{path} looks like weights of SiT or REPA ({signs}). They have DiT's tensors by "
                "name and another process: flow matching with times from 0 to 1, which no model "
                f"of pippin computes. Where these were trained otherwise, state it: "
                f"{_options(ours)}"
            )
        return (f"{_words(taken)} is taken as stated; there are signs of another: {signs}",)
    hinted = _prediction(weights.settings)
    if hinted is not None and given is None and hinted != published.prediction != "flow":
        raise ValueError(
            f"the training script's settings in {path} have prediction {hinted}, and the class "
            f"was published with {_words(published)}; state the process: "
            f"{_options(replace(published, prediction=hinted))}, or {_options(published)}"
        )
    if given is not None:
        return ()
    note = (
        f"the file does not say its process: {_words(taken)} is taken, as the class was published"
    )
    if published == DDPM:
        note += (
            ". SiT and REPA have DiT's tensors by name and another process, flow matching with "
            "times from 0 to 1, which pippin does not have: of these the images would be wrong"
        )
    return (f"{note}. Another process is stated by --schedule and --prediction",)


DDPM = DiffusionConfig(schedule="ddpm")


def _signs_of_flow(path: Path, weights: WeightFile) -> Iterator[str]:
    """What shows that weights are SiT's or REPA's."""
    if found := FLOW_NAME.search(path.stem):
        yield f"the file's name has {found[0]}"
    if heads := sorted(filter(PROJECTORS.match, weights.tensors)):
        yield f"{len(heads)} tensors are REPA's heads, such as {heads[0]}"
    given = [name for name in FLOW_SETTINGS if name in weights.settings]
    if given:
        listed = ", ".join(f"{name} {weights.settings[name]}" for name in given)
        yield f"its training script's settings have {listed}"


def _prediction(settings: Mapping[str, Any]) -> PredictionType | None:
    """Where a training script's settings say it in words that are known."""
    if settings.get("predict_xstart") is True:
        return "x0"
    for name in PREDICTION_SETTINGS:
        match PREDICTIONS.get(str(settings.get(name)).lower()):
            case "v":
                return "v"
            case "x0":
                return "x0"
    return None


def _words(diffusion: DiffusionConfig) -> str:
    return f"schedule {diffusion.schedule}, prediction {diffusion.prediction}"


def _options(diffusion: DiffusionConfig) -> str:
    return f"--schedule {diffusion.schedule} --prediction {diffusion.prediction}"
