# SPDX-License-Identifier: Apache-2.0
"""Sampling time with cached keys and values of the prompt, against recomputing them at every step.

    python scripts/time_sampling.py
    python scripts/time_sampling.py --against-diffusers --size S
    python scripts/time_sampling.py --two-scales
    python scripts/time_sampling.py --shipped --images 16

The first command times sampling of latents (DDIM, guidance 2) for each denoiser with
cross-attention at random weights, with and without the cache, alternately. The second times
pippin against the denoising loop of diffusers' PixArtAlphaPipeline with equal weights, steps and
guidance. The third times guidance with two scales, three terms per step, against three plain calls
that prepare their conditions again at every step, and against the terms in one batch. The fourth
times the shipped text model at its own settings against a plain loop: DDIM in 50 steps of three
calls, of which the third has weight 0 without a control scale. It decodes the images, and counts
processor seconds. Ratios are within rounds; above 1, the first-named is faster.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Literal
from unittest.mock import patch

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PixArtAlphaPipeline

from pippin import rng
from pippin.bench.against import CHANNELS, Pair
from pippin.conditioning.config import TextSemantic
from pippin.control import CONTROL_FIELDS, recorded_fields
from pippin.diffusion.schedules import make_schedule
from pippin.model import LatentDenoiser, build_model
from pippin.recipes.table import get_recipe
from pippin.runs.text_inputs import prompt_features
from pippin.sampling import sampler as sampler_module
from pippin.sampling.config import ControlRequest, GuidanceConfig, SamplingConfig
from pippin.sampling.guidance import Predict, Predictions, Term
from pippin.sampling.load import load_run
from pippin.sampling.request import request_conditions
from pippin.sampling.sample import draw as draw_images
from pippin.sampling.sampler import Sampler
from pippin.types import Conditions, TextFeatures

KINDS = ("dit", "mdtv2", "pixart", "unet")
SCALE = 2.0
Draw = Callable[[], object]


def pippin_draw(model: LatentDenoiser, text: TextFeatures, side: int, steps: int) -> Draw:
    """Sample all latents of a batch with pippin."""
    assert text.tokens is not None
    count = len(text.tokens)
    config = SamplingConfig(
        steps=steps, guidance=GuidanceConfig(semantic_scale=SCALE), batch_size=count
    )
    sampler = Sampler(model, make_schedule("sd"), "eps", config)
    conditions = Conditions(text=text, control={})
    return lambda: sampler.latents(conditions, range(count), (CHANNELS, side, side))


def recomputing(draw: Draw) -> Draw:
    """The same without the cache."""

    def call() -> object:
        with patch.object(sampler_module, "cached_keys_values", lambda model: nullcontext()):
            return draw()

    return call


def text_model(kind: str, num_tokens: int) -> tuple[LatentDenoiser, TextSemantic]:
    """Small text-to-image model without control, with its zero-initialised layers perturbed."""
    recipe = get_recipe(f"openmoji/{kind}-disentangled-text")
    conditioning = recipe.conditioning
    semantic = conditioning.semantic
    assert isinstance(semantic, TextSemantic)
    semantic = replace(semantic, num_tokens=num_tokens)
    control = replace(conditioning.control, high=(), low=())
    model = build_model(
        replace(conditioning, semantic=semantic, control=control),
        recipe.denoiser,
        num_classes=1,
        latent_channels=CHANNELS,
        seed=0,
    )
    for index, weight in enumerate(model.parameters()):
        weight.data += 0.02 * rng.normal(tuple(weight.shape), "init", 0, index)
    return model.eval(), semantic


def ratios(
    first: Draw, second: Draw, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[list[float], float]:
    """Ratio of seconds, second over first, in each round, and the first's median seconds."""
    round_ratios, seconds = [], []
    for number in range(rounds + 1):
        times = []
        for draw in (first, second):
            start = clock()
            draw()
            times.append(clock() - start)
        if number:  # the first round is a warm-up
            round_ratios.append(times[1] / times[0])
            seconds.append(times[0])
    return round_ratios, statistics.median(seconds)


def keeping(options: argparse.Namespace) -> None:
    """Time each denoiser with and without the cache."""
    for kind in KINDS:
        model, semantic = text_model(kind, options.tokens)
        shape = (options.images, options.tokens, semantic.token_features or 1)
        text = TextFeatures(tokens=rng.normal(shape, "noise", 0))
        draw = pippin_draw(model, text, options.side, options.steps)
        show(f"{kind} kept / recomputed", *ratios(draw, recomputing(draw), options.rounds))


def against_diffusers(options: argparse.Namespace) -> None:
    """Time pippin's sampler and diffusers' pipeline on one PixArt."""
    pair = Pair("pixart", options.size, options.side, options.images, torch.device("cpu"))
    text = pair.text
    assert text is not None
    assert text.tokens is not None
    sample = pippin_draw(pair.model, text, options.side, options.steps)
    pipeline = PixArtAlphaPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKL(block_out_channels=(32,) * 4, norm_num_groups=8),
        transformer=pair.reference,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
    )
    pipeline.set_progress_bar_config(disable=True)
    null = pair.model.conditioner.text_tokens
    assert null is not None
    mask = torch.ones(text.tokens.shape[:2])

    def reference() -> object:
        return pipeline(
            prompt=None,
            negative_prompt=None,
            prompt_embeds=text.tokens,
            prompt_attention_mask=mask,
            negative_prompt_embeds=null.null[None].expand_as(text.tokens),
            negative_prompt_attention_mask=mask,
            num_inference_steps=options.steps,
            guidance_scale=SCALE,
            height=8 * options.side,
            width=8 * options.side,
            use_resolution_binning=False,
            output_type="latent",
        )

    show("PixArt, pippin / diffusers", *ratios(sample, reference, options.rounds))


def two_scales(options: argparse.Namespace) -> None:
    """Time the loop against three plain calls per step, and against the terms in one batch."""
    recipe = get_recipe("openmoji/mmdit-disentangled")
    model = build_model(
        recipe.conditioning, recipe.denoiser, num_classes=11, latent_channels=CHANNELS, seed=0
    ).eval()
    labels = [k % 11 for k in range(options.images)]
    conditions = request_conditions(
        labels, ControlRequest(), recorded_fields(CONTROL_FIELDS), num_classes=11
    )
    guidance = GuidanceConfig(semantic_scale=SCALE, control_scale=1.5)

    def draw(precision: Literal["fp32", "bf16"], terms: Literal["apart", "together"]) -> Draw:
        config = SamplingConfig(
            steps=options.steps,
            guidance=guidance,
            batch_size=options.images,
            precision=precision,
            terms=terms,
        )
        sampler = Sampler(model, make_schedule("flow"), "flow", config)
        shape = (CHANNELS, options.side, options.side)
        return lambda: sampler.latents(conditions, range(options.images), shape)

    for precision in ("fp32", "bf16"):
        separate = draw(precision, "apart")
        naive, together = plain_calls(separate), draw(precision, "together")
        show(f"{precision}, pippin / three calls", *ratios(separate, naive, options.rounds))
        show(f"{precision}, apart / together", *ratios(separate, together, options.rounds))


def plain_calls(draw: Draw) -> Draw:
    """The same, with every term's conditions prepared again at every step, without the cache."""

    def recompute(term: Callable[[bool, bool], Predict]) -> object:
        return lambda keys: lambda x_t, t: {key: term(*key)(x_t, t) for key in keys}

    def call() -> object:
        with (
            patch.object(sampler_module, "cached_keys_values", lambda model: nullcontext()),
            patch.object(sampler_module, "separate_terms", recompute),
        ):
            return draw()

    return call


ALL_TERMS: tuple[Term, ...] = ((True, True), (True, False), (False, False))


def shipped(options: argparse.Namespace) -> None:
    """Time the shipped text model at its own settings against 50 DDIM steps of three calls."""
    run = load_run("pippin/emoji-mmdit-text")
    own, seeds = run.recipe.sampling, list(range(options.images))
    prompts = (["cat face", "red circle", "yellow flag", "clock"] * len(seeds))[: len(seeds)]
    rule = run.components.text_rule
    assert rule is not None
    text = prompt_features(run.components.text_encoder, rule, prompts, seeds)
    plain = replace(own, solver="ddim", steps=50, terms="apart")

    def all_terms(term: Callable[[bool, bool], Predict]) -> object:
        def prepare(_: tuple[Term, ...]) -> Predictions:
            return lambda x_t, t: {key: term(*key)(x_t, t) for key in ALL_TERMS}

        return prepare

    def naive() -> object:
        with (
            patch.object(sampler_module, "cached_keys_values", lambda model: nullcontext()),
            patch.object(sampler_module, "separate_terms", all_terms),
        ):
            return draw_images(run, prompts, seeds, plain, text)

    def draw() -> object:
        return draw_images(run, prompts, seeds, own, text)

    name = f"{own.solver} in {own.steps} steps / plain loop"
    show(name, *ratios(draw, naive, options.rounds, time.process_time))


def show(name: str, round_ratios: list[float], seconds: float) -> None:
    """Print one line."""
    middle, low, high = (
        statistics.median(round_ratios),
        min(round_ratios),
        max(round_ratios),
    )
    print(
        f"{name:<28} {middle:.2f} ({low:.2f} to {high:.2f}); {seconds:.1f} s per draw", flush=True
    )


def main() -> int:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against-diffusers", action="store_true")
    parser.add_argument("--two-scales", action="store_true")
    parser.add_argument("--shipped", action="store_true")
    parser.add_argument("--size", default="S", help="size of PixArt, with --against-diffusers")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument(
        "--tokens", type=int, default=77, help="tokens of a prompt; 120 with diffusers"
    )
    parser.add_argument("--side", type=int, default=16, help="side of the latents")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    default = against_diffusers if options.against_diffusers else keeping
    (shipped if options.shipped else two_scales if options.two_scales else default)(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
