# SPDX-License-Identifier: Apache-2.0
"""Widths that the files of text encoders state, against the loaded encoders."""

import json
from pathlib import Path

import pytest
from tiny_sd3_text import save_encoders

from pippin.encoders.config import TextConfig
from pippin.encoders.text import TextEncoder
from pippin.encoders.text_widths import stated_encoder


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
