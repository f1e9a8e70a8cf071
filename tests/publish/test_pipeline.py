# SPDX-License-Identifier: Apache-2.0
"""Whole pipelines of diffusers draw the images that pippin draws, from equal noise.

Models and autoencoders have random weights. Images have values in [0, 1].
"""

import json
import re
from dataclasses import replace

import diffusers
import pytest
import torch
from random_trained import (
    SHAPE,
    SIDE,
    save_autoencoder,
    save_t5,
    text_rule,
    trained_model,
)
from tiny_autoencoders import NETWORKS, tiny_network
from tiny_sd3_text import WORDS, clip, save_encoders

from pippin import rng
from pippin.cli.main import main
from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.denoisers.pixart.config import PixArtConfig
from pippin.denoisers.unet.config import unet
from pippin.denoisers.weights.arguments import BY_CLASS
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig, TextConfig
from pippin.encoders.normalisation import Affine
from pippin.interop.convert import convert
from pippin.interop.plain_autoencoder import autoencoder_obstacle, plain_autoencoder
from pippin.publish.facts import collect_facts
from pippin.publish.pipeline import write_pipeline
from pippin.runs.trained import export
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw

SEEDS = [3, 4]
TOLERANCE = 5e-6
"""Tolerance of pixels in [0, 1]."""


def own_images(tmp_path, trained, prompts, contrast=0.05):
    """Pixels in [0, 1] that pippin draws, before they are rounded."""
    export(trained, tmp_path / "own")
    run, decoded = load_run(tmp_path / "own"), []
    decoder = run.components.autoencoder.network.decoder
    decoder.register_forward_hook(lambda module, given, pixels: decoded.append(pixels))
    images = draw(run, prompts, SEEDS)
    own = (decoded[0] / 2 + 0.5).clamp(0, 1)
    assert torch.equal((own * 255).round().to(torch.uint8), images)
    assert own.std() > contrast  # images, no grey
    return own


def pipeline_of(folder, **options):
    pipe = diffusers.DiffusionPipeline.from_pretrained(
        folder, low_cpu_mem_usage=False, local_files_only=True, **options
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise():
    return torch.stack([rng.normal((4, SIDE, SIDE), "sample", seed) for seed in SEEDS])


def largest(images, own):
    return float((images - own).abs().max())


def with_rescale(trained, rescale):
    """The model with rescaled guidance in its recipe."""
    sampling = trained.recipe.sampling
    guidance = replace(sampling.guidance, rescale=rescale)
    recipe = replace(trained.recipe, sampling=replace(sampling, guidance=guidance))
    return replace(trained, recipe=recipe)


def printed_options(written, pipe):
    """Arguments of the call that the command prints, with other prompts."""
    call = written.call.partition("pipe(")[2].partition(").images")[0]
    return eval(f"dict({call})", {"pipe": pipe}) | {"prompt": ["red apple", "blue car"]}


def test_an_affine_of_each_channel_moves_into_the_autoencoder(tmp_path):
    own = save_autoencoder(tmp_path / "kl")
    plain = plain_autoencoder(own)
    assert plain.config.scaling_factor == 1 and plain.config.shift_factor == 0
    latents, pixels = noise(), torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
    with torch.no_grad():
        decoded = plain.decode(latents).sample
        reference = own.network.decode(own.denormalise(latents)).sample
        posterior, moments = plain.encode(pixels).latent_dist, own.encode(pixels)
    assert torch.allclose(decoded, reference, atol=1e-5)
    assert torch.allclose(posterior.mean, own.normalise(moments.mean), atol=1e-5)
    assert torch.allclose(posterior.std, moments.std / own.scale, atol=1e-5)


def test_an_autoencoder_of_one_factor_keeps_its_weights(tmp_path):
    own = save_autoencoder(tmp_path / "kl")
    affine = Affine(torch.zeros(1, 4, 1, 1), torch.full((1, 4, 1, 1), 4.0))
    plain = plain_autoencoder(own.with_affine(affine))
    assert plain.config.scaling_factor == 0.25
    assert set(plain.state_dict()) == set(own.network.state_dict())


def with_autoencoder(trained, folder, name):
    """The model behind another tiny autoencoder of 4 channels."""
    tiny_network(name).save_pretrained(folder)
    data = replace(trained.recipe.data, resolution=NETWORKS[name][1] * SIDE)
    config = AutoencoderConfig(source=str(folder))
    recipe = replace(trained.recipe, data=data, autoencoder=config)
    return replace(trained, recipe=recipe)


@pytest.mark.parametrize("name", ["AutoencoderDC", "AutoencoderTiny"])
def test_a_pipeline_of_dit_decodes_other_classes(tmp_path, name):
    denoiser = DiTConfig(**SHAPE, learn_variance=False)
    trained = trained_model(tmp_path, denoiser, BY_CLASS, DiffusionConfig())
    trained = with_autoencoder(trained, tmp_path / "other", name)
    own = own_images(tmp_path, trained, [2, 0], contrast=0.02)
    write_pipeline(collect_facts(trained), tmp_path / "out")
    pipe = pipeline_of(tmp_path / "out", trust_remote_code=True)
    assert type(pipe.vae).__name__ == name
    images = pipe([2, 0], latents=noise(), output_type="pt").images
    assert largest(images, own) < TOLERANCE


def test_classes_that_no_pipeline_decodes_are_obstacles():
    def obstacle(name, *, any_class=True, affine=None):
        own = Autoencoder(tiny_network(name), affine or Affine.identity(4))
        return autoencoder_obstacle(own, any_class=any_class)

    assert obstacle("AutoencoderDC") is None and obstacle("AutoencoderTiny") is None
    assert "decodes AutoencoderKL" in str(obstacle("AutoencoderDC", any_class=False))
    assert "source is AutoencoderKLWan, and" in str(obstacle("AutoencoderKLWan"))
    shifted = Affine.from_statistics(torch.ones(4), torch.ones(4))
    assert "scaling_factor only" in str(obstacle("AutoencoderDC", affine=shifted))
    assert obstacle("AutoencoderTiny", affine=shifted) is None
    measured = Affine.from_statistics(torch.zeros(4), torch.tensor([1.0, 2, 3, 4]))
    assert "different numbers" in str(obstacle("AutoencoderTiny", affine=measured))


@pytest.mark.parametrize(("schedule", "prediction"), [("ddpm", "eps"), ("flow", "flow")])
def test_a_pipeline_of_dit_needs_diffusers_alone(tmp_path, schedule, prediction, record_property):
    denoiser = DiTConfig(**SHAPE, learn_variance=prediction == "eps")
    diffusion = DiffusionConfig(schedule=schedule, prediction=prediction)
    trained = trained_model(tmp_path, denoiser, BY_CLASS, diffusion)
    own = own_images(tmp_path, trained, [2, 0])
    written = write_pipeline(collect_facts(trained), tmp_path / "out")
    assert "trust_remote_code=True" in written.call
    program = (tmp_path / "out/pipeline.py").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(import|from) pippin", program, re.MULTILINE)
    with pytest.raises(ValueError, match="trust_remote_code"):
        pipeline_of(tmp_path / "out")
    pipe = pipeline_of(tmp_path / "out", trust_remote_code=True)
    images = pipe([2, 0], latents=noise(), output_type="pt").images
    found = largest(images, own)
    record_property("largest difference", found)
    assert found < TOLERANCE
    for block in pipe.transformer.transformer_blocks:  # as diffusers divides by itself
        block.norm1.emb.time_proj.downscale_freq_shift = 1
    images = pipe([2, 0], latents=noise(), output_type="pt").images
    assert largest(images, own) > 1e-3
    options = {"trust_remote_code": True, "low_cpu_mem_usage": False}
    asked = diffusers.DiTPipeline.from_pretrained(tmp_path / "out", **options)
    assert type(asked).__name__ == "PippinDiTPipeline"


def test_a_pipeline_is_converted_to_the_same_model(tmp_path):
    diffusion = DiffusionConfig(schedule="ddpm")
    trained = trained_model(tmp_path, DiTConfig(**SHAPE), BY_CLASS, diffusion)
    write_pipeline(collect_facts(trained), tmp_path / "out")
    back = convert("diffusers", tmp_path / "out")
    for name, value in back.loaded.model.named_parameters():
        assert torch.equal(value, trained.tensors[name]), name
    assert back.recipe.diffusion.schedule == "ddpm"
    own, again = (
        Autoencoder.from_folder(tmp_path / "kl"),
        Autoencoder.load(back.recipe.autoencoder),
    )
    levels = own.decode(noise()).int() - again.decode(noise()).int()
    assert levels.abs().max() <= 1


def test_a_pipeline_of_stable_diffusion(tmp_path, record_property):
    """With rescaled guidance, which the printed call gives as guidance_rescale."""
    encoder, tokenizer = clip(WORDS, 16, 6, 0, 8)
    encoder.save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    trained = trained_model(
        tmp_path,
        unet("tiny", channels=16, channel_multiples=(1, 2), token_width=16),
        text_rule(token_features=16, num_tokens=8, projection="none"),
        DiffusionConfig(schedule="sd", prediction="v"),
        TextConfig(source=(str(tmp_path / "clip"),)),
    )
    trained = with_rescale(trained, 0.7)
    own = own_images(tmp_path, trained, ["red apple", "blue car"])
    written = write_pipeline(collect_facts(trained), tmp_path / "out")
    pipe = pipeline_of(tmp_path / "out")
    assert type(pipe).__name__ == "StableDiffusionPipeline" and pipe.safety_checker is None
    assert "guidance_rescale=0.7" in written.call
    assert not any("sampling.guidance" in note for note in written.notes)
    images = pipe(**printed_options(written, pipe), latents=noise(), output_type="pt").images
    record_property("largest difference", largest(images, own))
    assert largest(images, own) < TOLERANCE


def test_a_pipeline_of_stable_diffusion_3(tmp_path, record_property):
    sources = save_encoders(tmp_path / "encoders")
    trained = trained_model(
        tmp_path,
        MMDiTConfig(**SHAPE, qk_norm=True, table_side=6),
        text_rule(token_features=32, pooled_features=16, num_tokens=83),
        DiffusionConfig(schedule="flow", prediction="flow"),
        TextConfig(source=sources, layer="penultimate", combine="sd3"),
    )
    own = own_images(tmp_path, trained, ["red apple", "blue car"])
    written = write_pipeline(collect_facts(trained), tmp_path / "out")
    pipe = pipeline_of(tmp_path / "out")
    assert type(pipe).__name__ == "StableDiffusion3Pipeline"
    images = pipe(**printed_options(written, pipe), latents=noise(), output_type="pt").images
    record_property("largest difference", largest(images, own))
    assert largest(images, own) < TOLERANCE


def test_a_pipeline_of_pixart(tmp_path, record_property):
    save_t5(tmp_path / "t5")
    trained = trained_model(
        tmp_path,
        PixArtConfig(**SHAPE, learn_variance=True, base_grid=4),
        text_rule(token_features=32, num_tokens=6, projection="mlp", padding="mask"),
        DiffusionConfig(schedule="ddpm"),
        TextConfig(source=(str(tmp_path / "t5"),)),
    )
    own = own_images(tmp_path, trained, ["red apple", "blue car"])
    written = write_pipeline(collect_facts(trained), tmp_path / "out")
    pipe = pipeline_of(tmp_path / "out")
    assert type(pipe).__name__ == "PixArtAlphaPipeline"
    images = pipe(**printed_options(written, pipe), latents=noise(), output_type="pt").images
    record_property("largest difference", largest(images, own))
    assert largest(images, own) < TOLERANCE


def test_any_other_model_becomes_a_pipeline_that_runs_pippin(tmp_path, capsys):
    conditioning = ConditioningConfig(rules={"label": "attention"})  # and with control
    diffusion = DiffusionConfig(schedule="flow", prediction="flow")
    trained = trained_model(tmp_path, MMDiTConfig(**SHAPE), conditioning, diffusion)
    own = own_images(tmp_path, trained, [2, 0])
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "own"), str(out), "--to", "diffusers"]) == 0
    said = capsys.readouterr().out
    assert "no pipeline of diffusers draws this model" in said and "conditioning.control" in said
    assert json.loads((out / "model_index.json").read_text())["_class_name"][0] == "pipeline"
    pipe = pipeline_of(out, trust_remote_code=True)
    images = pipe(class_labels=[2, 0], seeds=SEEDS, output_type="pt").images
    assert torch.equal(images, (own * 255).round() / 255)
    (first,) = pipe(class_labels=2, seeds=SEEDS[:1], num_inference_steps=1).images
    assert first.size == (16, 16)
    flipped = {"control": {"flip": True}}
    other = pipe(class_labels=[2, 0], seeds=SEEDS, sampling=flipped, output_type="pt").images
    assert not torch.equal(other, images)
    with pytest.raises(ValueError, match="this model needs class_labels"):
        pipe("a red apple")


def test_a_learned_null_caption_keeps_a_model_from_a_pipeline_of_diffusers(tmp_path):
    save_t5(tmp_path / "t5")
    rule = text_rule(token_features=32, num_tokens=6, projection="mlp", padding="native")
    rule = replace(rule, semantic=replace(rule.semantic, null="learned"))
    text = TextConfig(source=(str(tmp_path / "t5"),))
    denoiser = PixArtConfig(**SHAPE, base_grid=4)
    trained = trained_model(tmp_path, denoiser, rule, DiffusionConfig(schedule="ddpm"), text)
    notes = write_pipeline(collect_facts(trained), tmp_path / "out").notes
    assert any("conditioning.semantic.null learned" in note for note in notes)
    assert any("conditioning.semantic.padding native" in note for note in notes)
