# SPDX-License-Identifier: Apache-2.0
"""The control profile: wrong values change one field alone, and the centre is a weighted mean."""

import math

import pytest
import torch

from pippin.conditioning.control_embedding import unit_values
from pippin.control import CONTROL_FIELDS
from pippin.data.config import AugmentationConfig, OpenMojiConfig
from pippin.data.sources.openmoji import OpenMojiSource
from pippin.data.views.views import make_views
from pippin.diffusion.config import DiffusionConfig
from pippin.diffusion.rescale import build_schedule
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.metrics.control_profile import (
    FieldErrors,
    changed_rows,
    profile_measures,
    wrong_values,
)
from pippin.evaluation.metrics.denoising import noise_levels

LOOK = AugmentationConfig(colour_jitter=0.5, jpeg_share=0.5, grain_share=0.5)
LOG_SNRS = (-2.0, 0.0, 3.0)


@pytest.fixture(scope="module")
def control():
    source = OpenMojiSource(OpenMojiConfig(resolution=32, look=LOOK), "held-out")
    return make_views(source, range(24), [0] * 24).control


@pytest.mark.parametrize("field", CONTROL_FIELDS)
def test_one_field_alone_is_wrong(control, field):
    wrong = wrong_values(control, field)
    # one is computed from the other
    follow = {"original_size": "aspect_ratio", "aspect_ratio": "original_size"}
    for other in CONTROL_FIELDS:
        before, after = unit_values(other, control), unit_values(other, wrong)
        if other == field:  # the same values, on other images
            assert torch.allclose(before.sort(0).values, after.sort(0).values, atol=1e-6)
        elif other != follow.get(field):
            assert torch.allclose(before, after, atol=1e-6), other


def test_a_wrong_value_is_half_of_the_ranks_away(control):
    size, wrong = (
        c["original_size"][:, 0] for c in (control, wrong_values(control, "original_size"))
    )
    ranks = {value: rank for rank, value in enumerate(size.sort().values.tolist())}
    if len(ranks) == len(size):  # without ties
        away = [
            abs(ranks[a] - ranks[b]) for a, b in zip(size.tolist(), wrong.tolist(), strict=True)
        ]
        assert set(away) == {len(size) // 2}
    assert changed_rows(control, wrong_values(control, "original_size"), "original_size").all()


def test_a_wrong_ratio_keeps_the_area():
    sizes = torch.tensor([[64.0, 64.0], [300.0, 100.0], [20.0, 20.0], [100.0, 300.0], [9.0, 8.0]])
    right = {"original_size": sizes, "crop_corner": torch.zeros(5, 2), "crop_size": sizes / 2}
    wrong = wrong_values(right, "aspect_ratio")
    size = wrong["original_size"]
    # Ranked 1/3, 1, 1, 9/8, 3: two ranks on are 9/8, 1, 3, 1 and 1/3.
    torch.testing.assert_close(size[:4, 0] / size[:4, 1], torch.tensor([9 / 8, 1.0, 3.0, 1.0]))
    torch.testing.assert_close(size[:4].prod(1), sizes[:4].prod(1))
    assert size[4, 0] == 8 and size[4, 1] > 14  # 1/3 of so few pixels is below control's range
    torch.testing.assert_close(wrong["crop_size"] / size, torch.full((5, 2), 0.5))
    assert changed_rows(right, wrong, "aspect_ratio").all()


def test_squares_of_several_sizes_have_no_wrong_ratio():
    sizes = torch.tensor([[64.0, 64.0], [300.0, 300.0], [10.0, 10.0], [33.0, 33.0]])
    right = {"original_size": sizes}
    wrong = wrong_values(right, "aspect_ratio")
    assert torch.equal(wrong["original_size"], sizes)
    assert not changed_rows(right, wrong, "aspect_ratio").any()
    assert changed_rows(right, wrong_values(right, "original_size"), "original_size").all()


def _measures(added):
    """Images to which a wrong value adds these errors; the last one's value is unchanged."""
    schedule = build_schedule(DiffusionConfig(schedule="sd", prediction="eps"))
    right = torch.rand(len(added), 3, generator=torch.Generator().manual_seed(0)).double()
    changed = torch.ones(len(added), dtype=torch.bool)
    changed[-1] = False
    result = FieldErrors(field="grain", right=right, wrong=right + added, changed=changed)
    measures = profile_measures(result, noise_levels(schedule, LOG_SNRS), seed=0, protocol={})
    return {measure.name.removeprefix("control profile grain "): measure for measure in measures}


def test_the_centre_weighs_each_log_snr_by_what_is_added_there():
    added = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [9.0, 9.0, 9.0]]).double()
    result = _measures(added)
    assert result["at log-SNR -2"].value == pytest.approx(0.2)
    assert result["at log-SNR -2"].n == 2  # the image whose value did not change is left out
    assert result["centre"].value == pytest.approx((-2 + 0 + 3) / 3, abs=1e-3)
    late = _measures(torch.tensor([[0.0, 0.0, 0.3], [-0.1, 0.0, 0.1], [0.0, 0.0, 0.0]]).double())
    assert late["centre"].value == pytest.approx(3, abs=1e-3)


def test_the_centre_of_one_image_has_no_interval():
    centre = _measures(torch.tensor([[0.1, 0.2, 0.3], [9.0, 9.0, 9.0]]).double())["centre"]
    assert centre.n == 1 and math.isfinite(centre.value)
    assert (centre.low, centre.high, centre.interval_over) == (None, None, "none")


def test_a_field_that_adds_nothing_has_no_centre():
    result = _measures(torch.zeros(5, 3).double())
    assert set(result) == {f"at log-SNR {log_snr:g}" for log_snr in LOG_SNRS}
    assert all(log_snr.value == 0 for log_snr in result.values())


def test_the_profile_is_no_part_unless_asked_for():
    assert "control-profile" not in EvaluationConfig().parts
