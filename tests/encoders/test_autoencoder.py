# SPDX-License-Identifier: Apache-2.0
"""Autoencoder wrapper: units, shapes, affine, loading and errors."""

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from edited_json import edit
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.normalisation import Affine, read_affine, to_images, to_pixels
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


def test_moments_are_those_of_diffusers(published: Path, images: Images) -> None:
    reference = AutoencoderKL.from_pretrained(published, low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        posterior = reference.encode(to_pixels(images)).latent_dist
    moments = load(published).encode(to_pixels(images))
    torch.testing.assert_close(moments.mean, posterior.mean)
    torch.testing.assert_close(moments.std, posterior.std)


def test_published_latents_follow_diffusers_convention(published: Path, images: Images) -> None:
    autoencoder = load(published)
    moments = autoencoder.encode(to_pixels(images))
    latents = autoencoder.sample(moments, torch.zeros_like(moments.mean))
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
    result = autoencoder.denormalise(autoencoder.normalise(raw))
    torch.testing.assert_close(result, raw, rtol=1e-5, atol=1e-6)


def test_draw_is_the_posterior_then_the_affine(network: AutoencoderKL, images: Images) -> None:
    autoencoder = own(network)
    moments = autoencoder.encode(to_pixels(images))
    noise = normal(tuple(moments.mean.shape), "noise", 0)
    expected = autoencoder.normalise(moments.mean + noise * moments.std)
    torch.testing.assert_close(autoencoder.sample(moments, noise), expected)


def test_a_row_does_not_depend_on_its_batch(network: AutoencoderKL, images: Images) -> None:
    autoencoder = own(network)
    whole = autoencoder.encode(to_pixels(images))
    alone = autoencoder.encode(to_pixels(images[3:4]))
    torch.testing.assert_close(whole.mean[3:4], alone.mean, rtol=1e-5, atol=1e-6)
    latents = autoencoder.normalise(whole.mean)
    difference = autoencoder.decode(latents)[3:4].int() - autoencoder.decode(latents[3:4]).int()
    assert difference.abs().max() <= 1


def test_autocast_outside_changes_nothing(network: AutoencoderKL, images: Images) -> None:
    autoencoder = own(network)
    plain = autoencoder.encode(to_pixels(images))
    with torch.autocast("cpu", torch.bfloat16):
        inside = autoencoder.encode(to_pixels(images))
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


@pytest.mark.parametrize(
    "settings",
    [
        {"variant": "fp16"},
        {"safe_serialization": False},
        {"safe_serialization": False, "variant": "fp16"},
        {"max_shard_size": "20KB"},
        {"max_shard_size": "20KB", "safe_serialization": False},
        {"max_shard_size": "20KB", "variant": "fp16"},
    ],
)
def test_weights_under_their_other_names_are_the_same(published: Path, settings: dict) -> None:
    expected = load(published).fingerprint
    network = AutoencoderKL.from_pretrained(published, low_cpu_mem_usage=False)
    (published / WEIGHTS_FILE).unlink()
    network.save_pretrained(published, **settings)
    assert not (published / WEIGHTS_FILE).exists()
    assert load(published).fingerprint == expected
    assert torch.equal(read_affine(published).scale, load(published).scale)


def test_a_folder_without_weights_is_refused_with_what_is_there(published: Path) -> None:
    (published / WEIGHTS_FILE).rename(published / "model.safetensors")
    with pytest.raises(ValueError, match=r"holds no diffusion_.*files: config.json, model\.safet"):
        load(published)


def test_the_folder_of_a_pipeline_is_told_where_its_autoencoder_is(published: Path) -> None:
    published.rename(published.parent / "vae")
    with pytest.raises(ValueError, match=r"has no config\.json; give .*vae$"):
        load(published.parent)


def test_code_in_a_file_of_torch_save_is_not_run(published: Path) -> None:
    (published / WEIGHTS_FILE).unlink()
    torch.save({"a": Fraction(1, 2)}, published / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="would run code from it"):
        load(published)


def rewrite(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize("name", ["AsymmetricAutoencoderKL", "VQModel", "AutoencoderKLCogVideoX"])
def test_other_classes_are_refused_by_name(published: Path, name: str) -> None:
    rewrite(published, _class_name=name)
    for read in (load, Autoencoder.from_folder, read_affine):
        with pytest.raises(
            ValueError, match=f"names '{name}'; supported .*AutoencoderKL"
        ) as caught:
            read(published)
        assert len(str(caught.value)) < 500


def test_settings_of_a_later_diffusers_are_refused_unless_they_are_empty(published: Path) -> None:
    expected = load(published).fingerprint
    rewrite(published, latents_rotation=None)
    assert load(published).fingerprint == expected
    rewrite(published, latents_rotation="left", _diffusers_version="9.9.0")
    with pytest.raises(ValueError, match=r"9\.9\.0.*does not have: latents_rotation='left'"):
        load(published)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_out_channels": [8, 8]}, r"do not match: mismatched_keys \(\d+\): \w+"),
        ({"layers_per_block": 2}, r"missing_keys \(\d+\): decoder"),
        ({"block_out_channels": None}, "are damaged"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised by bitsandbytes"),
    ],
)
def test_a_configuration_of_other_weights_is_a_short_message(
    published: Path, settings: dict, message: str
) -> None:
    rewrite(published, **settings)
    with pytest.raises(ValueError, match=message) as caught:
        load(published)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {"quant_conv.weight_scale": torch.ones(())}, "with separate scales"),
        (lambda w: {"quant_conv.weight": w.to(torch.int8)}, "as int8: quant_conv"),
        (lambda w: {"quant_conv.weight": w * torch.inf}, r"quant_conv\.weight \(.*infinite of"),
        (lambda w: {"quant_conv.weight": w + torch.nan}, r"quant_conv\.weight \(36 NaN of 36"),
    ],
)
def test_weights_that_cannot_be_read_as_they_are(
    published: Path, change: Callable, message: str
) -> None:
    weights = load_file(published / WEIGHTS_FILE)
    weights |= change(weights["quant_conv.weight"])
    save_file(weights, published / WEIGHTS_FILE, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message):
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (WEIGHTS_FILE, r"published: its weights or config\.json are damaged.*save it again"),
        ("config.json", r"published/config\.json is not a JSON object: .*save it again"),
    ],
)
def test_damaged_files_are_an_error_that_names_the_folder(
    published: Path, name: str, message: str
) -> None:
    path = published / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=message):
        Autoencoder.from_folder(published)


def test_what_the_hub_has_is_asked_for_by_every_name(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = load_file(published / WEIGHTS_FILE)
    expected = load(published).fingerprint
    (published / WEIGHTS_FILE).unlink()
    torch.save(weights, published / "diffusion_pytorch_model.bin")
    requests = []

    def snapshot(source: str, *, allow_patterns: list[str], **_: object) -> str:
        requests.append(allow_patterns)
        for pattern in allow_patterns:
            for path in published.glob(pattern):
                shutil.copy(path, tmp_path / "cache")
        return str(tmp_path / "cache")

    (tmp_path / "cache").mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    result = Autoencoder.load(AutoencoderConfig(source="someone/autoencoder"))
    assert result.fingerprint == expected and len(requests) == 3


def changed(folder: Path, old: str, new: str) -> None:
    """Change the header of the weights without its length."""
    path = folder / WEIGHTS_FILE
    content = path.read_bytes()
    assert len(old) == len(new) and content.count(old.encode()) >= 1
    path.write_bytes(content.replace(old.encode(), new.encode(), 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: changed(folder, "[0.5, 1.5, 2.0]", "[0.5, 1.5, 9.0]"), "damaged"),
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
