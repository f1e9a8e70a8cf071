# SPDX-License-Identifier: Apache-2.0
"""Losses are named by what they are: of which target, at which times, with which weight."""

import pytest

from pippin.reports.figures.curves import learning_curves
from pippin.reports.figures.loss_words import (
    NOT_COMPARABLE,
    held_out_loss_words,
    training_loss_words,
)
from pippin.reports.report import render_report
from pippin.reports.report_data import open_source

UNIFORM = {"diffusion.time_density.kind": "uniform", "diffusion.loss_weight.kind": "uniform"}
LOGIT_NORMAL = {
    "diffusion.time_density.kind": "logit-normal",
    "diffusion.time_density.mean": 0.0,
    "diffusion.time_density.std": 1.0,
}


@pytest.mark.parametrize(
    ("prediction", "name", "target"),
    [
        ("eps", "noise error", "predicted noise (eps)"),
        ("v", "v error", "predicted v (alpha eps - sigma x0)"),
        ("x0", "x0 error", "predicted clean latent (x0)"),
        ("flow", "velocity error", "predicted velocity (eps - x0)"),
    ],
)
def test_the_training_loss_is_that_of_the_predicted_quantity(prediction, name, target):
    words = training_loss_words({"run": UNIFORM | {"diffusion.prediction": prediction}})
    assert words.name == name and target in words.explanation
    assert "at uniformly random times, on training images" in words.explanation


def test_time_density_weight_and_further_terms_are_stated():
    flow = training_loss_words({"run": LOGIT_NORMAL | {"diffusion.prediction": "flow"}})
    assert "times of a logit-normal density (mean 0, deviation 1)" in flow.explanation
    extra = {
        "diffusion.loss_weight.kind": "min-snr",
        "diffusion.loss_weight.gamma": 5.0,
        "denoiser.learn_variance": True,
        "denoiser.mask_ratio": 0.3,
    }
    words = training_loss_words({"run": UNIFORM | {"diffusion.prediction": "eps"} | extra})
    assert "weighted by min-SNR (gamma 5)" in words.explanation
    assert "plus the variational bound and the same of the masked pass" in words.explanation
    velocity = {"diffusion.loss_weight.kind": "velocity", "diffusion.loss_weight.floor": 0.05}
    words = training_loss_words({"run": UNIFORM | {"diffusion.prediction": "x0"} | velocity})
    assert "weighted by that of the velocity (sigma at least 0.05)" in words.explanation
    masked = {"train.masking.ratio": 0.75, "diffusion.direction_weight": 1.0}
    words = training_loss_words({"run": UNIFORM | {"diffusion.prediction": "flow"} | masked})
    assert "of the kept patches where tokens are hidden" in words.explanation
    assert "plus the error of its direction" in words.explanation
    assert "None" not in training_loss_words({"run": {}}).explanation


def test_a_loss_with_repa_is_another_quantity_than_one_without():
    flow = LOGIT_NORMAL | {"diffusion.prediction": "flow"}
    none = flow | {"train.repa.encoder": "none", "train.repa.weight": 0.5}
    repa = flow | {"train.repa.encoder": "efflite0", "train.repa.weight": 0.5}
    assert "REPA" not in training_loss_words({"none": none}).explanation
    words = training_loss_words({"none": none, "repa": repa}).explanation
    assert "different quantities" in words
    assert "plus 0.5 times the negative cosine similarity with frozen features" in words


def test_arms_of_different_targets_are_said_to_be_not_comparable():
    arms = {name: UNIFORM | {"diffusion.prediction": name} for name in ("eps", "flow")}
    words = training_loss_words(arms)
    assert words.name == "errors of different targets"
    assert "not comparable with each other: eps: mean" in words.explanation
    assert "flow: mean squared error of the predicted velocity" in words.explanation


def test_arms_of_equal_losses_share_their_words():
    flow, eps = (UNIFORM | {"diffusion.prediction": kind} for kind in ("flow", "eps"))
    masked = flow | {"denoiser.mask_ratio": 0.3}
    few = training_loss_words({"a": flow, "b": eps, "c": flow}).explanation
    assert few.startswith("different quantities, not comparable with each other: a, c: mean")
    assert few.count("velocity") == 1 and "; b: mean squared error of the predicted noise" in few
    many = {f"flow-{index}": flow for index in range(10)}
    words = training_loss_words({"mdtv2-class": masked, **many, "mdtv2-text": masked})
    assert words.name == "velocity error"
    assert "each other: mdtv2-class, mdtv2-text: mean" in words.explanation
    assert "plus the same of the masked pass; the other 10 arms: mean" in words.explanation
    assert "flow-" not in words.explanation


def test_the_held_out_loss_is_the_noise_error_whatever_is_predicted():
    grid = {"evaluation.loss_log_snrs": [-6.0, 0.0, 6.0]}
    eps, flow = (
        held_out_loss_words([grid | {"diffusion.prediction": kind}]) for kind in ("eps", "flow")
    )
    assert eps.name == flow.name == "noise error"
    assert "computed from the prediction" in flow.explanation
    assert "computed" not in eps.explanation
    for words in (eps, flow):
        assert "fixed grid of log-SNR from -6 to 6" in words.explanation
        assert "held-out images" in words.explanation


def test_a_page_with_both_losses_has_two_drawings_and_says_why(finished):
    run = finished / "runs/entangled-seed0"
    lines = "".join(
        f'{{"images": {images}, "held_out_loss": {0.3 - images / 1e5}}}\n'
        for images in (2000, 4000)
    )
    (run / "log.jsonl").write_text((run / "log.jsonl").read_text() + "\n" + lines)
    training, held_out = learning_curves(open_source(run))
    assert training.title == "Training loss (noise error)"
    assert held_out.title == "Held-out loss (noise error)"
    assert training.caption != held_out.caption and held_out.svg.startswith("<svg")
    page = render_report(run).read_text(encoding="utf-8")
    assert NOT_COMPARABLE in page


def test_a_mean_velocity_and_its_adaptive_weight_are_stated():
    mean = {"diffusion.prediction": "flow", "diffusion.meanflow.share": 0.25}
    weight = {"diffusion.loss_weight.kind": "adaptive", "diffusion.loss_weight.power": 1.0}
    words = training_loss_words({"run": LOGIT_NORMAL | mean | weight})
    assert words.name == "mean velocity error"
    assert "predicted mean velocity u(r, t) (MeanFlow, r < t for a share" in words.explanation
    assert "a share of 0.25), weighted by its own inverse to the power 1" in words.explanation
    guided = training_loss_words({"run": LOGIT_NORMAL | mean | {"diffusion.meanflow.kappa": 0.5}})
    assert "predicted guided mean velocity" in guided.explanation
