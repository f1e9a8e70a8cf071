# SPDX-License-Identifier: Apache-2.0
"""CFG-rescale: closed forms of the standard deviation, and where the sampler applies it."""

import pytest
import torch

from pippin import rng
from pippin.config import ConfigError
from pippin.diffusion.schedules import make_schedule
from pippin.sampling.config import GuidanceConfig
from pippin.sampling.guidance import guided, separate_terms
from pippin.sampling.guidance_rescale import rescaled
from pippin.types import Prediction

SHAPE = (3, 4, 5, 5)
GUIDED = 4 * rng.normal(SHAPE, "noise", 0) + 1
CONDITIONAL = rng.normal(SHAPE, "noise", 1)
SCHEDULE = make_schedule("sd")


def spread(prediction):
    return prediction.std(dim=(1, 2, 3))


def test_zero_is_the_identity_and_one_gives_the_conditional_spread():
    assert rescaled(GUIDED, CONDITIONAL, 0.0) is GUIDED
    found = rescaled(GUIDED, CONDITIONAL, 1.0)
    torch.testing.assert_close(spread(found), spread(CONDITIONAL), rtol=1e-5, atol=0)


@pytest.mark.parametrize("phi", [0.3, 0.7])
def test_between_them_the_spread_is_the_mean_of_both(phi):
    found = spread(rescaled(GUIDED, CONDITIONAL, phi))
    wanted = phi * spread(CONDITIONAL) + (1 - phi) * spread(GUIDED)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)


def test_each_image_has_a_factor_of_its_own():
    found = rescaled(GUIDED, CONDITIONAL, 0.7)
    one = rescaled(GUIDED[1:2], CONDITIONAL[1:2], 0.7)
    assert torch.equal(found[1:2], one)
    factors = (found / GUIDED).flatten(1)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors), rtol=1e-5, atol=0)
    assert len(set(factors[:, 0].tolist())) == 3


def test_a_constant_prediction_stays_as_it_is():
    """An untrained network predicts zero."""
    zero = torch.zeros(SHAPE)
    assert torch.equal(rescaled(zero, CONDITIONAL, 1.0), zero)


def term(semantic, control):
    mean = CONDITIONAL if semantic else CONDITIONAL - GUIDED
    return lambda x_t, t: Prediction(mean=mean)


def predict(**config):
    t = 500.0
    return guided(separate_terms(term), GuidanceConfig(**config), SCHEDULE)(CONDITIONAL, t).mean


def test_guidance_is_rescaled_to_the_conditional_spread():
    plain, found = predict(semantic_scale=3.0), predict(semantic_scale=3.0, rescale=1.0)
    assert (spread(plain) > 2 * spread(CONDITIONAL)).all()
    torch.testing.assert_close(spread(found), spread(CONDITIONAL), rtol=1e-5, atol=0)
    assert torch.equal(predict(rescale=1.0), CONDITIONAL)  # no guidance, nothing to rescale


def test_a_conditional_term_without_weight_is_computed_for_its_spread():
    found = predict(semantic_scale=0.0, rescale=1.0)
    torch.testing.assert_close(spread(found), spread(CONDITIONAL), rtol=1e-5, atol=0)


def test_only_guided_channels_are_rescaled():
    found = predict(semantic_scale=3.0, rescale=1.0, cfg_channels=3)
    assert torch.equal(found[:, 3:], CONDITIONAL[:, 3:])
    torch.testing.assert_close(spread(found[:, :3]), spread(CONDITIONAL[:, :3]), rtol=1e-5, atol=0)


def test_the_prediction_of_a_weaker_model_is_rescaled_too():
    weak = lambda x_t, t: Prediction(mean=CONDITIONAL - GUIDED)  # noqa: E731
    config = GuidanceConfig(guide_scale=3.0, rescale=1.0)
    found = guided(separate_terms(term), config, SCHEDULE, weak)(CONDITIONAL, 500.0).mean
    torch.testing.assert_close(
        found, predict(semantic_scale=3.0, rescale=1.0), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("phi", [-0.1, 1.5])
def test_shares_outside_of_0_to_1_are_refused(phi):
    with pytest.raises(ConfigError, match=r"sampling\.guidance\.rescale must lie between 0 and 1"):
        GuidanceConfig(rescale=phi)
