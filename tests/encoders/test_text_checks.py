# SPDX-License-Identifier: Apache-2.0
"""Encoders and tokenizers that do not belong together, through the real loading code."""

import json
from importlib.metadata import PackageNotFoundError

import pytest
import torch
import transformers
from clip_checkpoint import save_clip
from safetensors.torch import load_file, save_file
from tiny_tokenizer import word_tokenizer

from pippin.encoders import hub
from pippin.encoders.config import TextConfig
from pippin.encoders.text import TextEncoder
from pippin.evaluation.metrics.clip_score import Clip

WORDS = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "red", "blue", "apple", "car", "old"]
BOS, EOS = WORDS.index("[BOS]"), WORDS.index("[EOS]")
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
SMALL |= {"intermediate_size": 32, "vocab_size": len(WORDS), "max_position_embeddings": 20}


def clip(folder, **config):
    ends = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": 0, "projection_dim": 12}
    config = transformers.CLIPTextConfig(**SMALL | ends | config)
    transformers.CLIPTextModelWithProjection(config).save_pretrained(folder)
    return tokenizer(folder)


def bert(folder, **config):
    transformers.BertModel(transformers.BertConfig(**SMALL | config)).save_pretrained(folder)
    return tokenizer(folder)


def t5(folder, **config):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(**{"vocab_size": len(WORDS)} | sizes | config)
    transformers.T5EncoderModel(config).save_pretrained(folder)
    return tokenizer(folder)


def tokenizer(folder, words=WORDS, ends=("[BOS]", "[EOS]"), pad="[PAD]", **settings):
    result = word_tokenizer(words, ends, bos_token="[BOS]", eos_token="[EOS]", **settings)
    result.pad_token = pad
    result.save_pretrained(folder)
    return folder


def load(folder):
    return TextEncoder(TextConfig(source=(str(folder),)))


def change_weights(folder, **changed):
    place = folder / "model.safetensors"
    save_file(load_file(place) | changed, place, metadata={"format": "pt"})


@pytest.fixture(autouse=True)
def quiet_generator():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_encoders_that_belong_together_are_read(tmp_path):
    for build in (clip, bert, t5):
        first, second = load(build(tmp_path / build.__name__)).encode(["red", "blue"], 6).tokens
        assert not torch.allclose(first, second)


@pytest.mark.parametrize("end", [4, 7, 0])
def test_a_clip_that_reads_a_caption_elsewhere_is_refused(tmp_path, end):
    """Without the end token, each caption is pooled at its start."""
    with pytest.raises(ValueError, match=f"token {end}.*; its files do not belong together"):
        load(clip(tmp_path, eos_token_id=end))


def test_an_end_that_the_tokenizer_does_not_set_is_refused(tmp_path):
    clip(tmp_path)
    tokenizer(tmp_path, ends=("[BOS]", "[BOS]"))
    with pytest.raises(ValueError, match=f"at its token {EOS} .* which its tokenizer never gives"):
        load(tmp_path)


def test_the_end_of_older_configurations_is_the_highest_token(tmp_path):
    """eos_token_id 2 pools at the highest token; here a word follows the end token."""
    with pytest.raises(ValueError, match=r"at the highest token .*not the caption's last token"):
        load(clip(tmp_path / "a", eos_token_id=2))
    words = [*(word for word in WORDS if word != "[EOS]"), "[EOS]"]
    clip(tmp_path / "b", eos_token_id=2)
    tokenizer(tmp_path / "b", words, pad="[EOS]")
    assert load(tmp_path / "b").pooled_features == 12


def test_padding_on_the_left_is_refused_where_the_end_is_read(tmp_path):
    clip(tmp_path)
    tokenizer(tmp_path, pad="[EOS]", padding_side="left")
    with pytest.raises(ValueError, match="not the caption's last token"):
        load(tmp_path)


def test_an_end_that_nobody_reads_may_be_any(tmp_path):
    clip(tmp_path, eos_token_id=7)
    place = tmp_path / "model.safetensors"
    kept = {k: v for k, v in load_file(place).items() if k != "text_projection.weight"}
    save_file(kept, place, metadata={"format": "pt"})
    assert load(tmp_path).pooled_features is None


def test_clip_score_refuses_the_same(tmp_path):
    save_clip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    text = config["text_config"] | {"eos_token_id": 3}
    (tmp_path / "config.json").write_text(json.dumps(config | {"text_config": text}))
    with pytest.raises(ValueError, match="at its token 3"):
        Clip(str(tmp_path))
    save_clip(tmp_path)
    change_weights(tmp_path, **{"text_projection.weight": torch.zeros(8, 16)})
    with pytest.raises(ValueError, match="the same features, so they do not depend"):
        Clip(str(tmp_path))


@pytest.mark.parametrize("build", [bert, t5])
def test_a_tokenizer_without_its_vocabulary_is_refused(tmp_path, build):
    """The library then creates a tokenizer of special tokens only, without an error."""
    build(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    kind = {"bert": "BertTokenizer", "t5": "T5Tokenizer"}[build.__name__]
    facts = {"tokenizer_class": kind, "pad_token": "[PAD]", "extra_ids": 0}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"its tokenizer knows no words.*vocab\.txt"):
        load(tmp_path)


@pytest.mark.parametrize("build", [clip, bert, t5])
def test_a_tokenizer_of_more_tokens_than_the_model_is_refused(tmp_path, build):
    build(tmp_path)
    tokenizer(tmp_path, [*WORDS, "green"])
    with pytest.raises(ValueError, match="gives tokens up to 9, and its weights have 9 tokens"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("build", "damage"),
    [
        (clip, {"text_projection.weight": torch.zeros(12, 16)}),
        (bert, {"embeddings.word_embeddings.weight": torch.ones(len(WORDS), 16)}),
        (t5, {"shared.weight": torch.zeros(len(WORDS), 16)}),
        (t5, {"encoder.final_layer_norm.weight": torch.zeros(16)}),
    ],
)
def test_features_that_do_not_depend_on_the_caption_are_refused(tmp_path, build, damage):
    build(tmp_path)
    change_weights(tmp_path, **damage)
    with pytest.raises(ValueError, match=r"captions '.*' and '.*' the same features"):
        load(tmp_path)


@pytest.mark.parametrize("build", [clip, bert])
def test_more_places_than_the_model_has_are_refused(tmp_path, build):
    encoder = load(build(tmp_path))
    assert encoder.encode(["red"], 20).tokens.shape == (1, 20, 16)
    with pytest.raises(ValueError, match=r"num_tokens is 21, .* supports at most 20 tokens"):
        encoder.encode(["red"], 21)


def test_t5_reads_any_number_of_places(tmp_path):
    assert load(t5(tmp_path)).encode(["red"], 100).tokens.shape == (1, 100, 16)


def test_a_tokenizer_without_padding_is_refused(tmp_path):
    bert(tmp_path)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (tmp_path / name).is_file():
            facts = json.loads((tmp_path / name).read_text())
            left = {k: v for k, v in facts.items() if k not in ("pad_token", "eos_token")}
            (tmp_path / name).write_text(json.dumps(left))
    with pytest.raises(ValueError, match="no token for padding"):
        load(tmp_path)


QUANTISED = {
    "scales": ({"extra.weight_scale": torch.ones(())}, "with separate scales"),
    "bitsandbytes": ({"extra.SCB": torch.ones(2)}, "by bitsandbytes"),
    "NaN": ({"shared.weight": torch.full((len(WORDS), 16), torch.nan)}, "144 NaN of 144"),
}


@pytest.mark.parametrize("case", QUANTISED)
def test_weights_that_cannot_be_read_as_they_are_are_named(tmp_path, case):
    changed, message = QUANTISED[case]
    t5(tmp_path)
    change_weights(tmp_path, **changed)
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path)
    assert "cannot be loaded" not in str(caught.value)


def test_float8_weights_beside_their_scales_are_refused(tmp_path):
    t5(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    name = next(name for name in state if name.endswith("q.weight"))
    scale = state[name].abs().max() / 448
    changed = {name: (state[name] / scale).to(torch.float8_e4m3fn)}
    change_weights(tmp_path, **changed)
    load(tmp_path)  # float8 alone is coarse, and nothing else
    change_weights(tmp_path, **changed, **{name.replace(".weight", ".weight_scale"): scale})
    with pytest.raises(ValueError, match="with separate scales: encoder"):
        load(tmp_path)


def test_a_configuration_of_quantised_weights_is_refused(tmp_path):
    t5(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"quantization_config": {"quant_method": "compressed-tensors"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="quantised by compressed-tensors, as config"):
        load(tmp_path)


def test_a_variant_is_read_and_a_pickle_is_named(tmp_path):
    bert(tmp_path)
    whole = tmp_path / "model.safetensors"
    before = load(tmp_path).encode(["red"], 6).tokens
    whole.rename(tmp_path / "model.fp16.safetensors")
    assert torch.equal(load(tmp_path).encode(["red"], 6).tokens, before)
    torch.save(load_file(tmp_path / "model.fp16.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.fp16.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no model\.safetensors.*pytorch_model\.bin"):
        load(tmp_path)


def spiece(folder):
    """T5 whose tokenizer is a sentencepiece file."""
    t5(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    proto = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    model = proto.ModelProto()
    pieces = [("<pad>", 3), ("</s>", 3), ("<unk>", 2), ("▁", 1), ("▁red", 1), ("▁car", 1)]
    for rank, (piece, kind) in enumerate(pieces):
        entry = model.pieces.add()
        entry.piece, entry.type, entry.score = piece, kind, -float(rank)
    model.trainer_spec.model_type, model.trainer_spec.unk_id = 1, 2
    model.trainer_spec.eos_id, model.trainer_spec.pad_id, model.trainer_spec.bos_id = 1, 0, -1
    (folder / "spiece.model").write_bytes(model.SerializeToString())
    facts = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    return folder


def test_a_t5_with_spiece_model_alone_is_read(tmp_path):
    encoder = load(spiece(tmp_path))
    result = encoder._parts[0].tokenizer(["red car", "car", ""])["input_ids"]
    assert result == [[4, 5, 1], [5, 1], [1]]


def test_the_packages_that_read_spiece_model_are_named(tmp_path, monkeypatch):
    def lacking(name):
        raise PackageNotFoundError(name)

    def refuse(*_, **__):
        raise ValueError("`tiktoken` is required to read a `tiktoken` file.")

    t5(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "spiece.model")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(ValueError, match=r"spiece\.model alone.*\[text\]'; .* failed: `tiktoken`"):
        load(tmp_path)
    monkeypatch.setattr(hub, "version", lacking)
    expected = r"\[text\]'; not installed: sentencepiece and protobuf"
    with pytest.raises(ValueError, match=expected):
        load(tmp_path)
