# SPDX-License-Identifier: Apache-2.0
"""The wrapper: units, shapes, affine, loading and refusals."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from edited_json import edit
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pippin.encoders.affine import Affine, read_affine
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.pixels import to_images, to_pixels
from pippin.encoders.source import WEIGHTS_FILE
from pippin.rng import normal
from pippin.types import Images


def own(network: AutoencoderKL) -> Autoencoder:
    mean, std = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 1.5, 2.0])
    return Autoencoder(network, Affine.from_statistics(mean, std))


def load(folder: Path) -> Autoencoder:
    return Autoencoder.load(AutoencoderConfig(source=str(folder)))


def test_every_level_survives_the_way_to_pixels_and_back() -> None:
    levels = torch.arange(256).to(torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    pixels = to_pixels(levels)
    assert pixels.min() == -1
    assert pixels.max() == 1
    assert torch.equal(to_images(pixels), levels)


def test_pixels_outside_the_range_are_clamped_and_rounded() -> None:
    pixels = torch.tensor([-7.0, 7.0, 0.001]).view(1, 3, 1, 1)
    assert to_images(pixels).flatten().tolist() == [0, 255, 128]


def test_moments_are_those_of_diffusers(published: Path, pictures: Images) -> None:
    reference = AutoencoderKL.from_pretrained(published, low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        posterior = reference.encode(to_pixels(pictures)).latent_dist
    moments = load(published).encode(to_pixels(pictures))
    torch.testing.assert_close(moments.mean, posterior.mean)
    torch.testing.assert_close(moments.std, posterior.std)


def test_published_latents_follow_diffusers_convention(published: Path, pictures: Images) -> None:
    autoencoder = load(published)
    moments = autoencoder.encode(to_pixels(pictures))
    latents = autoencoder.draw(moments, torch.zeros_like(moments.mean))
    torch.testing.assert_close(latents, (moments.mean - 0.25) * 0.5)
    with torch.no_grad():
        decoded = autoencoder.network.decode(latents / 0.5 + 0.25).sample
    difference = autoencoder.decode(latents).int() - to_images(decoded).int()
    assert difference.abs().max() <= 1  # the two orders of the affine may round apart


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), size=st.sampled_from([0.01, 1.0, 100.0]))
def test_denormalise_inverts_normalise(seed: int, size: float) -> None:
    network = AutoencoderKL(
        block_out_channels=(4,), norm_num_groups=2, layers_per_block=1, latent_channels=3
    )
    autoencoder = own(network)
    raw = size * normal((2, 3, 4, 4), "noise", seed)
    found = autoencoder.denormalise(autoencoder.normalise(raw))
    torch.testing.assert_close(found, raw, rtol=1e-5, atol=1e-6)


def test_draw_is_the_posterior_then_the_affine(network: AutoencoderKL, pictures: Images) -> None:
    autoencoder = own(network)
    moments = autoencoder.encode(to_pixels(pictures))
    noise = normal(tuple(moments.mean.shape), "noise", 0)
    expected = autoencoder.normalise(moments.mean + noise * moments.std)
    torch.testing.assert_close(autoencoder.draw(moments, noise), expected)


def test_a_row_does_not_depend_on_its_batch(network: AutoencoderKL, pictures: Images) -> None:
    autoencoder = own(network)
    whole = autoencoder.encode(to_pixels(pictures))
    alone = autoencoder.encode(to_pixels(pictures[3:4]))
    torch.testing.assert_close(whole.mean[3:4], alone.mean, rtol=1e-5, atol=1e-6)
    latents = autoencoder.normalise(whole.mean)
    difference = autoencoder.decode(latents)[3:4].int() - autoencoder.decode(latents[3:4]).int()
    assert difference.abs().max() <= 1


def test_autocast_outside_changes_nothing(network: AutoencoderKL, pictures: Images) -> None:
    autoencoder = own(network)
    plain = autoencoder.encode(to_pixels(pictures))
    with torch.autocast("cpu", torch.bfloat16):
        inside = autoencoder.encode(to_pixels(pictures))
    assert inside.mean.dtype == torch.float32
    assert torch.equal(plain.mean, inside.mean)


def test_save_and_load_keep_everything(network: AutoencoderKL, tmp_path: Path) -> None:
    autoencoder = own(network)
    autoencoder.save(tmp_path / "own")
    assert load(tmp_path / "own").fingerprint == autoencoder.fingerprint


def test_half_precision_on_disk_is_fp32_in_use(network: AutoencoderKL, tmp_path: Path) -> None:
    own(network).save(tmp_path / "half", dtype=torch.float16)
    stored = load_file(tmp_path / "half" / WEIGHTS_FILE)
    loaded = load(tmp_path / "half")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.network.quant_conv.weight, stored["quant_conv.weight"].float())


def test_it_is_frozen(network: AutoencoderKL) -> None:
    autoencoder = own(network)
    assert not any(parameter.requires_grad for parameter in autoencoder.parameters())
    pixels = torch.zeros(1, 3, 16, 16, requires_grad=True)
    assert not autoencoder.encode(pixels).mean.requires_grad


def test_fingerprint_changes_with_weights_and_affine(network: AutoencoderKL) -> None:
    first = own(network).fingerprint
    shifted = Autoencoder(network, Affine.from_statistics(torch.zeros(3), torch.ones(3)))
    with torch.no_grad():
        network.quant_conv.bias[0] += 1
    assert len({first, shifted.fingerprint, own(network).fingerprint}) == 3
    assert len(first) == 16


def test_latent_shape(network: AutoencoderKL) -> None:
    assert own(network).latent_shape(64) == (3, 32, 32)


def test_sides_must_be_multiples_of_the_factor(network: AutoencoderKL) -> None:
    with pytest.raises(ValueError, match="multiples of 2 pixels; got 15"):
        own(network).latent_shape(15)
    with pytest.raises(ValueError, match="got 17"):
        own(network).encode(torch.zeros(1, 3, 16, 17))


def test_swapped_weights_without_statistics_are_refused(
    network: AutoencoderKL, tmp_path: Path
) -> None:
    own(network).save(tmp_path)
    save_file(load_file(tmp_path / WEIGHTS_FILE), tmp_path / WEIGHTS_FILE)
    with pytest.raises(ValueError, match="no latent statistics"):
        load(tmp_path)


def test_weights_that_do_not_fit_are_refused(published: Path) -> None:
    weights = load_file(published / WEIGHTS_FILE)
    del weights["quant_conv.bias"]
    save_file(weights, published / WEIGHTS_FILE, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"quant_conv\.bias"):
        load(published)


def test_a_folder_without_safetensors_is_refused(published: Path) -> None:
    weights = load_file(published / WEIGHTS_FILE)
    (published / WEIGHTS_FILE).unlink()
    torch.save(weights, published / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="has no diffusion_pytorch_model"):
        load(published)


def test_unknown_shipped_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ValueError, match="pippin/openmoji-f4"):
        Autoencoder.load(AutoencoderConfig(source="pippin/nothing"))


def test_wrong_path_says_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"'no/such-folder'.*local folder.*hub name"):
        Autoencoder.load(AutoencoderConfig(source="no/such-folder"))
    with pytest.raises(ValueError, match=r"'no/such/folder'.*local folder"):
        Autoencoder.load(AutoencoderConfig(source="no/such/folder"))


@pytest.mark.parametrize("name", [WEIGHTS_FILE, "config.json"])
def test_damaged_files_are_an_error_that_names_the_folder(published: Path, name: str) -> None:
    path = published / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"published: its weights or config\.json are damaged"):
        Autoencoder.from_folder(published)


def changed(folder: Path, old: str, new: str) -> None:
    """Change the header of the weights, whose length stays."""
    path = folder / WEIGHTS_FILE
    content = path.read_bytes()
    assert len(old) == len(new) and content.count(old.encode()) >= 1
    path.write_bytes(content.replace(old.encode(), new.encode(), 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: changed(folder, "[0.5, 1.5, 2.0]", "[0.5, 1.5, 9.0]"), "statistics"),
        (lambda folder: changed(folder, '\\"act_fn\\"', '\\"act_fm\\"'), "damaged"),
        (lambda folder: edit(folder / "config.json", act_fn="relu"), "belong together"),
    ],
)
def test_what_decides_the_numbers_cannot_change_in_silence(
    network: AutoencoderKL, tmp_path: Path, damage, message: str
) -> None:
    own(network).save(tmp_path)
    load(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_the_statistics_alone_are_checked_without_the_weights(
    network: AutoencoderKL, tmp_path: Path
) -> None:
    own(network).save(tmp_path)
    assert read_affine(tmp_path).scale.flatten().tolist() == [0.5, 1.5, 2.0]
    changed(tmp_path, "[0.5, 1.5, 2.0]", "[0.5, 1.5, 9.0]")
    with pytest.raises(ValueError, match="statistics"):
        read_affine(tmp_path)


def test_an_autoencoder_of_somebody_else_has_no_record(published: Path) -> None:
    assert load(published).fingerprint
    with safe_open(published / WEIGHTS_FILE, framework="pt") as file:
        assert "pippin.record" not in (file.metadata() or {})
