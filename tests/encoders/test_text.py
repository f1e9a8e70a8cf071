# SPDX-License-Identifier: Apache-2.0
"""Text encoders through the real loading code, on tiny checkpoints with random weights."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_tokenizer import word_tokenizer

from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.encoders.config import TextConfig
from pippin.encoders.text import MINILM, TextEncoder, encoder_fingerprint
from pippin.runs.text_inputs import check_encoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "apple", "car", "<", ">"]
CAPTIONS = ["red apple", "blue car red apple blue", ""]


def save_tokenizer(folder):
    ends = ("[CLS]", "[SEP]")
    result = word_tokenizer(WORDS, ends, cls_token="[CLS]", sep_token="[SEP]")
    result.save_pretrained(folder)


def bert():
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    return transformers.BertModel(config)


def clip(width=16, projection=12):
    config = transformers.CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=32,
        projection_dim=projection,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=32,
        eos_token_id=3,
        bos_token_id=2,
        pad_token_id=0,
    )
    return transformers.CLIPTextModelWithProjection(config)


def t5():
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    return transformers.T5EncoderModel(config)


MODELS = {"bert": bert, "clip": clip, "t5": t5}


def checkpoint(folder, kind, seed=0, **settings):
    torch.manual_seed(seed)
    model = MODELS[kind](**settings).eval()
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder), model


@pytest.fixture(autouse=True)
def quiet_generator():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("kind", MODELS)
def test_gives_what_the_library_gives(tmp_path, kind):
    source, model = checkpoint(tmp_path, kind)
    encoder = TextEncoder(TextConfig(source=(source,)))
    result = encoder.encode(CAPTIONS, 9)
    ids = torch.tensor(
        [[2, 4, 6, 3, 0, 0, 0, 0, 0], [2, 5, 7, 4, 6, 5, 3, 0, 0], [2, 3, 0, 0, 0, 0, 0, 0, 0]]
    )
    mask = ids != 0
    with torch.no_grad():
        given = {} if kind == "clip" else {"attention_mask": mask}
        expected = model(input_ids=ids, **given).last_hidden_state
    torch.testing.assert_close(result.tokens, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(result.mask, mask)
    assert encoder.token_features == 16
    assert encoder.pooled_features == {"bert": 16, "clip": 12, "t5": None}[kind]
    if kind == "t5":
        assert result.pooled is None
    elif kind == "bert":
        mean = torch.stack([row[m].mean(0) for row, m in zip(expected, mask, strict=True)])
        torch.testing.assert_close(result.pooled, mean / mean.norm(dim=1, keepdim=True))
    else:
        with torch.no_grad():
            torch.testing.assert_close(result.pooled, model(input_ids=ids).text_embeds)


@pytest.mark.parametrize("kind", MODELS)
def test_captions_that_are_longer_than_what_is_read_are_named(tmp_path, kind):
    source, _ = checkpoint(tmp_path, kind)
    encoder = TextEncoder(TextConfig(source=(source,)))
    (cut,) = encoder.truncated([*CAPTIONS, "\udcff red"], 5)
    assert (cut.caption, cut.encoder, cut.tokens, cut.read) == (CAPTIONS[1], source, 7, 5)
    assert cut.unread == "apple blue"  # five tokens hold the start, three words and the end
    assert encoder.truncated([CAPTIONS[1]], 7) == encoder.truncated([], 2) == []
    read, same = encoder.encode([CAPTIONS[1], "blue car red"], 5).rows(slice(0, 2)).tokens
    assert torch.equal(read, same)  # so the words that are named are those that count for nothing


def test_a_tokenizer_that_cuts_at_the_start_says_what_is_not_read(tmp_path):
    source, _ = checkpoint(tmp_path, "bert")
    encoder = TextEncoder(TextConfig(source=(source,)))
    encoder._parts[0].tokenizer.truncation_side = "left"
    (cut,) = encoder.truncated([CAPTIONS[1]], 5)
    assert cut.unread == "blue car"


def test_a_pair_stands_side_by_side(tmp_path):
    first, small = checkpoint(tmp_path / "a", "clip", width=8)
    second, large = checkpoint(tmp_path / "b", "clip", 1, width=16, projection=20)
    encoder = TextEncoder(TextConfig(source=(first, second), layer="penultimate"))
    result = encoder.encode(["red car"], 6)
    ids = torch.tensor([[2, 4, 7, 3, 0, 0]])
    with torch.no_grad():
        parts = [m(input_ids=ids, output_hidden_states=True) for m in (small, large)]
    expected = torch.cat([part.hidden_states[-2] for part in parts], dim=-1)
    torch.testing.assert_close(result.tokens, expected)
    torch.testing.assert_close(result.pooled, parts[1].text_embeds)
    assert (encoder.token_features, encoder.pooled_features) == (24, 20)


@pytest.mark.parametrize(
    "caption",
    [
        "",
        " ",
        "red " * 10_000,
        "<b>red</b> & <script>",
        "\x00\x07\u202e\n",
        "\udcff\udc80 red",
        "🍎",
    ],
)
def test_hostile_captions(tmp_path, caption):
    source, _ = checkpoint(tmp_path, "bert")
    result = TextEncoder(TextConfig(source=(source,))).encode([caption, "red"], 7)
    assert result.tokens.shape == (2, 7, 16) and result.tokens.isfinite().all()
    assert result.mask.any(dim=1).all() and result.pooled.isfinite().all()


def test_fingerprint_follows_weights_and_needs_no_loading(tmp_path, monkeypatch):
    first, _ = checkpoint(tmp_path / "a", "bert")
    same, _ = checkpoint(tmp_path / "b", "bert")
    other, _ = checkpoint(tmp_path / "c", "bert", 1)
    monkeypatch.setattr(transformers.BertModel, "from_pretrained", None)
    prints = [encoder_fingerprint(TextConfig(source=(s,))) for s in (first, same, other)]
    assert prints[0] == prints[1] != prints[2]
    assert encoder_fingerprint(TextConfig(source=(first,), layer="penultimate")) != prints[0]


def test_what_is_no_encoder_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        TextEncoder(TextConfig(source=(str(tmp_path),)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="is a 'gpt2'; supported: bert, clip"):
        TextEncoder(TextConfig(source=(str(tmp_path),)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="cannot be loaded"):
        TextEncoder(TextConfig(source=(str(tmp_path),)))


def without(folder, *ends, **changed):
    """Remove tensors from a checkpoint, or change their values."""
    place = Path(folder) / "model.safetensors"
    kept = {k: v for k, v in load_file(place).items() if not k.endswith(ends)}
    save_file(kept | changed, place, metadata={"format": "pt"})


def test_a_clip_without_a_projection_has_no_pooled_vector(tmp_path):
    source, model = checkpoint(tmp_path, "clip")
    without(source, "text_projection.weight")
    encoder = TextEncoder(TextConfig(source=(source,)))
    result = encoder.encode(["red car"], 6)
    assert encoder.pooled_features is None and result.pooled is None
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[2, 4, 7, 3, 0, 0]])).last_hidden_state
    torch.testing.assert_close(result.tokens, expected, rtol=1e-5, atol=1e-6)
    rule = TextSemantic(token_features=16, pooled_features=12)
    with pytest.raises(ConfigError, match=r"pooled_features is 12; .* gives none"):
        check_encoder(encoder, rule)


@pytest.mark.parametrize("kind", MODELS)
def test_weights_that_lack_tensors_are_refused_by_name(tmp_path, kind):
    source, _ = checkpoint(tmp_path, kind)
    names = sorted(load_file(tmp_path / "model.safetensors"))
    without(source, next(name for name in names if "layer" in name))
    with pytest.raises(ValueError, match=r"is incomplete: its weights lack 1 tensors \("):
        TextEncoder(TextConfig(source=(source,)))


def test_a_pooler_that_nobody_reads_may_be_missing(tmp_path):
    source, _ = checkpoint(tmp_path, "bert")
    before = TextEncoder(TextConfig(source=(source,))).encode(CAPTIONS, 7)
    without(source, "pooler.dense.weight", "pooler.dense.bias")
    after = TextEncoder(TextConfig(source=(source,))).encode(CAPTIONS, 7)
    assert torch.equal(before.tokens, after.tokens) and torch.equal(before.pooled, after.pooled)


def test_tensors_of_another_shape_are_refused_by_name(tmp_path):
    source, _ = checkpoint(tmp_path, "clip")
    without(source, **{"text_projection.weight": torch.zeros(5, 16)})
    with pytest.raises(ValueError, match=r"config\.json says: text_projection\.weight"):
        TextEncoder(TextConfig(source=(source,)))


def test_the_embedded_encoder_knows_what_words_mean():
    encoder = TextEncoder(TextConfig())
    assert TextConfig().source == (MINILM,) and encoder.token_features == 384
    cat, kitten, truck = encoder.encode(["a cat", "a kitten", "a truck"], 8).pooled
    assert cat @ kitten > 0.7 > 0.4 > cat @ truck
