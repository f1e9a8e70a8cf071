# SPDX-License-Identifier: Apache-2.0
"""Whatever pippin measures is explained in the report."""

from dataclasses import replace

import pytest
import torch

from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.control_words import control_label
from pippin.evaluation.distances import compare
from pippin.evaluation.features.extraction import Features
from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.probes import CropProbe, FlipProbe, SizeProbe
from pippin.reports.headings import HEADINGS


def features(seed: int) -> Features:
    values = torch.randn(12, 4, generator=torch.Generator().manual_seed(seed))
    return Features(values=values, **FIELDS)


FIELDS = {
    "extractor": "efflite0",
    "fingerprint": "0",
    "input_size": 64,
    "image_hash": "0",
}


def test_every_distance_has_words():
    config = EvaluationConfig(kid_subsets=2, kid_subset_size=6, neighbours=2)
    names = [one.name for one in compare(features(0), features(1), config)]
    assert len(names) == 7
    for name in names:
        assert find_metric(name).description and find_metric(name).group == "samples", name
    leading = {name for name in names if find_metric(name).leads}
    assert leading == {"KID-efflite0", "coverage"}


def test_scores_of_captions_have_words():
    names = ("CLIP score", "CLIP score shuffled", "zero-shot CLIP score", "zero-shot KID-efflite0")
    assert all(
        find_metric(name).description and find_metric(name).group == "samples" for name in names
    )
    assert [name for name in names if find_metric(name).leads] == ["CLIP score"]


@pytest.mark.parametrize("probe", [SizeProbe(), FlipProbe(), CropProbe()], ids=lambda p: p.name)
def test_every_probe_has_words(probe):
    """The name as people say it, and no underscore of the code."""
    for kind in ("drift", "excess drift", "effect"):
        found = find_metric(f"{kind} {probe.name}")
        assert found.label == f"{kind} ({control_label(probe.name)})"
        assert found.group == "control" and "_" not in found.label + found.description
    assert (
        find_metric(f"effect {probe.name}").description != find_metric("effect other").description
    )


def test_losses_and_sizes_have_words():
    for name in ("held-out loss", "held-out x0 loss", "eps-error at log-SNR -6", "MACs"):
        assert find_metric(name).description
        assert find_metric(name).group in HEADINGS


def test_an_unknown_metric_keeps_its_name_and_leads():
    """Nothing is hidden because nobody thought of it."""
    found = find_metric("smell")
    assert (found.label, found.description, found.leads) == ("smell", "", True)


@pytest.mark.parametrize("extractor", ["inception", "inception-ab12cd34"])
def test_measures_of_inception_have_words(extractor):
    parts = {"spatial": torch.rand(12, 3), "logits": torch.rand(12, 3)}
    sides = [replace(features(seed), extractor=extractor, **parts) for seed in (0, 1)]
    config = EvaluationConfig(kid_subsets=2, kid_subset_size=6, neighbours=2)
    names = [one.name for one in compare(*sides, config)]
    assert len(names) == 9
    assert all(
        find_metric(name).description and find_metric(name).group == "samples" for name in names
    )
    assert ("Not comparable" in find_metric(f"KID-{extractor}").description) is False
    assert find_metric("FID").leads and find_metric("KID-inception").leads


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("accuracy all short", "accuracy al short"),
        ("accuracy shape", "accuracy shape shrot"),
        ("sharpness at best request", "sharpnes at best request"),
        ("control profile grain centre", "control profile grain middle"),
    ],
)
def test_a_misspelt_metric_has_no_words_and_so_is_refused_before_training(right, wrong):
    assert find_metric(right).description and not find_metric(wrong).description
