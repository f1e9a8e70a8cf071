# SPDX-License-Identifier: Apache-2.0
"""Bytes of a training run against those of a trainer, a checkpoint and caches that exist."""

from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from small_trainer import batches, make_trainer
from torch.utils.flop_counter import FlopCounterMode

from pippin.conditioning.config import TextSemantic
from pippin.data.cache.caption_cache import build_bank
from pippin.data.config import ImagesConfig, NoDataConfig
from pippin.evaluation.metrics.cost import meta_model
from pippin.planning.data_sizes import (
    CC12M_IMAGES,
    IMAGENET_IMAGES,
    latent_bytes,
    num_classes_of,
    num_training_images,
    text_bytes,
)
from pippin.planning.states import orthogonalise_flops, training_states
from pippin.recipes.table import get_recipe
from pippin.runs.components import Components
from pippin.training.averaging.config import ImagesHalfLife
from pippin.training.muon import Muon
from pippin.types import TextFeatures


def size(tensors):
    return sum(x.numel() * x.element_size() for x in tensors)


@pytest.mark.parametrize("rate", [None, 1e-2], ids=["Adam", "Muon and Adam"])
def test_states_are_those_of_a_trainer_after_a_step(tmp_path, rate):
    extra = (ImagesHalfLife(images=5), ImagesHalfLife(images=9))
    trainer = make_trainer(tmp_path, muon_learning_rate=rate, ema_extra=extra if rate else ())
    gradients = []

    @contextmanager
    def weigh(part):
        yield
        if part == "backward":
            gradients.append(size(p.grad for p in trainer.model.parameters()))

    trainer.timed = weigh
    trainer.step(next(batches()))
    states = training_states(trainer.model, trainer.config)
    model = trainer.model
    slots = [s.values() for one in trainer.optimizers for s in one.state.values()]
    assert states.weights == size(chain(model.parameters(), model.buffers()))
    assert [states.gradients] == gradients
    assert states.optimizer == size(chain(*slots))
    averages = [trainer.ema, *trainer.extra.values()]
    assert states.ema == sum(size(one.weights.values()) for one in averages)
    files = trainer.save().glob("*.safetensors")
    stored = 0
    for file in files:
        with safe_open(file, framework="pt") as one:
            stored += size(one.get_tensor(name) for name in one.keys())  # noqa: SIM118
    assert states.checkpoint == stored
    assert (states.optimizer_flops > 0) == (rate is not None)


def test_muon_keeps_half_of_adam_for_its_matrices():
    recipe = get_recipe("openmoji/mmdit-disentangled")
    model = meta_model(recipe.conditioning, recipe.denoiser, 11, 4)
    muon = training_states(model, recipe.train).optimizer
    adam = training_states(model, replace(recipe.train, muon_learning_rate=None)).optimizer
    numbers = sum(p.numel() for p in model.parameters())
    assert adam == 8 * numbers + 4 * len(list(model.parameters()))
    assert 0.5 * adam < muon < 0.6 * adam


@pytest.mark.parametrize("gram", [False, True])
@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (6, 6)])
def test_flops_of_muon_are_those_of_a_step_on_a_device_other_than_a_cpu(shape, gram):
    weight = torch.nn.Parameter(torch.empty(shape, device="meta"))
    weight.grad = torch.empty_like(weight)
    muon = Muon([weight], lr=0.1, gram=gram)
    with FlopCounterMode(display=False) as counter:
        muon.step()
    assert orthogonalise_flops(*shape) == counter.get_total_flops()


def test_latents_of_an_image_are_those_of_a_cache(recipe):
    components = Components(recipe, Console(quiet=True))
    assert num_training_images(recipe) == len(components.moments)
    stored = 0
    for shard in components.moments.manifest.shards:
        with safe_open(components.moments.folder / shard.name, framework="pt") as file:
            stored += size(file.get_tensor(name) for name in file.keys())  # noqa: SIM118
    assert latent_bytes(recipe, (4, 8, 8)) * len(components.moments) == stored
    off = replace(recipe, cache=replace(recipe.cache, enabled=False))
    assert latent_bytes(off, (4, 8, 8)) == 0


class Blank:
    """Nothing, at CLIP's width."""

    def encode(self, captions, num_tokens):
        count = len(captions)
        return TextFeatures(
            tokens=torch.zeros(count, num_tokens, 768),
            mask=torch.ones(count, num_tokens, dtype=torch.bool),
            pooled=torch.zeros(count, 768),
        )

    def truncated(self, captions, num_tokens):
        return []


def test_captions_of_an_image_are_those_of_a_bank(tmp_path):
    recipe = get_recipe("paper/cc12m-mmdit-256")
    captions = [f"image {number}" for number in range(5)]
    build_bank(
        captions, Blank, folder=tmp_path, fingerprint="", num_tokens=77, dtype=torch.float16
    )
    stored = 0
    for path in tmp_path.glob("*/*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored += size(file.get_tensor(name) for name in file.keys())  # noqa: SIM118
    assert text_bytes(recipe) * len(captions) == stored
    two = replace(recipe, text=replace(recipe.text, captions={"name": 1.0, "caption_a": 1.0}))
    assert text_bytes(two) == 2 * text_bytes(recipe)
    assert text_bytes(get_recipe("paper/mmdit-256")) == 0


def test_images_and_classes_are_known_or_said_not_to_be():
    assert num_training_images(get_recipe("paper/dit-256")) == IMAGENET_IMAGES
    assert num_training_images(get_recipe("paper/cc12m-dit-256")) == CC12M_IMAGES
    own = get_recipe("folder/mmdit-disentangled")
    assert num_training_images(own) is None
    few = replace(get_recipe("paper/dit-256"), data=ImagesConfig(max_pictures=5))
    assert num_training_images(few) == 5
    foreign = replace(own, data=NoDataConfig(resolution=64, num_classes=7))
    assert (num_training_images(foreign), num_classes_of(foreign)) == (None, 7)
    assert (num_classes_of(own), num_classes_of(get_recipe("openmoji/dit-entangled"))) == (
        1000,
        11,
    )
    assert isinstance(get_recipe("paper/cc12m-dit-256").conditioning.semantic, TextSemantic)
