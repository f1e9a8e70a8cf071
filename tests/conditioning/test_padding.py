# SPDX-License-Identifier: Apache-2.0
"""Padding of captions."""

import pytest
import torch

from pippin.conditioning.config import TextSemantic
from pippin.conditioning.padding import needs_noise, pad_captions
from pippin.config import ConfigError, protocol
from pippin.types import TextFeatures

PLACES, WIDTH = 12, 5
LENGTHS = (1, 2, 5, 12)


def rule(padding, **settings):
    return TextSemantic(token_features=WIDTH, num_tokens=PLACES, padding=padding, **settings)


def captions(lengths=LENGTHS, places=PLACES, width=WIDTH):
    draws = torch.Generator().manual_seed(0)
    tokens = torch.randn(len(lengths), places, width, generator=draws)
    mask = torch.arange(places) < torch.tensor(lengths)[:, None]
    return TextFeatures(tokens=tokens, mask=mask, pooled=torch.randn(len(lengths), 3))


def noise(text, seed=1):
    return torch.randn(text.tokens.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("padding", ["native", "zero", "mask", "replicate", "noisy_replicate"])
def test_a_captions_own_tokens_stay_bit_for_bit(padding):
    text = captions()
    padded = pad_captions(text, rule(padding), noise(text))
    for row, length in enumerate(LENGTHS):
        assert torch.equal(padded.tokens[row, :length], text.tokens[row, :length])
    assert torch.equal(padded.pooled, text.pooled)
    assert (padded.mask is None) == (padding != "mask")


def test_native_zero_and_mask():
    text = captions()
    assert torch.equal(pad_captions(text, rule("native")).tokens, text.tokens)
    assert torch.equal(pad_captions(text, rule("mask")).mask, text.mask)
    zeros = pad_captions(text, rule("zero")).tokens
    assert torch.equal(zeros == 0, ~text.mask[..., None].expand_as(zeros))


def test_replicate_repeats_in_order():
    text = captions()
    padded = pad_captions(text, rule("replicate")).tokens
    for row, length in enumerate(LENGTHS):
        for place in range(PLACES):
            assert torch.equal(padded[row, place], text.tokens[row, place % length])


def test_own_tokens_may_lie_anywhere():
    text = captions((3,))
    mask = torch.zeros(1, PLACES, dtype=torch.bool)
    mask[0, [1, 4, 5]] = True
    padded = pad_captions(TextFeatures(tokens=text.tokens, mask=mask), rule("replicate")).tokens
    assert torch.equal(padded[0], text.tokens[0, [1, 4, 5] * 4])


@pytest.mark.parametrize("growth", ["none", "copy", "prompt"])
def test_copies_have_the_stated_noise_in_each_channel(growth):
    length, beta, places = 4, 0.3, 400_000
    text = captions((length,), places)
    noisy = rule("noisy_replicate", padding_noise=beta, padding_growth=growth)
    padded = pad_captions(text, noisy, noise(text)).tokens[0]
    own = text.tokens[0, :length]
    spread = own.std(dim=0, correction=0)
    added = (padded - own.repeat(places // length, 1)).unflatten(0, (-1, length))[1:]
    if growth == "copy":
        added = added / torch.arange(1, len(added) + 1).sqrt()[:, None, None]
    if growth == "prompt":
        added = added / len(added) ** 0.5
    result = added.flatten(0, 1).std(dim=0)
    # the standard deviation of n numbers is known to 1 / sqrt(2 n) of itself: here 0.11 %
    torch.testing.assert_close(result, beta * spread, rtol=6e-3, atol=0)
    assert added.mean().abs() < 1e-2 * beta


@pytest.mark.parametrize(
    ("growth", "factors"),
    [
        ("none", [[0] * 5 + [1] * 7, [0] * 7 + [1] * 5, [0] * 12]),
        ("copy", [[0] * 5 + [1] * 5 + [2**0.5] * 2, [0] * 7 + [1] * 5, [0] * 12]),
        ("prompt", [[0] * 5 + [2**0.5] * 7, [0] * 7 + [1] * 5, [0] * 12]),
    ],
)
def test_noise_grows_by_the_closed_form(growth, factors):
    """Captions of 5, 7 and 12 tokens in 12 positions are repeated m = 3, 2 and 1 times."""
    text = captions((5, 7, 12))
    noisy = rule("noisy_replicate", padding_noise=0.5, padding_growth=growth)
    noises = torch.ones_like(text.tokens)
    plain = pad_captions(text, rule("replicate")).tokens
    added = pad_captions(text, noisy, noises).tokens - plain
    for row, length in enumerate((5, 7, 12)):
        spread = text.tokens[row, :length].std(dim=0, correction=0)
        expected = 0.5 * torch.tensor(factors[row])[:, None] * spread
        torch.testing.assert_close(added[row], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("earlier", "now"), [(False, "none"), (True, "copy")])
def test_booleans_of_earlier_records_are_read_and_their_fingerprints_hold(earlier, now):
    record = rule("noisy_replicate").to_dict() | {"padding_growth": earlier}
    read = TextSemantic.from_dict(record)
    assert read.padding_growth == now
    assert read.to_dict() == record
    assert protocol(read)["padding_growth"] is earlier
    with pytest.raises(ConfigError, match=r"0 not in .*'none', 'copy', 'prompt'.*padding_growth"):
        TextSemantic.from_dict(record | {"padding_growth": 0})


def test_the_growth_of_a_prompt_is_recorded_by_its_name():
    config = rule("noisy_replicate", padding_growth="prompt")
    assert config.to_dict()["padding_growth"] == protocol(config)["padding_growth"] == "prompt"
    assert TextSemantic.from_dict(config.to_dict()) == config


def test_noise_is_needed_and_decides():
    text = captions()
    noisy = rule("noisy_replicate")
    assert needs_noise(noisy) and not needs_noise(rule("noisy_replicate", padding_noise=0.0))
    with pytest.raises(ValueError, match="needs noise"):
        pad_captions(text, noisy)
    first, again, other = (pad_captions(text, noisy, noise(text, s)).tokens for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    silent = rule("noisy_replicate", padding_noise=0.0)
    plain = pad_captions(text, rule("replicate")).tokens
    assert torch.equal(pad_captions(text, silent).tokens, plain)


def test_masked_captions_do_not_depend_on_how_far_they_are_padded():
    from pippin.conditioning.config import ConditioningConfig, ControlConfig
    from pippin.denoisers.mmdit.config import mmdit
    from pippin.model import build_model
    from pippin.types import Conditions

    outputs = []
    for places in (6, 12):
        semantic = TextSemantic(token_features=WIDTH, num_tokens=places, padding="mask")
        conditioning = ConditioningConfig(
            semantic=semantic,
            rules={"text": "attention"},
            control=ControlConfig(high=(), low=()),
        )
        model = build_model(conditioning, mmdit("tiny"), num_classes=1, latent_channels=4, seed=0)
        draws = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if not name.endswith("null"):
                    weight.add_(0.05 * torch.randn(weight.shape, generator=draws))
        text = captions((1, 2, 5), 12)
        cut = TextFeatures(tokens=text.tokens[:, :places], mask=text.mask[:, :places])
        prepared = model.prepare(Conditions(text=pad_captions(cut, semantic), control={}))
        x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(4))
        outputs.append(model(x, torch.tensor([1.0, 500.0, 900.0]), prepared).mean)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


def test_a_caption_without_tokens_is_refused():
    text = captions()
    empty = TextFeatures(tokens=text.tokens, mask=torch.zeros_like(text.mask))
    for bad in (empty, TextFeatures(tokens=text.tokens)):
        with pytest.raises(ValueError, match="own tokens, one at least"):
            pad_captions(bad, rule("replicate"))
