# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pippin.data.moments import EncodedViews, encode_images
from pippin.data.views.views import make_view
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.types import Moments, stack_controls


def test_fetch_encodes_the_views_asked_for(noise_source, encoder) -> None:
    encoded = EncodedViews(noise_source, encoder)
    assert (len(encoded), encoded.num_views) == (7, 3)
    result = encoded.fetch(torch.tensor([6, 2]), torch.tensor([0, 2]))
    built = [make_view(noise_source, 6, 0), make_view(noise_source, 2, 2)]
    pixels = torch.stack([view.image for view in built]).double() / 127.5 - 1
    expected = encoder.encode(pixels.float())
    assert torch.allclose(result.moments.mean, expected.mean, atol=1e-6)
    assert torch.allclose(result.moments.std, expected.std, atol=1e-6)
    assert result.label.tolist() == [0, 2]
    controls = stack_controls([view.control for view in built])
    assert result.control.keys() == controls.keys()
    assert all(torch.equal(result.control[name], controls[name]) for name in controls)


def test_the_size_of_encoded_batches_changes_rounding_only(noise_source, encoder) -> None:
    keys = torch.arange(7), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    one, all_at_once = (
        EncodedViews(noise_source, encoder, encode_batch=size).fetch(*keys).moments
        for size in (1, 7)
    )
    assert torch.allclose(one.mean, all_at_once.mean, atol=1e-6)
    assert torch.allclose(one.std, all_at_once.std, atol=1e-6)


def test_images_reach_the_encoder_in_minus_one_to_one(make_encoder) -> None:
    class Recorder(make_encoder):
        def encode(self, pixels: torch.Tensor) -> Moments:
            self.seen = pixels
            return super().encode(pixels)

    recorder = Recorder()
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 8, 8)
    encode_images(recorder, images, "cpu")
    assert recorder.seen.dtype == torch.float32
    assert recorder.seen[0].unique().tolist() == [-1.0]
    assert recorder.seen[1].unique().tolist() == [1.0]


def test_indices_and_views_out_of_range_are_refused(noise_source, encoder) -> None:
    encoded = EncodedViews(noise_source, encoder)
    with pytest.raises(ValueError, match=r"image index must be in range\(7\); got 7"):
        encoded.fetch(torch.tensor([0, 7]), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"range\(3\); got 3"):
        encoded.fetch(torch.tensor([0]), torch.tensor([3]))


def test_moments_that_are_not_finite_are_refused(noise_source, make_encoder) -> None:
    class Broken(make_encoder):
        def encode(self, pixels: torch.Tensor) -> Moments:
            moments = super().encode(pixels)
            return Moments(mean=moments.mean, std=moments.std / 0)

    with pytest.raises(ValueError, match="not finite"):
        EncodedViews(noise_source, Broken()).fetch(torch.tensor([0]), torch.tensor([0]))


def test_moments_in_another_memory_layout_can_be_stored(make_encoder) -> None:
    class ChannelsLast(make_encoder):
        def encode(self, pixels: torch.Tensor) -> Moments:
            moments = super().encode(pixels)
            return Moments(
                mean=moments.mean.contiguous(memory_format=torch.channels_last),
                std=moments.std.contiguous(memory_format=torch.channels_last),
            )

    result = encode_images(ChannelsLast(), torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "cpu")
    assert result.mean.is_contiguous()
    assert result.std.is_contiguous()


def test_latents_are_equal_bits_in_any_batch_and_with_any_number_of_threads() -> None:
    autoencoder = Autoencoder.load(AutoencoderConfig())
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 3, 32, 32), generator=draws, dtype=torch.uint8)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            for count in (20, 15, 4, 1):
                found.append(encode_images(autoencoder, images[:count], "cpu"))
    finally:
        torch.set_num_threads(threads)
    for moments in found[1:]:
        count = len(moments.mean)
        assert torch.equal(moments.mean, found[0].mean[:count])
        assert torch.equal(moments.std, found[0].std[:count])
