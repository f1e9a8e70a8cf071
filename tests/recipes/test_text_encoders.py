# SPDX-License-Identifier: Apache-2.0
"""Text recipes at 256 pixels with tiny encoders, and any recipe turned into one for captions."""

import json
import math
from dataclasses import replace

import pytest
from noise_images import write_noise
from tiny_sd3_text import save_encoders

from pippin.cli.main import main
from pippin.cli.parsing.text_encoder_option import take_text_encoder
from pippin.cli.recipe_argument import find_recipe
from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError, difference
from pippin.evaluation.metrics.cost import meta_model
from pippin.recipes.checks import check_recipe
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.recipes.text_encoders import TEXT_ENCODERS, find_encoder, with_text_encoder
from pippin.runs.folder import RunFolder
from pippin.training.preview_prompts import check_preview_prompts, set_aside_other_prompts

CAPTIONS = ("red apple", "blue car")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of two CLIPs of widths 8 and 16, and a T5 of width 32."""
    return save_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Sixteen images with captions in text files."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(16):
        path = folder / f"{number}.png"
        write_noise(path, number, (48, 40))
        path.with_suffix(".txt").write_text(CAPTIONS[number % 2])
    return folder


def train_command(name, encoder, photos, autoencoder, place):
    """A recipe shrunk to two steps on a CPU."""
    small = {
        "text-encoder": encoder,
        "data.path": photos,
        "data.resolution": 32,
        "data.views": 1,
        "data.index-folder": place / "index",
        "autoencoder.source": autoencoder,
        "cache.folder": place / "caches",
        "text.folder": place / "text",
        "denoiser.depth": 2,
        "denoiser.width": 16,
        "denoiser.num-heads": 2,
        "train.images": 16,
        "train.batch-size": 8,
        "train.micro-batch-size": 4,
        "train.precision": "fp32",
        "train.device": "cpu",
        "train.log-every": 8,
        "train.validate-every": 16,
        "train.preview-every": 16,
        "sampling.steps": 2,
        "folder": place / "run",
    }
    words = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    return ["train", name, *words, "--train.preview-prompts", *CAPTIONS[::-1]]


@pytest.mark.parametrize(
    ("name", "encoder", "width", "tokens"),
    [
        ("folder/mmdit-b-256-text", 0, 8, 77),
        ("folder/pixart-b-256-text", 2, 32, 120),
        ("folder/mmdit-b-256", "minilm", 384, 77),
    ],
)
def test_text_recipes_train_with_clip_t5_and_the_embedded_encoder(
    encoders, photos, autoencoder_folder, tmp_path, name, encoder, width, tokens
):
    """Previews show the given prompts in turn."""
    source = encoders[encoder] if isinstance(encoder, int) else encoder
    assert main(train_command(name, source, photos, autoencoder_folder, tmp_path)) == 0
    recipe = Recipe.load(tmp_path / "run" / "config.json")
    semantic = recipe.conditioning.semantic
    assert recipe.text.source == (find_encoder(source).source,)
    assert (semantic.token_features, semantic.num_tokens) == (width, tokens)
    assert semantic.projection == ("mlp" if "pixart" in name else "linear")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    losses = [x["loss"] for x in map(json.loads, lines) if "loss" in x]
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    manifest = json.loads((tmp_path / "run" / "previews" / "manifest.json").read_text())
    assert [row["prompt"] for row in manifest["images"]] == [*CAPTIONS[::-1]] * 18


def test_one_option_makes_the_text_recipe_of_the_class_recipe():
    _, recipe, rest = find_recipe(["folder/mmdit-b-256", "--seed", "1", "--text-encoder=clip-l"])
    assert rest == ["--seed", "1"]
    own = get_recipe("folder/mmdit-b-256-text")
    assert set(difference(recipe, own)) == {"sampling.guidance.semantic_scale"}
    paper = get_recipe("paper/cc12m-mmdit-256-disentangled")
    assert own.conditioning == replace(paper.conditioning) and own.text == paper.text


@pytest.mark.parametrize("name", [n for n in RECIPES if n.startswith(("openmoji/", "folder/"))])
def test_every_small_recipe_reads_captions_by_any_encoder(name):
    for encoder in ("minilm", "clip-l"):
        recipe = with_text_encoder(get_recipe(name), encoder)
        check_recipe(recipe)
        semantic, facts = recipe.conditioning.semantic, TEXT_ENCODERS[encoder]
        assert isinstance(semantic, TextSemantic)
        assert semantic.token_features == facts.token_features
        assert set(recipe.conditioning.rules) == semantic.outputs
        meta_model(recipe.conditioning, recipe.denoiser, 3, 4)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_an_encoder_without_a_pooled_vector_is_refused_where_it_is_read():
    recipe = get_recipe("openmoji/mmdit-entangled-text")
    assert with_text_encoder(recipe, "clip-l").conditioning.semantic.pooled_features == 768
    with pytest.raises(ConfigError, match=r"pooled vector.* t5-large has none: take minilm, clip"):
        with_text_encoder(recipe, "t5-large")


def test_wrong_encoders_are_named_with_what_is_allowed(tmp_path, capsys):
    assert main(["show", "folder/mmdit-b-256", "--text-encoder", "clip"]) == 2
    said = capsys.readouterr().err
    assert "no text encoder 'clip'; near it are clip-l" in said and "or a folder" in said
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match="not of a BERT, CLIP or T5"):
        find_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 1e999}')
    with pytest.raises(ConfigError, match="not of a BERT, CLIP or T5"):
        find_encoder(str(tmp_path))
    for words in (["--text-encoder"], ["--text-encoder", "--seed"]):
        with pytest.raises(ValueError, match="needs a name or a folder"):
            take_text_encoder(words)
    with pytest.raises(ValueError, match="once; got minilm, clip-l"):
        take_text_encoder(["--text-encoder", "minilm", "--text-encoder=clip-l"])


def test_preview_prompts_need_a_model_of_text():
    recipe = get_recipe("folder/mmdit-b-256")
    prompted = replace(recipe, train=replace(recipe.train, preview_prompts=("a", "b")))
    with pytest.raises(ConfigError, match="gives 2 prompts, and this recipe reads label, not"):
        check_preview_prompts(prompted)
    check_preview_prompts(with_text_encoder(prompted, "minilm"))
    assert not difference(recipe, prompted)


def test_previews_of_other_prompts_are_set_aside(tmp_path):
    run, rows = RunFolder(tmp_path), [{"seed": 0, "prompt": "a"}, {"seed": 1, "prompt": "b"}]
    run.previews.mkdir()
    (run.previews / "manifest.json").write_text(json.dumps({"images": rows}))
    run.preview(8).write_bytes(b"x")
    set_aside_other_prompts(run, ["a", "b"], 16)
    assert run.preview(8).exists()
    set_aside_other_prompts(run, ["a", "c"], 16)
    aside = run.previews / "before-000000016"
    assert sorted(path.name for path in aside.iterdir()) == ["000000008.png", "manifest.json"]
    assert [path.name for path in run.previews.iterdir()] == ["before-000000016"]
    # Another resume before this grid, with a third list: the grids aside keep their manifest.
    (run.previews / "manifest.json").write_text(json.dumps({"images": rows[:1]}))
    set_aside_other_prompts(run, ["a", "d"], 16)
    assert json.loads((aside / "manifest.json").read_text()) == {"images": rows}
