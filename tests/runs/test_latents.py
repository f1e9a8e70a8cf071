# SPDX-License-Identifier: Apache-2.0
"""Measured normalisation of latents: measured once, kept with the weights, undone by the same."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import run_ranks
from rich.console import Console

from pippin.cli.main import main
from pippin.data.config import ImagesConfig
from pippin.data.loader import LatentLoader
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import PIXELS, AutoencoderConfig
from pippin.encoders.normalisation import Affine
from pippin.recipes.table import RECIPES, get_recipe
from pippin.runs.components import Components
from pippin.runs.latents import SAMPLE, measure_latents
from pippin.runs.trained import load_trained_weights
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw, draw_into, sampling_protocol
from pippin.training.config import InitConfig
from pippin.training.train import train

QUIET = Console(quiet=True)


def write_coloured(folder: Path, count: int, classes: int = 2) -> Path:
    """Images of one strong colour each, with a diagonal: far from drawings on white."""
    for number in range(count):
        colour = [37 * number % 256, (91 * number + 60) % 256, (13 * number + 120) % 256]
        pixels = np.full((72, 72, 3), colour, dtype=np.uint8)
        pixels[np.arange(72), np.arange(72)] = 255 - np.array(colour)
        place = folder / f"class {number % classes}" / f"{number:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    return folder


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("coloured"), 48)


@pytest.fixture(scope="module")
def own(recipe, coloured, tmp_path_factory):
    """On coloured images at 32 pixels, behind the random autoencoder."""
    data = ImagesConfig(
        path=str(coloured),
        resolution=32,
        views=2,
        held_out_share=0.25,
        index_folder=str(tmp_path_factory.mktemp("index")),
    )
    autoencoder = replace(recipe.autoencoder, normalisation="measured")
    quiet = replace(recipe.train, validate_every=0, preview_every=0)
    return replace(recipe, data=data, autoencoder=autoencoder, train=quiet)


@pytest.fixture(scope="module")
def trained(own, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "measured"
    train(own, folder, console=QUIET)
    return folder


def state(folder):
    (path,) = folder.glob("checkpoints/64/state.json")
    return json.loads(path.read_text())


def said(work):
    """Text that a function prints on its console."""
    console = Console(file=io.StringIO(), width=1000)
    work(console)
    return console.file.getvalue()


def test_recipes_whose_images_the_autoencoder_was_not_measured_on_measure_them():
    for name in RECIPES:
        autoencoder = get_recipe(name).autoencoder
        unlike = name.startswith(("folder/", "shapes/")) and autoencoder.source != PIXELS
        assert autoencoder.normalisation == ("measured" if unlike else "weights")


def test_latents_of_coloured_images_have_rms_1_and_the_first_loss_of_drawings(coloured, tmp_path):
    """Behind the shipped autoencoder, whose own numbers are those of drawings on white."""
    base = get_recipe("folder/mmdit-disentangled")
    base = replace(
        base,
        data=ImagesConfig(path=str(coloured), views=2, index_folder=str(tmp_path)),
        cache=replace(base.cache, folder=str(tmp_path / "caches")),
        train=replace(base.train, images=16, batch_size=16, device="cpu", log_every=16),
    )
    drawings = get_recipe("openmoji/mmdit-disentangled")
    drawings = replace(
        drawings,
        data=replace(drawings.data, max_pictures=48, views=2),
        cache=base.cache,
        train=base.train,
    )
    unlike = replace(base, autoencoder=AutoencoderConfig())
    rms, loss, lines = {}, {}, {}
    for name, one in (("measured", base), ("weights", unlike), ("drawings", drawings)):
        components = Components(one, QUIET)
        loader = iter(
            LatentLoader(components.moments, components.autoencoder, batch_size=32, seed=0)
        )
        latents = torch.cat([next(loader).latents for _ in range(4)])
        rms[name] = float(latents.square().mean().sqrt())
        quiet = replace(one, train=replace(one.train, validate_every=0, preview_every=0))
        lines[name] = said(
            lambda console, r=quiet, n=name: train(r, tmp_path / n, console=console)
        )
        log = (tmp_path / name / "log.jsonl").read_text().splitlines()
        loss[name] = json.loads(log[0])["loss"]
    assert rms["measured"] == pytest.approx(1, abs=0.05)
    assert rms["weights"] > 2 and rms["drawings"] == pytest.approx(1, abs=0.1)
    # Of weights that predict nothing the loss of rectified flow is 1 + RMS^2; a batch has 16.
    assert loss["drawings"] == pytest.approx(2, rel=0.15)
    assert loss["measured"] == pytest.approx(2, rel=0.15)
    assert loss["weights"] > 4
    assert "normalised by statistics of" in lines["measured"]
    assert "outside 0.7 to 1.4" in lines["weights"] and "measured makes it 1" in lines["weights"]
    assert "latents:" not in lines["drawings"]


@pytest.mark.parametrize("cached", [True, False])
def test_batches_have_rms_1_with_a_cache_and_without_one(own, cached):
    components = Components(replace(own, cache=replace(own.cache, enabled=cached)), QUIET)
    loader = iter(LatentLoader(components.moments, components.autoencoder, batch_size=32, seed=0))
    latents = torch.cat([next(loader).latents for _ in range(4)])
    for channel in latents.transpose(0, 1).flatten(1):
        assert float(channel.square().mean().sqrt()) == pytest.approx(1, abs=0.1)
    assert float(latents.square().mean().sqrt()) == pytest.approx(1, abs=0.05)


def test_the_numbers_are_the_same_bits_for_any_number_of_processes(own, trained, tmp_path):
    """With a cache, and without one, where only rank 0 measures."""
    uncached = replace(own, cache=replace(own.cache, enabled=False))
    train(uncached, tmp_path / "one", console=QUIET)
    for name, one, wanted in (
        ("cached", own, state(trained)["latents"]),
        ("online", uncached, state(tmp_path / "one")["latents"]),
    ):

        def work(world, at, recipe=one, folder=tmp_path / name):
            train(recipe, folder, console=QUIET)
            return {}

        run_ranks(2, work, tmp_path / f"processes-{name}")
        assert state(tmp_path / name)["latents"] == wanted
    for which in ("mean", "std"):  # another batch of the encoder rounds otherwise
        both = [state(folder)["latents"][which] for folder in (trained, tmp_path / "one")]
        assert both[0] == pytest.approx(both[1], rel=1e-5, abs=1e-5)
    assert state(trained)["latents"]["images"] == len(Components(own, QUIET).train_source)


def test_a_sample_is_chosen_by_the_seed_of_the_data(own, monkeypatch):
    moments = Components(own, QUIET).moments
    monkeypatch.setattr("pippin.runs.latents.SAMPLE", 8)
    first, again, other = (measure_latents(moments, "a", seed) for seed in (0, 0, 1))
    assert first == again != other and first.images == 8 < SAMPLE


def test_images_of_several_shapes_are_measured_together(own):
    buckets = replace(own.data, aspect_ratios=(0.5, 1.0), bucket_step=8)
    found = Components(replace(own, data=buckets), QUIET).measured_latents
    assert found.images == len(Components(own, QUIET).train_source)


def test_weights_are_sampled_by_the_numbers_they_were_trained_on(own, trained, tmp_path):
    """Whatever has become of the images since; with a cache that other numbers do not change."""
    run = load_run(trained, console=QUIET)
    before = draw(run, [0, 1], [3, 4])
    protocol = sampling_protocol(run, run.recipe.sampling)
    assert protocol["autoencoder"] != run.components.raw_autoencoder.fingerprint
    draw_into(run, [0], [3], run.recipe.sampling, tmp_path / "samples")
    moved = replace(own, data=replace(own.data, path=str(write_coloured(tmp_path / "new", 30))))
    assert Components(moved, QUIET).latents != run.components.latents
    again = load_run(trained, console=QUIET, recipe=moved)
    assert again.components.latents == run.components.latents
    assert torch.equal(draw(again, [0, 1], [3, 4]), before)
    plain = replace(own, autoencoder=replace(own.autoencoder, normalisation="weights"))
    folder = Path(own.cache.folder)
    caches = sorted(folder.iterdir())
    _ = Components(plain, QUIET).moments
    assert sorted(folder.iterdir()) == caches
    with pytest.raises(ValueError, match=r"trained with autoencoder\.normalisation measured; the"):
        load_run(trained, console=QUIET, recipe=plain)
    run.components.autoencoder = run.components.raw_autoencoder
    with pytest.raises(ValueError, match=r"autoencoder: '\w+' there, '\w+' here"):
        draw_into(run, [0], [4], run.recipe.sampling, tmp_path / "samples")


def test_another_autoencoder_of_the_same_name_is_refused(own, trained, tmp_path):
    place = tmp_path / "autoencoder"
    shutil.copytree(own.autoencoder.source, place)
    moved = replace(own, autoencoder=replace(own.autoencoder, source=str(place)))
    load_run(trained, console=QUIET, recipe=moved)  # the same weights elsewhere
    other = Autoencoder.from_folder(place)
    other.with_affine(Affine(other.shift + 1, other.scale)).save(place)
    with pytest.raises(ValueError, match=r"has the fingerprint .*measured was trained with"):
        load_run(trained, console=QUIET, recipe=moved)


def test_a_stopped_run_goes_on_by_the_numbers_it_began_with(own, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    shutil.rmtree(folder / "checkpoints" / "64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pippin.runs.components.measure_latents", None)  # nobody measures again
        train(own, folder, resume=True, console=QUIET)
    assert state(folder) == state(trained)
    plain = replace(own, autoencoder=replace(own.autoencoder, normalisation="weights"))
    with pytest.raises(ValueError, match=r"autoencoder\.normalisation: 'measured' -> 'weights'"):
        train(plain, folder, resume=True, console=QUIET)


def test_a_run_of_before_goes_on_by_the_autoencoder_s_numbers(own, tmp_path, capsys):
    """By its recorded recipe, which does not name the setting."""
    plain = replace(own, autoencoder=replace(own.autoencoder, normalisation="weights"))
    train(plain, tmp_path / "run", console=QUIET)
    config = tmp_path / "run" / "config.json"
    record = json.loads(config.read_text())
    del record["autoencoder"]["normalisation"], record["content_sha256"]
    config.write_text(json.dumps(record))
    assert "latents" not in state(tmp_path / "run")
    command = ["train", "--config", str(config), "--folder", str(tmp_path / "run")]
    assert main([*command, "--resume", "True"]) == 0
    assert load_run(tmp_path / "run", console=QUIET).components.latents is None


def test_an_export_holds_the_numbers(trained, tmp_path):
    run = load_run(trained, console=QUIET)
    assert main(["export", str(trained), str(tmp_path / "model")]) == 0
    exported = load_run(tmp_path / "model", console=QUIET)
    assert exported.components.latents == run.components.latents
    assert torch.equal(draw(exported, [0, 1], [3, 4]), draw(run, [0, 1], [3, 4]))


def test_damaged_numbers_are_refused_by_name(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for wrong in ({"mean": [0.0]}, state(trained)["latents"] | {"std": [0.0] * 4}):
        path = run / "checkpoints" / "64" / "state.json"
        values = state(trained) | {"latents": wrong}
        del values["state_sha256"]  # as of a checkpoint that was written by another program
        path.write_text(json.dumps(values))
        with pytest.raises(ValueError, match="64: its statistics of latents are damaged"):
            load_trained_weights(str(run))


def test_a_run_that_starts_from_weights_takes_their_numbers(own, trained, tmp_path):
    """Others would show them latents that they have not learned."""
    ours = state(trained)["latents"]
    path = str(write_coloured(tmp_path / "new", 30))
    tuned = replace(own, data=replace(own.data, path=path), init=InitConfig(run=str(trained)))
    lines = said(lambda console: train(tuned, tmp_path / "tuned", console=console))
    assert state(tmp_path / "tuned")["latents"] == ours
    assert "normalised by statistics of" in lines
    plain = replace(tuned, autoencoder=replace(own.autoencoder, normalisation="weights"))
    with pytest.raises(ValueError, match=r"init\.run .*read latents that were normalised by meas"):
        train(plain, tmp_path / "refused", console=QUIET)


def test_a_run_that_starts_from_older_weights_takes_those_of_the_autoencoder(
    own, finished_run, tmp_path, monkeypatch
):
    monkeypatch.setattr("pippin.runs.latents.USUAL_RMS", (5.0, 6.0))
    start = InitConfig(run=str(finished_run), transfer=("classes",))
    lines = said(lambda c: train(replace(own, init=start), tmp_path / "tuned", console=c))
    found = state(tmp_path / "tuned")["latents"]
    assert (found["mean"], found["std"], found["images"]) == ([0.0] * 4, [1.0] * 4, 0)
    assert "normalised by the statistics of init.run, their root mean square is" in lines
    run = load_run(tmp_path / "tuned", console=QUIET)
    assert torch.equal(run.components.autoencoder.scale, run.components.raw_autoencoder.scale)


def test_latents_that_are_all_alike_are_refused_but_for_other_numbers(own, tmp_path):
    """Here of an autoencoder that tells no image from another."""
    blind = Autoencoder.from_folder(Path(own.autoencoder.source))
    with torch.no_grad():
        blind.network.quant_conv.weight.zero_()
    blind.save(tmp_path / "blind")
    alike = replace(own, autoencoder=replace(own.autoencoder, source=str(tmp_path / "blind")))
    with pytest.raises(ValueError, match=r"by measured statistics: channel 0 of 4 is constant"):
        train(alike, tmp_path / "measured", console=QUIET)
    assert not (tmp_path / "measured" / "config.json").exists()
    plain = replace(alike, autoencoder=replace(alike.autoencoder, normalisation="weights"))
    train(plain, tmp_path / "weights", console=QUIET)


def test_data_check_says_what_the_autoencoder_makes_of_the_images(coloured, tmp_path, capsys):
    command = ["data", "check", str(coloured), "--sample", "16", "--device", "cpu"]
    assert main([*command, "--data.index-folder", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "on 16 views, normalised by the statistics of pippin/openmoji-f4 note: outside 0.7"
        in shown
    )
    assert "other recipes do with --autoencoder.normalisation measured" in shown
