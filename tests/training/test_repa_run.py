# SPDX-License-Identifier: Apache-2.0
"""Runs with REPA, from images to samples: cached features, resume, sampling, plans."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch.nn.functional import interpolate

from pippin.cli.main import main
from pippin.config import ConfigError, fingerprint
from pippin.data.cache.cache_folders import list_caches
from pippin.data.cache.feature_cache import build_feature_cache
from pippin.data.views.views import make_view
from pippin.denoisers.unet.config import unet
from pippin.evaluation.features.efflite0 import EffLite0
from pippin.evaluation.metrics.cost import denoiser_flops
from pippin.planning.activations import activations
from pippin.planning.data_sizes import feature_bytes
from pippin.planning.devices import Cluster
from pippin.planning.plan import plan, stored_sizes
from pippin.planning.states import training_model
from pippin.recipes.checks import check_recipe
from pippin.runs.components import Components
from pippin.runs.trained import load_trained_weights
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw
from pippin.training.repa.config import RepaConfig
from pippin.training.repa.features import (
    EffLite0Maps,
    moments_with_features,
    training_moments,
)
from pippin.training.train import train

REPA = RepaConfig(encoder="efflite0", block=1, hidden_width=8)


def with_repa(recipe, **settings):
    return replace(recipe, train=replace(recipe.train, **{"repa": REPA, **settings}))


def part(folder, name="model", images=64):
    return load_file(folder / f"checkpoints/{images}/{name}.safetensors")


@pytest.fixture(scope="module")
def aligned(recipe, tmp_path_factory):
    """A recipe with REPA that fills a cache of its own, and its finished run."""
    folder = tmp_path_factory.mktemp("aligned")
    recipe = replace(recipe, cache=replace(recipe.cache, folder=str(folder / "caches")))
    recipe = with_repa(recipe, validate_every=0, preview_every=0)
    train(recipe, folder / "run", console=Console(quiet=True))
    return recipe, folder / "run"


def test_the_loss_is_logged_and_its_weights_are_not_averaged(aligned):
    _, folder = aligned
    lines = [json.loads(x) for x in (folder / "log.jsonl").read_text().splitlines()]
    logged = [line["repa"] for line in lines if "loss" in line]
    assert len(logged) == 4 and all(-1 <= value <= 1 for value in logged)
    assert logged[-1] < logged[0]
    projector = {name for name in part(folder) if name.startswith("projector.mlp.")}
    assert len(projector) == 6
    assert part(folder, "ema").keys() == part(folder).keys() - projector


def refuse(*_):
    raise AssertionError("all features are cached")


def test_a_killed_run_resumes_to_the_same_bits_from_the_cache(aligned, tmp_path, monkeypatch):
    recipe, folder = aligned
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/64")
    monkeypatch.setattr(EffLite0Maps, "encode", refuse)
    train(recipe, tmp_path / "run", resume=True, console=Console(quiet=True))
    for name in ("model", "ema", "optimizer"):
        whole, resumed = part(folder, name), part(tmp_path / "run", name)
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_another_encoder_is_refused_on_resume(aligned, tmp_path, monkeypatch):
    recipe, folder = aligned
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/64")
    monkeypatch.setattr("pippin.training.repa.features.RESIZE", "another rule")
    with pytest.raises(ValueError, match="was trained with features of the encoder"):
        train(recipe, tmp_path / "run", resume=True, console=Console(quiet=True))


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_its_weights_are_sampled_without_the_projector(aligned, weights):
    _, folder = aligned
    run = load_run(folder, weights=weights)
    assert run.model.projector is None and run.model.denoiser.aligned_block is None
    stored = part(folder, "model" if weights == "raw" else "ema")
    tensors = load_trained_weights(str(folder), weights).tensors
    assert tensors.keys() == {name for name in stored if not name.startswith("projector.")}
    assert draw(run, [0], [3]).shape == (1, 3, 32, 32)


def test_the_cache_holds_the_features_of_each_view(aligned):
    recipe, _ = aligned
    components, encoder = Components(recipe, Console(quiet=True)), EffLite0Maps()
    moments = moments_with_features(components, encoder)
    indices, views = torch.tensor([5, 0, 5]), torch.tensor([1, 0, 0])
    batch = moments.fetch(indices, views)
    assert batch.features.shape == (3, 112, 4, 4) and batch.features.dtype == torch.float16
    plain = components.moments.fetch(indices, views)
    assert torch.equal(batch.moments.mean, plain.moments.mean)
    source = components.train_source
    images = [make_view(source, i, v).image for i, v in zip([5, 0, 5], [1, 0, 0], strict=True)]
    maps = list(EffLite0(128).stages(torch.stack(images)))[3]  # 8 x 8 at stride 16
    expected = interpolate(maps, size=(4, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(batch.features.float(), expected, rtol=2e-3, atol=2e-3)
    assert not torch.equal(batch.features[0], batch.features[2])


def test_data_prepare_builds_the_features_that_training_reads(
    aligned, tmp_path, capsys, monkeypatch
):
    recipe, folder = aligned
    (trained,) = [c for c in list_caches(folder.parent / "caches") if c.is_features]
    recipe.save(tmp_path / "config.json")
    words = ["data", "prepare", "--config", str(tmp_path / "config.json")]
    words += ["--cache.folder", str(tmp_path / "caches")]
    assert main(words) == 0
    place = tmp_path / "caches" / trained.path.name
    assert f"features of 24 images x 2 views in {place}" in capsys.readouterr().out
    for path in trained.path.glob("shard-*.safetensors"):
        assert (place / path.name).read_bytes() == path.read_bytes()
    monkeypatch.setattr(EffLite0Maps, "encode", refuse)
    moved = replace(recipe, cache=replace(recipe.cache, folder=str(tmp_path / "caches")))
    moments = training_moments(Components(moved, Console(quiet=True)))
    assert moments.fetch(torch.tensor([0]), torch.tensor([1])).features.shape == (1, 112, 4, 4)
    assert main(words) == 0  # all is there
    plain = replace(moved, train=replace(moved.train, repa=RepaConfig()))
    without = training_moments(Components(plain, Console(quiet=True)))
    assert without.fetch(torch.tensor([0]), torch.tensor([1])).features is None


def test_features_are_equal_bits_in_any_batch_and_with_any_number_of_threads():
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 3, 32, 32), generator=draws, dtype=torch.uint8)
    encoder, threads, found = EffLite0Maps(), torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            for count in (20, 15, 4, 1):
                found.append(encoder.encode(images[:count], (4, 4)))
    finally:
        torch.set_num_threads(threads)
    for features in found[1:]:
        assert torch.equal(features, found[0][: len(features)])


def test_the_cache_is_found_by_encoder_and_grid(aligned, tmp_path):
    recipe, _ = aligned
    few = replace(recipe, data=replace(recipe.data, max_pictures=5))
    source = Components(few, Console(quiet=True)).train_source
    cache, encoded = replace(recipe.cache, folder=str(tmp_path)), []

    class Constant:
        def __init__(self, mark):
            self.fingerprint = mark

        def encode(self, images, grid):
            encoded.append(len(images))
            return torch.ones(len(images), 2, *grid)

    def build(mark, grid):
        return build_feature_cache(source, Constant(mark), grid, cache).folder

    first = build("a", (4, 4))
    assert build("a", (4, 4)) == first and sum(encoded) == 2 * len(source)
    assert len({first, build("b", (4, 4)), build("a", (2, 4))}) == 3
    caches = list_caches(tmp_path)
    assert len(caches) == 3 and all(one.is_features for one in caches)
    assert {one.content for one in caches} == {"features of openmoji 32 px train"}
    with pytest.raises(ValueError, match="must be finite and at most 65504"):
        bad = Constant("c")
        bad.encode = lambda images, grid: torch.full((len(images), 2, *grid), 1e6)
        build_feature_cache(source, bad, (4, 4), cache)


def test_a_plan_counts_the_projector_in_training_alone(recipe):
    aligned, shape = plan(with_repa(recipe), Cluster(devices=1)), (4, 8, 8)
    own = recipe.conditioning, recipe.denoiser, aligned.num_classes, 4
    plain = training_model(*own, RepaConfig())
    width, hidden, features, tokens = 16, 8, 112, 16
    weights = width * hidden + hidden * hidden + hidden * features
    parameters = weights + hidden + hidden + features
    assert aligned.parameters - sum(p.numel() for p in plain.parameters()) == parameters
    assert aligned.forward_flops == denoiser_flops(plain, shape)
    training = denoiser_flops(plain, shape, backward=True)
    assert aligned.training_flops - training == 3 * 2 * tokens * weights
    checkpoint = 3 * 4 * parameters + 6 * 4  # fp32 weights, Adam's two averages and step counts
    stored = stored_sizes(recipe, shape, aligned.num_classes).checkpoint
    assert aligned.checkpoint_bytes - stored == checkpoint
    assert feature_bytes(recipe, shape) == 0
    assert aligned.feature_bytes == 2 * (16 * 112 * 2 + 16)  # two views
    own_activations, others = (
        activations(*own[:2], shape, precision="fp32", repa=repa).per_image
        for repa in (REPA, RepaConfig())
    )
    hidden_states = 4 * tokens * (4 * hidden + features)
    assert 4 * tokens * 2 * hidden <= own_activations - others <= hidden_states


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_the_flops_of_a_projector_are_those_of_its_weights(recipe, kind):
    own, repa = (recipe.conditioning, recipe.denoiser, 1, 4), replace(REPA, projector=kind)
    model = training_model(*own, repa)
    matrices = [p for p in model.projector.parameters() if p.ndim > 1]
    added = 3 * 2 * 16 * sum(p.numel() for p in matrices)
    plain = denoiser_flops(training_model(*own, RepaConfig()), (4, 8, 8), backward=True)
    assert denoiser_flops(model, (4, 8, 8), backward=True) - plain == added


def test_planned_bytes_are_those_of_the_cache(aligned):
    recipe, folder = aligned
    planned = feature_bytes(recipe, (4, 8, 8)) * 24
    stored = [one for one in list_caches(folder.parent / "caches") if one.is_features]
    assert 0 <= stored[0].num_bytes - planned < 4000  # header and manifest


def test_settings_that_do_not_fit_are_refused(recipe):
    with pytest.raises(ConfigError, match="a transformer block, and denoiser unet has none"):
        check_recipe(replace(with_repa(recipe), denoiser=unet("tiny")))
    with pytest.raises(ConfigError, match="block of the denoiser, 1 to 2; got 3"):
        check_recipe(with_repa(recipe, repa=replace(REPA, block=3)))
    with pytest.raises(ConfigError, match=r"cached features, and cache\.enabled is False"):
        check_recipe(replace(with_repa(recipe), cache=replace(recipe.cache, enabled=False)))
    check_recipe(with_repa(recipe))


def test_it_is_part_of_the_fingerprint_where_it_is_on(recipe):
    assert fingerprint(with_repa(recipe, repa=RepaConfig())) == fingerprint(recipe)
    assert fingerprint(with_repa(recipe)) != fingerprint(recipe)
    assert type(recipe).from_dict(with_repa(recipe).to_dict()) == with_repa(recipe)
