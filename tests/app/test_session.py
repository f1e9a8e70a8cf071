# SPDX-License-Identifier: Apache-2.0
"""Images of the playground: as they stream, and against the command and program it shows."""

import shlex
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from pippin.app.commands import python_program, sample_commands
from pippin.app.play_model import open_model
from pippin.app.session import PlaySession
from pippin.app.updates import MEMORY_ADVICE, describe, updates
from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.sampling.config import GuideChoice
from pippin.sampling.sample import draw


def images_of(session, sheet):
    """(request, seed) -> pixels."""
    batches = list(session.stream(sheet))
    return {(image.request, image.seed): image.pixels for batch in batches for image in batch}


def test_images_stream_in_batches_and_are_those_of_draw(session, model, form):
    sheet = session.images(session.read(form))
    (request,) = sheet.requests
    sizes = [len(batch) for batch in session.stream(sheet)]
    assert sizes == [4, 1] and sheet.total == 5
    assert request.config.control.original_size == (64, 64)
    assert request.config.control.crop_size == (51, 51)
    assert request.config.control.crop_corner == (13, 0)
    streamed = torch.stack([*images_of(session, sheet).values()])
    drawn = draw(model.run, [1] * 5, range(3, 8), request.config)
    assert torch.equal(streamed, drawn)
    assert not torch.equal(streamed[0], streamed[1])


def test_the_command_draws_the_same_pixels(session, form, tmp_path, capsys):
    sheet = session.images(session.read(form))
    command = shlex.split(sample_commands(session.models, sheet))
    assert command[:2] == ["pippin", "sample"]
    assert main([*command[1:], "--out", str(tmp_path / "out"), "--quiet"]) == 0
    for (_, seed), pixels in images_of(session, sheet).items():
        (file,) = (tmp_path / "out").glob(f"*{seed:06d}*.png")
        assert torch.equal(pil_to_tensor(Image.open(file)), pixels)


def test_the_program_draws_the_same_pixels(session, form):
    sheet = session.grid(session.read(form), (1.0, 3.0), (1.0, 2.0))
    names = {}
    exec(python_program(session.models, sheet), names)
    drawn = images_of(session, sheet)
    assert len(names["images"]) == len(drawn) == 4
    source = session.models[0].source
    for (request, _), pixels in drawn.items():
        assert torch.equal(names["images"][source, request.label], pixels[None])


def test_models_side_by_side_advance_together_with_equal_seeds(pair, form):
    sheet = pair.images(pair.read(form))
    order = [(request.model, seeds) for request, seeds in sheet.batches()]
    assert order == [(0, (3, 4, 5, 6)), (1, (3, 4, 5, 6)), (0, (7,)), (1, (7,))]
    assert sheet.total == 10


def test_a_sweep_covers_the_range_of_a_control(session, form):
    control = {one.name: one for one in session.controls}["original_size"]
    sheet = session.sweep(session.read(form), "original_size", 4)
    sides = [request.config.control.original_size[0] for request in sheet.requests]
    assert sides == [24, 53, 116, 256]  # equal ratios
    assert (control.low, control.high) == (24, 256)
    assert sheet.columns == ("24", "53", "116", "256") and sheet.title == control.label
    assert sheet.requests[0].label == "original size 24"
    assert all(request.seeds == (3,) for request in sheet.requests)


@pytest.fixture(scope="module")
def autoguided(finished_run, model):
    """The small run guided by its first checkpoint, beside itself without a guide."""
    return PlaySession([open_model(str(finished_run), guide=GuideChoice(None, 32, None)), model])


def test_a_guide_is_part_of_command_and_program(autoguided, form):
    scales = {"semantic_scale": 1.0, "guide_scale": 2.5, "rescale": 0.5, "count": 1}
    sheet = autoguided.images(autoguided.read(form | scales))
    command, plain = sample_commands(autoguided.models, sheet).splitlines()
    assert "--guidance.guide-scale 2.5 --guidance.rescale 0.5" in command
    assert "--guide-checkpoint 32" in command
    assert "guide" not in plain.replace("guidance", "")  # the second model has none
    names = {}
    exec(python_program(autoguided.models, sheet), names)  # one key: both have one source
    pixels = images_of(autoguided, sheet)
    guided, unguided = (pixels[request, 3] for request in sheet.requests)
    assert not torch.equal(guided, unguided)
    assert autoguided.guide_name == "own at 32 images"


def test_a_guide_is_off_at_1_and_replaces_lambda(autoguided, form):
    off = autoguided.images(autoguided.read(form)).requests[0].config
    assert not off.autoguided and not off.guide_settings
    with pytest.raises(ConfigError, match="set lambda and beta to 1, or the guide scale to 1"):
        autoguided.images(autoguided.read(form | {"guide_scale": 2.0}))
    assert {"guide_scale", "rescale"} <= autoguided.sweeps.keys()


@pytest.mark.parametrize(
    "name", ["semantic_scale", "control_scale", "rescale", "steps", "crop_left"]
)
def test_every_sweep_changes_one_setting(session, form, name):
    sheet = session.sweep(session.read(form), name, 3)
    configs = [request.config for request in sheet.requests]
    assert len(set(configs)) == 3
    commands = sample_commands(session.models, sheet).splitlines()
    assert len(commands) == len(set(commands)) == 3


def test_a_sweep_of_the_crop_size_ends_at_the_whole_image_without_a_position(session, form):
    sheet = session.sweep(session.read(form | {"crop_top": 1.0}), "crop_size", 3)
    requests = [request.config.control for request in sheet.requests]
    assert [request.crop_corner[0] > 0 for request in requests] == [True, True, False]
    assert requests[-1].crop_size is None


def test_a_grid_has_every_pair_of_scales(session, form):
    sheet = session.grid(session.read(form), (1.0, 3.0), (0.5, 1.0, 2.0))
    scales = [
        (request.config.guidance.control_scale, request.config.guidance.semantic_scale)
        for request in sheet.requests
    ]
    assert scales == [(b, s) for b in (0.5, 1.0, 2.0) for s in (1.0, 3.0)]
    assert sheet.rows == ("beta 0.5", "beta 1", "beta 2")
    assert sheet.columns == ("lambda 1", "lambda 3")


def test_values_of_lambda_without_guidance_have_no_negative_prompt(session, form, monkeypatch):
    cells, request = [], session._request

    def recorded(index, cell, *rest):  # the small run reads classes, and takes no such prompt
        cells.append(cell)
        return request(index, replace(cell, negative_prompt=""), *rest)

    monkeypatch.setattr(session, "_request", recorded)
    settings = session.read(form | {"negative_prompt": "green"})
    session.sweep(settings, "semantic_scale", 3)
    session.grid(settings, (1.0, 3.0), (1.0,))
    assert [(cell.semantic_scale == 1, cell.negative_prompt) for cell in cells] == [
        (True, ""),
        (False, "green"),
        (False, "green"),
        (True, ""),
        (False, "green"),
    ]
    session.sweep(settings, "steps", 2)
    assert cells[-1].negative_prompt == "green"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "no such class"}, "no class &#39;no such class&#39;"),
        ({"prompt": "<b>x</b>"}, "&lt;b&gt;x&lt;/b&gt;"),
        ({"steps": float("nan")}, "steps must be a whole number from 1 to 1000; got nan"),
        ({"crop_size": 1.0}, "the crop is the whole image"),
        ({"negative_prompt": "green", "semantic_scale": 1.0}, "has no effect without guidance"),
    ],
)
def test_errors_are_words_on_the_page(session, form, changes, words):
    values = form | changes
    (update,) = updates(session, lambda: (session.images(session.read(values)), ()))
    assert "play-problem" in update.status and words in update.status
    assert not update.gallery and not update.command


def test_an_error_while_drawing_leaves_the_finished_images(session, form, monkeypatch):
    sheet = session.images(session.read(form))
    batches = iter([next(session.stream(sheet))])

    def failing(_):
        yield next(batches)
        raise FloatingPointError("the model gave non-finite latents")

    monkeypatch.setattr(session, "stream", failing)
    start, first, last = updates(session, lambda: (sheet, ("a note",)))
    assert "0 of 5 images" in start.status and "a note" in start.status
    assert first.gallery.count("<img ") == last.gallery.count("<img ") == 4
    assert last.gallery.count("play-empty") == 1
    assert "non-finite" in last.status and last.command == start.command != ""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_full_memory_gives_advice(error):
    assert describe(error) == MEMORY_ADVICE


def test_text_and_classes_do_not_stand_side_by_side(model):
    text = replace(model)
    text.__dict__["kind"] = "text"
    with pytest.raises(ConfigError, match="must read the same"):
        PlaySession([model, text])


def test_only_a_text_model_of_emoji_says_which_prompts_it_knows(session, model):
    text = replace(model)
    text.__dict__["kind"] = "text"
    of_text = PlaySession([text])
    assert of_text.defaults.prompt == "smiling cat" and "names of emoji" in of_text.prompt_hint
    assert session.defaults.prompt == session.class_names[0] and session.prompt_hint == ""


def test_controls_that_training_kept_constant_are_named(model, monkeypatch):
    monkeypatch.setattr(type(model), "constant_controls", lambda _: ("flip", "original size"))
    (remark,) = PlaySession([model]).remarks()
    assert "also reads flip, original size. All its training images had the same" in remark
