# SPDX-License-Identifier: Apache-2.0
"""The whole line with captions: cache, train, resume, sample by prompt, evaluate."""

import io
import json
import os
import time
from dataclasses import replace

import pytest
import torch
from processes import run_ranks
from rich.console import Console
from safetensors.torch import load_file

from pippin import rng
from pippin.cli.main import main
from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.encoders.config import TextConfig
from pippin.encoders.text import TextEncoder
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.images.folder import read_image
from pippin.runs.components import Components
from pippin.runs.prepare import prepare
from pippin.runs.text_inputs import ImageCaptions, prompt_features
from pippin.sampling.config import GuidanceConfig
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw
from pippin.training.train import train
from pippin.types import Conditions, Keep

RULE = TextSemantic(token_features=384, num_tokens=8, padding="noisy_replicate")


@pytest.fixture(scope="module")
def text_recipe(recipe, tmp_path_factory):
    text = TextConfig(
        captions={"name": 1.0, "tags": 3.0}, folder=str(tmp_path_factory.mktemp("text"))
    )
    conditioning = replace(recipe.conditioning, semantic=RULE, rules={"text": "attention"})
    return replace(recipe, conditioning=conditioning, text=text)


@pytest.fixture(scope="module")
def trained(text_recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "text"
    train(text_recipe, folder, console=Console(quiet=True))
    return folder


@pytest.fixture
def no_encoder(monkeypatch):
    """Whoever makes an encoder fails."""

    def fail(*_):
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr("pippin.runs.components.TextEncoder", fail)


def test_training_never_loads_an_encoder_where_captions_are_cached(
    text_recipe, trained, tmp_path, no_encoder
):
    train(text_recipe, tmp_path / "again", console=Console(quiet=True))
    weights = [
        load_file(sorted(f.glob("checkpoints/*"))[-1] / "model.safetensors")
        for f in (trained, tmp_path / "again")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_captions_are_mixed_padded_and_drawn_for_the_global_batch(text_recipe, trained):
    components = Components(text_recipe, Console(quiet=True))
    captions = components.captions
    indices = torch.arange(8)
    whole = captions(indices, 3, 8, slice(0, 8))
    halves = [captions(indices[p], 3, 8, p) for p in (slice(0, 4), slice(4, 8))]
    assert torch.equal(whole.tokens, torch.cat([half.tokens for half in halves]))
    other = captions(indices, 4, 8, slice(0, 8))
    assert not torch.equal(whole.tokens, other.tokens)
    steps = [captions(torch.zeros(64).long(), step, 64, slice(0, 64)).tokens for step in range(9)]
    first = torch.cat(steps)[:, :3]  # a caption's own tokens: the start and two more
    kinds = first.flatten(1).unique(dim=0)
    assert len(kinds) == 2  # name and tags
    shares = (first.flatten(1) == kinds[0]).all(dim=1).double().mean()
    assert min(shares, 1 - shares) == pytest.approx(0.25, abs=0.06)  # 576 draws: sd 0.018


def test_a_gpu_pads_its_own_captions_with_the_same_noise_for_any_part(
    text_recipe, trained, monkeypatch
):
    captions = Components(text_recipe, Console(quiet=True)).captions
    indices = torch.arange(24)
    on_cpu = captions(indices, 3, 24, slice(0, 24)).tokens
    drawn = rng.normal_rows
    monkeypatch.setattr(captions, "_device", torch.device("cuda"))
    monkeypatch.setattr(
        "pippin.rng.normal_rows", lambda *given, device: drawn(*given, device="cpu")
    )
    whole = captions(indices, 3, 24, slice(0, 24)).tokens
    halves = [captions(indices[p], 3, 24, p).tokens for p in (slice(0, 12), slice(12, 24))]
    assert torch.equal(torch.cat(halves), whole)
    assert torch.equal(whole[:, :3], on_cpu[:, :3])  # a caption's own
    assert not torch.equal(whole, on_cpu)


def test_a_prompt_is_read_as_captions_are_and_its_seed_decides_the_noise(text_recipe, trained):
    components = Components(text_recipe, Console(quiet=True))
    caption = components.captions.first[0]
    encoder = components.text_encoder
    a, b, c = (
        prompt_features(encoder, RULE, [caption, "x"], seeds).tokens[0]
        for seeds in ([5, 1], [5, 2], [6, 1])
    )
    assert torch.equal(a, b) and not torch.equal(a, c)
    silent = replace(RULE, padding="replicate")
    measured = ImageCaptions(
        components.train_source, text_recipe.text, silent, lambda: encoder, 0
    ).measured(torch.tensor([0]))
    here = prompt_features(encoder, silent, [caption], [0])
    torch.testing.assert_close(measured.tokens, here.tokens, rtol=2e-3, atol=2e-3)  # fp16 cache


def test_sample_by_prompt(trained, tmp_path, capsys):
    out = tmp_path / "samples"
    command = ["sample", str(trained), "--out", str(out), "--seeds", "0:4", "--steps", "2"]
    assert main([*command, "--prompts", "a red apple", "<b>"]) == 0
    assert "2 prompts for 4 images: each is used 2 times, in turn" in capsys.readouterr().err
    rows = json.loads((out / "manifest.json").read_text())["images"]
    assert [row["prompt"] for row in rows] == ["a red apple", "<b>"] * 2
    assert all((out / row["file"]).is_file() for row in rows)
    prompts = tmp_path / "prompts.txt"
    prompts.write_bytes("\ufeffone\u2028and\n\n  two \r\nthree\n".encode())
    more = ["--out", str(tmp_path / "more"), "--prompts-file", str(prompts)]
    assert main([*command[:2], *more, "--seeds", "0:2", "--steps", "2"]) == 0
    said = capsys.readouterr().err
    assert "3 prompts for 2 images: the last 1 are not used; --seeds 0:3 samples one" in said
    rows = json.loads((tmp_path / "more" / "manifest.json").read_text())["images"]
    assert [row["prompt"] for row in rows] == ["one\u2028and", "two"]
    (tmp_path / "latin-1.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "empty.txt").write_bytes(b"\xef\xbb\xbf\n \n")
    asked = [*command[:2], "--prompts", "red", "--seeds", "0:1", "--steps", "2"]
    shapes = {}
    for name, options in (
        ("plain", []),
        ("away", ["--negative-prompt", "blue"]),
        ("wide", ["--size", "16x32"]),
    ):
        guided = ["--guidance.semantic-scale", "3", *options, "--out", str(tmp_path / name)]
        assert main([*asked, *guided]) == 0
        (file,) = (tmp_path / name).glob("seed-*.png")
        shapes[name] = read_image(file).shape
    assert shapes == {"plain": (3, 32, 32), "away": (3, 32, 32), "wide": (3, 16, 32)}
    protocol = json.loads((tmp_path / "away" / "manifest.json").read_text())["protocol"]
    assert protocol["sampling.negative_prompt"] == "blue"
    capsys.readouterr()
    for wrong, message in (
        ([], "reads text: give --prompts"),
        (["--labels", "flags"], "reads text, not classes"),
        (["--prompts", "x", "--text-source", "nowhere/at/all"], "text encoder 'nowhere/at/all'"),
        (["--prompts", "x", "--size", "13x16"], "multiples of 4 pixels; got 13"),
        (["--prompts", "<b>\udcff"], "on the command line is not UTF-8 text"),
        (["--prompts-file", str(tmp_path / "latin-1.txt")], "latin-1.txt is not UTF-8 text"),
        (["--prompts-file", str(tmp_path / "empty.txt")], "empty.txt has no prompts: write one"),
    ):
        assert main([*command, *wrong, "--out", str(tmp_path / message[:5])]) == 2
        assert message in capsys.readouterr().err


def test_prompts_that_are_longer_than_the_model_reads_are_said_and_recorded(
    trained, tmp_path, capsys
):
    """The model reads 8 tokens, the start and the end among them."""
    out, long = tmp_path / "samples", "one two three four five six seven eight"
    negative = ["--negative-prompt", long.upper(), "--guidance.semantic-scale", "3"]
    command = ["sample", str(trained), "--out", str(out), "--steps", "2", *negative]
    assert main([*command, "--prompts", long, "short", "--seeds", "0:2"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("truncated prompt:") == 2
    assert f"'{long}' has 10 tokens and pippin/minilm reads 8; ignored: 'seven eight'" in said
    manifest = json.loads((out / "manifest.json").read_text())
    counts = {"encoder": "pippin/minilm", "tokens": 10, "read": 8}
    both = [{"prompt": text} | counts for text in (long, long.upper())]
    assert manifest["cut_prompts"] == both
    assert main([*command, "--prompts", "other", "--seeds", "7"]) == 0
    assert json.loads((out / "manifest.json").read_text())["cut_prompts"] == both


def test_captions_that_are_longer_than_the_model_reads_are_counted(text_recipe, tmp_path):
    rule = replace(RULE, num_tokens=4)  # two words
    recipe = replace(
        text_recipe,
        conditioning=replace(text_recipe.conditioning, semantic=rule),
        text=replace(text_recipe.text, folder=str(tmp_path / "text")),
        train=replace(text_recipe.train, images=16, validate_every=0, preview_every=0),
    )
    console = Console(record=True, file=io.StringIO(), width=300)
    prepare(recipe, console=console)
    prepared = console.export_text()
    train(recipe, tmp_path / "run", console=console)
    components = Components(recipe, Console(quiet=True))
    source = components.train_source
    encoder = components.text_encoder
    for kind in ("name", "tags"):
        captions = [source.captions(index)[kind] for index in range(len(source))]
        longer = {one.caption for one in encoder.truncated(captions, 4)}
        count = sum(caption in longer for caption in captions)
        assert 0 < count < len(captions) or kind == "tags"
        line = f"{count} of {len(captions)} captions '{kind}' ({count / len(captions):.1%}) have"
        assert line in prepared and line in console.export_text(clear=False)


def test_evaluation_has_retrieval_between_ceiling_and_floor(trained, tmp_path):
    run = load_run(trained, console=Console(quiet=True))
    found = {(m.name, m.subject): m for m in evaluate_run(run, trained)}
    for name in ("caption R@1", "caption R@5", "caption R@1 shuffled"):
        for subject in ("arm", "real"):
            measure = found[name, subject]
            assert measure.low <= measure.value <= measure.high
            assert measure.n == len(run.components.held_out_source)
    assert (trained / "evaluation" / "captions" / "grid.png").is_file()


def test_encoders_and_captions_that_do_not_fit_are_refused(text_recipe, tmp_path):
    rule = replace(RULE, token_features=100)
    conditioning = replace(text_recipe.conditioning, semantic=rule)
    text = replace(text_recipe.text, folder=str(tmp_path))
    recipe = replace(text_recipe, conditioning=conditioning, text=text)
    with pytest.raises(ConfigError, match=r"token_features is 100; text\.source .* gives 384"):
        train(recipe, tmp_path / "a", console=Console(quiet=True))
    recipe = replace(text_recipe, text=replace(text_recipe.text, captions={"poem": 1.0}))
    with pytest.raises(ConfigError, match="names poem; the images have name, style, tags"):
        train(recipe, tmp_path / "b", console=Console(quiet=True))


def test_a_killed_build_of_features_goes_on(text_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("pippin.data.cache.caption_cache.SHARD", 8)
    components = Components(text_recipe, Console(quiet=True))
    text = replace(text_recipe.text, folder=str(tmp_path))
    asked = []

    class Counting(TextEncoder):
        def encode(self, captions, num_tokens):
            asked.append(len(captions))
            if len(asked) == 3:
                raise KeyboardInterrupt
            return super().encode(captions, num_tokens)

    def build():
        return ImageCaptions(components.train_source, text, RULE, lambda: Counting(text), 0)

    with pytest.raises(KeyboardInterrupt):
        build()
    captions, before = build(), list(asked)
    build()
    assert asked == before and asked[:2] == [8, 8]
    total = len(
        {
            c
            for i in range(len(components.train_source))
            for c in map(components.train_source.captions(i).get, text.captions)
        }
    )
    assert sum(asked) == total + 1 + asked[2]  # the empty caption is one more
    assert captions.vectors().shape == (len(components.train_source), 384)


def test_a_negative_prompt_reaches_the_model(trained):
    run = load_run(trained, console=Console(quiet=True))
    with torch.no_grad():
        for place, weight in enumerate(run.model.parameters()):  # zero layers would hear nothing
            weight.add_(0.1 * rng.normal(tuple(weight.shape), "init", 0, place))
    guidance = GuidanceConfig(semantic_scale=4.0, reference="control")
    guided = replace(run.recipe.sampling, guidance=guidance)

    def drawn(negative):
        return draw(run, ["red"], [0], replace(guided, negative_prompt=negative))

    assert not torch.equal(drawn("blue"), drawn(None))
    plain = draw(run, ["red"], [0], replace(guided, guidance=GuidanceConfig()))
    away = (drawn("red").int() - plain.int()).abs().max()  # from itself: no guidance, but rounding
    assert int(away) <= 1


def test_one_process_of_two_encodes_the_captions(text_recipe, tmp_path, monkeypatch):
    """Also where the null condition is the empty caption, which the model is built with."""
    rule = replace(RULE, null="empty")
    recipe = replace(
        text_recipe,
        conditioning=replace(text_recipe.conditioning, semantic=rule),
        text=replace(text_recipe.text, folder=str(tmp_path / "text")),
        train=replace(text_recipe.train, images=16, validate_every=0, preview_every=0),
    )
    real = TextEncoder.encode

    def noted(self, captions, num_tokens):
        with (tmp_path / "encoders").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(1.5)  # in which the other one, if it does not wait, finds nothing cached
        return real(self, captions, num_tokens)

    monkeypatch.setattr(TextEncoder, "encode", noted)

    def work(world, at):
        train(recipe, tmp_path / "run", console=Console(quiet=True))
        return {"rank": world.rank, "process": os.getpid()}

    first, _ = run_ranks(2, work, tmp_path / "processes")
    assert set((tmp_path / "encoders").read_text().split()) == {str(first["process"])}
    assert (tmp_path / "run" / "checkpoints" / "16").is_dir()


def test_an_empty_null_keeps_its_mask_through_training_and_loading(text_recipe, tmp_path):
    rule = replace(RULE, padding="mask", null="empty")
    recipe = replace(
        text_recipe,
        conditioning=replace(text_recipe.conditioning, semantic=rule),
        train=replace(text_recipe.train, images=16, validate_every=0, preview_every=0),
    )
    train(recipe, tmp_path / "run", console=Console(quiet=True))
    run = load_run(tmp_path / "run", console=Console(quiet=True))
    empty = prompt_features(run.components.text_encoder, rule, [""], [0])
    assert empty.mask.tolist() == [[True, True] + [False] * 6]  # the start and the end
    assert torch.equal(run.model.conditioner.text_tokens.null_mask, empty.mask[0])
    gathered = run.components.model_with_null()  # what averages of shards are put into
    gathered.load_state_dict(run.model.state_dict())
    assert torch.equal(gathered.conditioner.text_tokens.null_mask, empty.mask[0])
    prompt = prompt_features(run.components.text_encoder, rule, ["red apple"], [0])
    dropped = Keep(semantic=torch.zeros(1).bool(), control=torch.ones(1).bool())
    control = run.components.moments.fetch(torch.tensor([0]), torch.tensor([0])).control
    prepared = run.model.prepare(Conditions(text=prompt, control=control), dropped)
    assert torch.equal(prepared.mask, empty.mask)


def test_alignment_is_logged_while_training(text_recipe, tmp_path):
    settings = {"quality_every": 64, "quality_samples": 5, "validate_every": 0, "preview_every": 0}
    recipe = replace(text_recipe, train=replace(text_recipe.train, **settings))
    train(recipe, tmp_path / "run", console=Console(quiet=True))
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    (line,) = (line for line in lines if "kid" in line)
    assert line["images"] == 64
    assert 0 <= line["alignment_low"] <= line["alignment"] <= line["alignment_high"] <= 1
    assert line["alignment"] * 5 == pytest.approx(round(line["alignment"] * 5))
