# SPDX-License-Identifier: Apache-2.0
"""Widths that the files of text encoders state, against the loaded encoders."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from tiny_sd3_text import WORDS, save_encoders

from pippin.encoders.config import TextConfig
from pippin.encoders.text import TextEncoder
from pippin.encoders.text_widths import stated_encoder
from pippin.recipes.text_encoders import find_encoder


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return save_encoders(tmp_path_factory.mktemp("pipeline"))


def choices(sources):
    first, second, t5 = sources
    return [
        TextConfig(source=(first,)),
        TextConfig(source=(t5,)),
        TextConfig(source=(first, second), layer="penultimate"),
        TextConfig(source=(second, t5)),
        TextConfig(source=(first, second, t5), layer="penultimate", combine="sd3"),
    ]


def test_files_state_what_the_loaded_encoders_have(sources):
    for config in choices(sources):
        stated, loaded = stated_encoder(config), TextEncoder(config)
        assert stated.token_features == loaded.token_features
        assert stated.pooled_features == loaded.pooled_features
    assert stated_encoder(TextConfig(source=sources[:2])).max_tokens == 77
    assert stated_encoder(TextConfig(source=sources[2:])).max_tokens is None


def test_a_clip_with_its_image_tower_states_the_widths_of_its_text_tower(sources, tmp_path):
    """As the CLIPs of the hub do; their config.json has no width at its top level."""
    config = transformers.CLIPConfig(
        text_config=transformers.CLIPTextConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=6,
            bos_token_id=2,
            eos_token_id=3,
            pad_token_id=0,
        ).to_dict(),
        vision_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
        projection_dim=6,
    )
    whole = tmp_path / "whole"
    shutil.copytree(Path(sources[0]).with_name("tokenizer"), whole)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(whole)
    assert "hidden_size" not in json.loads((whole / "config.json").read_text())
    given = TextConfig(source=(str(whole),))
    stated, loaded = stated_encoder(given), TextEncoder(given)
    widths = (stated.token_features, stated.pooled_features, stated.max_tokens)
    assert widths == (loaded.token_features, loaded.pooled_features, 77) == (8, 6, 77)
    assert find_encoder(str(whole))[1:] == (8, 6, 77)
    values = json.loads((whole / "config.json").read_text())
    values["text_config"]["hidden_size"] = float("inf")
    (whole / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        ValueError, match=r"config\.json does not describe .*clip text encoder.*save it again"
    ):
        stated_encoder(given)


def test_widths_that_a_clip_leaves_out_are_its_defaults(sources, tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(sources[0], folder)
    shutil.copytree(Path(sources[0]).with_name("tokenizer"), folder, dirs_exist_ok=True)
    values = {"model_type": "clip", "text_config": {"model_type": "clip_text_model"}}
    (folder / "config.json").write_text(json.dumps(values))
    default = transformers.CLIPTextConfig()
    stated = stated_encoder(TextConfig(source=(str(folder),)))
    assert stated.token_features == default.hidden_size
    assert stated.pooled_features == default.projection_dim
    assert stated.max_tokens == default.max_position_embeddings
    assert find_encoder(str(folder))[1:3] == (default.hidden_size, default.projection_dim)


def test_incomplete_folders_are_refused_by_name(sources, tmp_path):
    folder = Path(sources[0])
    values = json.loads((folder / "config.json").read_text())
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"bare': .* holds no model\.safetensors"):
        stated_encoder(TextConfig(source=(str(bare),)))
    (bare / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="has no tokenizer; required"):
        stated_encoder(TextConfig(source=(str(bare),)))
    (bare / "config.json").write_text(json.dumps(values | {"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="is a 'gpt2'; supported: bert, clip"):
        stated_encoder(TextConfig(source=(str(bare),)))
