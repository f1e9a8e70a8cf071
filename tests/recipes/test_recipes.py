# SPDX-License-Identifier: Apache-2.0
"""Every recipe builds; the class-conditional ones train; the comparison is one protocol."""

import itertools
import math
import re
from dataclasses import replace

import pytest
import torch
from small_trainer import batches

from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError, difference
from pippin.data.sources.factory import build_source
from pippin.denoisers.unet.config import UNetConfig
from pippin.evaluation.metrics.cost import meta_model
from pippin.model import build_model
from pippin.objective.losses import Objective
from pippin.objective.setting_checks import check_objective
from pippin.recipes.checks import check_recipe
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.sampling.config import check_guidance
from pippin.sampling.guidance import scale_at_resolution
from pippin.studies.study import Study
from pippin.training.averaging.config import half_life
from pippin.training.loop import Trainer
from pippin.types import TextFeatures

FAMILIES = ("published/", "paper/", "shapes/")
TRAINED = [n for n in RECIPES if n.startswith(FAMILIES) or n.endswith("-text")]
SMALL_UNET = {
    "channels": 8,
    "channel_multiples": (1, 2),
    "attention_factors": (1, 2),
    "token_width": 16,
    "norm_groups": 4,
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_and_survives_its_record(name):
    recipe = get_recipe(name)
    check_guidance(recipe.sampling, recipe.conditioning)
    check_objective(recipe.diffusion, recipe.denoiser)
    check_recipe(recipe)
    model = meta_model(recipe.conditioning, recipe.denoiser, 1000, 4)
    assert all(p.device.type == "meta" for p in model.parameters())
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("name", [n for n in RECIPES if n.startswith(("published/", "paper/"))])
def test_long_runs_validate_and_save_seldom(name):
    """Validation costs one forward pass per held-out image (1 % of ImageNet) and noise level, of
    which there are seven, in fp32; a GPU's tensor cores are sixteen times faster in bf16. Training
    costs three passes per image."""
    train, slower = get_recipe(name).train, 16
    passes = 12_812 * 7 * (slower if get_recipe(name).train.precision == "bf16" else 1)
    assert passes / (3 * train.validate_every) < 0.1
    assert train.checkpoint_every >= 1000 * train.batch_size
    assert train.preview_every >= train.checkpoint_every
    assert train.images >= 5 * train.checkpoint_every


def small(config):
    """Tiny configuration of the same architecture, for latents of 8 x 8."""
    if isinstance(config, UNetConfig):
        return replace(config, **SMALL_UNET)
    start = None if getattr(config, "context_start", None) is None else 1
    settings = {
        "mdtv2": {"grid": (4, 4), "decoder_depth": 2},
        "jit": {"patch_size": 4, "bottleneck_width": 8, "context_start": start},
        "ddt": {"encoder_depth": 2},
    }.get(config.kind, {})
    return replace(config, depth=4, width=16, num_heads=2, **settings)


def captioned(batch, semantic):
    """Batch with synthetic captions, for a text model."""
    if not isinstance(semantic, TextSemantic):
        return batch
    count = len(batch.latents)
    text = TextFeatures(
        tokens=torch.randn(count, semantic.num_tokens, semantic.token_features),
        pooled=semantic.pooled_features and torch.randn(count, semantic.pooled_features),
    )
    return replace(batch, conditions=replace(batch.conditions, text=text))


@pytest.mark.parametrize("name", TRAINED)
def test_shrunk_recipes_train(name, tmp_path):
    recipe = get_recipe(name)
    torch.manual_seed(0)
    denoiser, semantic = small(recipe.denoiser), recipe.conditioning.semantic
    if isinstance(semantic, TextSemantic) and semantic.projection == "none":
        denoiser = replace(denoiser, token_width=semantic.token_features)
    model = build_model(recipe.conditioning, denoiser, num_classes=3, latent_channels=4, seed=0)
    config = replace(recipe.train, images=16, batch_size=8, precision="fp32", device="cpu")
    trainer = Trainer(
        model, Objective(recipe.diffusion), recipe.conditioning, config, seed=0, folder=tmp_path
    )
    before = [p.detach().clone() for p in model.parameters()]
    losses = []
    for batch in itertools.islice(batches(), 2):
        batch = captioned(batch, recipe.conditioning.semantic)
        report = trainer.step(batch)
        assert report.finite
        losses.append(report.loss)
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    moved = [bool((p != old).any()) for p, old in zip(model.parameters(), before, strict=True)]
    assert any(moved)


ENDS = ("", "-disentangled")
KINDS = ("dit", "mdtv2", "pixart", "mmdit", "unet")


def names(resolution, data=""):
    expected = {f"paper/{data}{kind}-{resolution}{end}" for kind in KINDS for end in ENDS}
    return [n for n in RECIPES if n in expected]


@pytest.mark.parametrize("resolution", [256, 512])
@pytest.mark.parametrize("data", ["", "cc12m-"])
def test_the_comparison_differs_in_denoiser_and_conditioning_only(resolution, data):
    allowed = {"rules", *(f"control.low_gate.{name}" for name in ("kind", "alpha"))}
    if data:
        allowed |= {f"semantic.{name}" for name in ("padding", "projection", "pooled_features")}
    assert len(names(resolution, data)) == 10
    for a, b in itertools.combinations(map(get_recipe, names(resolution, data)), 2):
        different = {path for path in difference(a, b) if not path.startswith("denoiser.")}
        assert difference(a, b)
        assert different <= {f"conditioning.{name}" for name in allowed}, different


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resolution", [256, 512])
def test_disentangled_text_is_attention_alone_with_noisy_copies_and_a_gate(kind, resolution):
    plain, disentangled = (get_recipe(f"paper/cc12m-{kind}-{resolution}{end}") for end in ENDS)
    assert disentangled.conditioning.rules == {"text": "attention"}
    assert disentangled.conditioning.semantic.padding == "noisy_replicate"
    assert disentangled.conditioning.control.low_gate.kind == "power-cosine"
    assert plain.conditioning.semantic.padding == "native"
    assert plain.conditioning.control.low_gate.kind == "constant"
    assert ("pooled" in plain.conditioning.rules) == (kind == "mmdit")
    assert disentangled.denoiser == plain.denoiser and disentangled.data.kind == "images"


@pytest.mark.parametrize("path", ["", "photos"])
def test_a_study_of_imagenet_and_cc12m_is_refused(path):
    pair = {name: get_recipe(f"paper/{name}") for name in ("dit-256", "cc12m-dit-256")}
    assert {recipe.family for recipe in pair.values()} == {"paper"}
    other = pair["cc12m-dit-256"]
    pair["cc12m-dit-256"] = replace(other, data=replace(other.data, path=path))
    axes = {name: (name,) for name in ("denoiser", "conditioning", "sampling")}
    with pytest.raises(ConfigError, match=r"data\.path" if path else r"text\.source"):
        Study.from_recipes(pair, axes=axes, name="mixed", title="", question="", primary="x")


def test_resolutions_differ_in_what_depends_on_them():
    for name in (*names(256), *names(256, "cc12m-")):
        a, b = get_recipe(name), get_recipe(name.replace("-256", "-512"))
        grid = {"denoiser.grid"} if "mdtv2" in name else set()
        assert set(difference(a, b)) == grid | {
            "data.resolution",
            "diffusion.rescale",
            "sampling.control.original_size",
            "sampling.guidance.semantic_scale",
            "train.images",
        }
        assert (a.diffusion.rescale, b.diffusion.rescale) == (1.0, 2.0)
        scales = [recipe.sampling.guidance.semantic_scale for recipe in (a, b)]
        assert scales[1] == scale_at_resolution(scales[0], 2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_openmoji_arms_differ_on_two_axes(kind):
    a, b = (get_recipe(f"openmoji/{kind}-{arm}") for arm in ("entangled", "disentangled"))
    assert set(difference(a, b)) - {"denoiser.cross_attention"} == {
        "conditioning.rules",
        "conditioning.control.low_gate.kind",
        "conditioning.control.low_gate.alpha",
    }


@pytest.mark.parametrize("batch_size", [256, 2048])
def test_half_life_is_that_of_the_decay(batch_size):
    half = half_life(0.9999, batch_size)
    assert 0.5 ** (batch_size / half.images) == pytest.approx(0.9999, abs=1e-9)


def test_pairs_left_out_leave_their_object_and_their_attribute_to_be_learnt():
    data = get_recipe("openmoji/mmdit-disentangled-text-styles").data
    source = build_source(data, "train")
    trained = {source.captions(index)["style"] for index in range(len(source))}
    colour = re.compile(r"\b(blue|green|purple|white|yellow)\b")
    for pair in data.left_out:
        name, _, art = pair.partition(", ")
        if art:
            (other,) = {"openmoji", "twemoji"} - {art}
            assert f"{name}, {other}" in trained
            continue
        word = colour.search(name)[0]
        others = re.compile(re.escape(name).replace(word, r"(\w+)") + ", (openmoji|twemoji)")
        assert any(others.fullmatch(caption) for caption in trained), name
        assert any(re.search(rf"\b{word}\b", caption) for caption in trained), name


@pytest.mark.parametrize("kind", KINDS)
def test_recipes_of_shapes_are_those_of_openmoji_under_the_common_protocol(kind):
    allowed = {"family", "autoencoder.normalisation", "conditioning.semantic.padding"}
    for end in ("disentangled", "entangled", "disentangled-text"):
        disentangled, base = (
            get_recipe(f"{data}/{kind}-{end}") for data in ("shapes", "openmoji")
        )
        changed = {
            p for p in difference(disentangled, base) if not p.startswith(("data.", "diffusion."))
        }
        assert changed - allowed <= {"text.captions", "autoencoder.source"}
        diffusion = disentangled.diffusion
        assert (diffusion.schedule, diffusion.prediction) == ("sd", "eps")
        assert diffusion.time_density.kind == "uniform"


def test_a_dial_needs_a_control_that_varies():
    recipe = get_recipe("shapes/dit-disentangled-text")
    dials = replace(recipe.data.correlation, flip=0.5)
    with pytest.raises(ConfigError, match=r"data\.crop_law\.flip_probability"):
        check_recipe(replace(recipe, data=replace(recipe.data, correlation=dials)))
    other = get_recipe("shapes/dit-disentangled")
    check_recipe(replace(other, data=replace(other.data, correlation=dials)))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_have_a_hash(name):
    recipe = get_recipe(name)
    again = Recipe.from_dict(recipe.to_dict())
    assert {recipe: 1, replace(recipe, seed=recipe.seed + 1): 2}[again] == 1
    assert hash(recipe.data) == hash(again.data) and hash(again) == hash(recipe)
