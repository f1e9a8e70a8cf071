# SPDX-License-Identifier: Apache-2.0
"""A custom data set of two image shapes in two buckets: from folder to samples of each size."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from noise_images import write_noise
from processes import run_ranks
from rich.console import Console
from small_trainer import make_monitor

from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.control import Size
from pippin.data.config import ImagesConfig
from pippin.data.loader import LatentLoader
from pippin.data.moments import BucketedMoments
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mdtv2.config import MDTv2Config
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.denoisers.pixart.config import pixart
from pippin.denoisers.unet.config import unet
from pippin.distributed.world import World
from pippin.evaluation.runs.held_out import HeldOut
from pippin.images.files import read_image
from pippin.recipes.checks import check_recipe
from pippin.recipes.recipe import Recipe
from pippin.runs.checkpoint import load_checkpoint
from pippin.runs.components import Parts
from pippin.sampling.config import ControlRequest
from pippin.sampling.load import load_run
from pippin.sampling.request import resolve_controls
from pippin.training.train import build_trainer, train


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty-four portraits and twelve landscapes in two classes."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(36):
        size = (60 + number, 30) if number % 3 else (30, 70 + number)
        write_noise(folder / f"class {number % 2}" / f"{number}.png", number, size)
    return folder


@pytest.fixture(scope="module")
def own(recipe, photos, tmp_path_factory) -> Recipe:
    """The steps of four batches show both buckets."""
    data = ImagesConfig(
        path=str(photos),
        resolution=32,
        views=2,
        held_out_share=0.1,
        index_folder=str(tmp_path_factory.mktemp("index")),
        aspect_ratios=(0.5, 2.0),
        bucket_step=8,
    )
    return replace(recipe, data=data)


@pytest.fixture(scope="module")
def folder(own, tmp_path_factory) -> Path:
    """A run of the command line."""
    place = tmp_path_factory.mktemp("buckets")
    own.save(place / "given.json")
    given = ["--config", str(place / "given.json"), "--folder", str(place / "run")]
    assert main(["train", *given]) == 0
    return place / "run"


@pytest.fixture(scope="module")
def run(folder):
    return load_run(folder)


def sides(batch) -> tuple[int, int]:
    return tuple(batch.latents.shape[2:])


def test_a_run_trains_on_both_buckets_and_draws_squares_and_their_sizes(folder, capsys):
    assert (folder / "previews").is_dir()  # squares
    for size in ("24x48", "48x24", "32x32"):
        out = str(folder.parent / size)
        options = ["--size", size] if size != "32x32" else []
        assert main(["sample", str(folder), "--seeds", "0:2", "--out", out, *options]) == 0
        height, width = map(int, size.split("x"))
        for seed in (0, 1):
            (path,) = Path(out).rglob(f"*{seed:06}*.png")
            assert read_image(path).shape == (3, height, width)


def test_the_start_of_a_run_says_how_many_images_each_bucket_has(own, tmp_path):
    said = Console(file=(tmp_path / "said").open("w"), width=200)
    ratios = replace(own, data=replace(own.data, aspect_ratios=(0.125, 0.5, 2.0)))
    train(replace(ratios, train=replace(own.train, images=16)), tmp_path / "run", console=said)
    text = (tmp_path / "said").read_text()
    source = Parts(own, Console(quiet=True)).train_source
    landscapes = sum(
        size.width > size.height for size in map(source.original_size, range(len(source)))
    )
    wanted = f"0 at 8x88, {landscapes} at 24x48, {len(source) - landscapes} at 48x24"
    assert f"buckets (images at height x width): {wanted}" in text
    assert "fewer images than train.batch_size 16: 24x48; a step shows some of them more" in text


def test_a_run_that_was_cut_goes_on_to_the_same_bits(own, folder, tmp_path):
    class PowerCutError(Exception):
        pass

    def cut(model, images):
        if images == 48:
            raise PowerCutError

    place = tmp_path / "resumed"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr("pippin.training.train.preview_hook", lambda *_: make_monitor(1, cut))
        train(own, place)
    train(own, place, resume=True)
    first, second = (load_checkpoint(f / "checkpoints" / "64") for f in (folder, place))
    for part in ("model", "ema", "optimizer"):
        a, b = getattr(first, part), getattr(second, part)
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "denoiser",
    [
        MMDiTConfig(depth=1, width=16, num_heads=2, table_side=8),
        replace(dit("tiny", cross_attention=True, learn_variance=True), depth=1),
        replace(pixart("tiny", base_grid=4), depth=1),
        unet("tiny"),
    ],
    ids=lambda one: one.kind,
)
def test_each_denoiser_whose_positions_are_computed_trains_on_buckets(own, denoiser, tmp_path):
    train(
        replace(
            own,
            denoiser=denoiser,
            data=replace(own.data, max_pictures=8),
            train=replace(own.train, images=12, batch_size=4, preview_every=0, validate_every=0),
        ),
        tmp_path / "run",
    )
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert all(np.isfinite(json.loads(line)["loss"]) for line in lines)


def test_steps_draw_the_noise_of_their_own_shape(own):
    """And time and drops, which know no shape, are those of a run on squares."""
    parts = Parts(own, Console(quiet=True))
    assert isinstance(parts.moments, BucketedMoments)
    trainer = build_trainer(parts, Path("unused"))
    loader = LatentLoader(parts.moments, parts.autoencoder, batch_size=16, seed=own.seed)
    taken, backward = [], trainer.backward

    def watched(batch, draws):
        taken.append(draws)
        return backward(batch, draws)

    trainer.backward = watched
    shapes = []
    for batch, _ in zip(loader, range(6), strict=False):
        shapes.append(sides(batch))
        assert trainer.step(batch).finite
    assert set(shapes) == {(6, 12), (12, 6)}
    assert [tuple(draws.noise.shape[2:]) for draws in taken] == shapes
    squares = build_trainer(parts, Path("unused"))
    for step, draws in enumerate(taken):
        of_squares = squares.draw(step, (16, 4, 8, 8))
        assert torch.equal(of_squares.t, draws.t)
        assert torch.equal(of_squares.keep.semantic, draws.keep.semantic)


def test_held_out_loss_is_of_squares(run):
    assert HeldOut(run.parts).latents.shape[2:] == (8, 8)


def test_training_values_for_a_size_are_those_of_its_bucket(run):
    source = run.parts.train_source
    request, seeds = ControlRequest(ask="training"), range(12)
    for size in (Size(24, 48), Size(48, 24)):
        for control in resolve_controls(run, request, [k % 2 for k in seeds], seeds, size):
            assert source.config.view_size(control.original_size) == size
            height, width = control.crop_size
            assert (height > width) == (size.height > size.width)
    for control in resolve_controls(run, request, [0, 1], [0, 1], Size(32, 32)):
        assert control.crop_size.height == control.crop_size.width  # no bucket has this size
    (clean,) = resolve_controls(run, ControlRequest(ask="clean"), [0], [0], Size(24, 48))
    assert clean.crop_size == clean.original_size == (30, 60)


def test_mdtv2_is_refused_for_its_one_grid(own):
    denoiser = MDTv2Config(depth=4, width=16, num_heads=2, decoder_depth=2, grid=(4, 4))
    with pytest.raises(ConfigError, match=r"learned positions for 4 x 4 .*leave these out, or"):
        check_recipe(replace(own, denoiser=denoiser))
    check_recipe(replace(own, denoiser=denoiser, data=ImagesConfig(path="x", resolution=32)))


@pytest.mark.parametrize(
    ("data", "denoiser", "message"),
    [
        ({"bucket_step": 4}, {}, "multiple of 8, the autoencoder's factor 4 times the 2 that"),
        ({}, {"patch_size": 4}, "multiple of 16.*denoiser mmdit divides latents by; got 8"),
        ({}, {"table_side": 5}, "the bucket 24x48 has 6 patches.*table_side is 5"),
    ],
)
def test_sides_that_do_not_fit_are_refused(own, data, denoiser, message):
    wrong = replace(
        own, data=replace(own.data, **data), denoiser=replace(own.denoiser, **denoiser)
    )
    with pytest.raises(ConfigError, match=message):
        check_recipe(wrong)


def test_check_and_prepare_count_each_bucket(own, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ratios = ["--data.aspect-ratios", "0.25", "0.5", "2"]
    data = ["--data.resolution", "32", "--data.bucket-step", "8", *ratios]
    assert main(["data", "check", str(photos), "--sample", "4", "--device", "cpu", *data]) == 0
    said = capsys.readouterr().out
    rows = {
        words[0]: list(map(int, words[1:]))
        for words in map(str.split, said.splitlines())
        if words and words[0] in ("16x64", "24x48", "48x24")
    }
    assert rows.keys() == {"16x64", "24x48", "48x24"}
    assert sum(rows["48x24"]) == 24 and sum(rows["16x64"]) + sum(rows["24x48"]) == 12
    assert "side below that of their bucket" not in said
    assert "4 views at 32 pixels" in said
    options = ["--data.path", str(photos), "--data.views", "1", *data]
    assert main(["data", "prepare", "folder/mmdit-disentangled", *options]) == 0
    said = capsys.readouterr().out
    for name, counts in rows.items():
        assert f"bucket {name}: {counts[0]} images" in said


def test_what_works_on_squares_refuses_ratios(photos, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    path = f"--data.path {photos} --data.aspect-ratios 1".split()
    for command in (
        ["autoencoder", "train", "--out", str(tmp_path / "a"), *path],
        ["autoencoder", "measure", *path],
        ["evaluate", str(tmp_path / "images"), *path],
        ["bench", "folder/mmdit-disentangled", *path],
    ):
        assert main(command) == 2
        assert "squares of data.resolution" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "a").exists()


def six_steps(world: World, folder: Path, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Losses of the global batch and the latents' sides."""
    parts = Parts(recipe, Console(quiet=True))
    trainer = build_trainer(parts, folder, world)
    loader = LatentLoader(
        parts.moments,
        parts.autoencoder,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        rank=world.rank,
        world_size=world.size,
    )
    seen = [
        (trainer.step(batch).loss, *sides(batch))
        for batch, _ in zip(loader, range(6), strict=False)
    ]
    return {"loss": torch.tensor([one[0] for one in seen]), "sides": torch.tensor(seen)[:, 1:]}


@pytest.mark.parametrize(("size", "parallel"), [(2, "fsdp"), (4, "ddp")])
def test_processes_take_the_same_steps_of_the_same_shapes(own, folder, size, parallel, tmp_path):
    """The losses of one process, to the rounding of six steps in fp32."""
    recipe = replace(own, train=replace(own.train, parallel=parallel))
    alone = six_steps(World(), tmp_path, recipe)
    assert len({tuple(one) for one in alone["sides"].tolist()}) == 2
    for found in run_ranks(size, lambda *at: six_steps(*at, recipe), tmp_path / "n"):
        assert torch.equal(found["sides"], alone["sides"])
        torch.testing.assert_close(found["loss"], alone["loss"], rtol=1e-5, atol=0)


def test_show_names_the_buckets(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["show", "folder/mmdit-disentangled", "--data.aspect-ratios", "0.5", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "64 pixels, in buckets of 48x96, 64x64; costs are for a square" in said
