# SPDX-License-Identifier: Apache-2.0
"""Captioners through the real loading code, on a tiny BLIP with random weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_blip import save_blip

from pippin.encoders.captioner import Captioner, captioner_fingerprint


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return str(save_blip(tmp_path_factory.mktemp("blip")))


def images():
    draws = torch.Generator().manual_seed(0)
    sizes = [(40, 50), (3, 90), (64, 33)]
    return [torch.randint(0, 256, (3, *s), generator=draws, dtype=torch.uint8) for s in sizes]


def test_captions_are_those_of_the_model_and_the_same_each_time(source):
    import transformers

    captioner = Captioner(source, max_tokens=6)
    result = captioner.generate_captions(images())
    assert result == Captioner(source, max_tokens=6).generate_captions(images())
    assert all(caption and "\n" not in caption for caption in result)
    model = transformers.BlipForConditionalGeneration.from_pretrained(source).eval()
    processor = transformers.BlipProcessor.from_pretrained(source)
    for caption, image in zip(result, images(), strict=True):
        pixels = processor(images=image, return_tensors="pt", input_data_format="channels_first")
        ids = model.generate(**pixels, max_new_tokens=6, num_beams=1, do_sample=False)
        assert processor.decode(ids[0], skip_special_tokens=True).strip() == caption
    assert max(len(c.split()) for c in result) > max(
        len(c.split()) for c in Captioner(source, max_tokens=2).generate_captions(images())
    )
    assert captioner.generate_captions([]) == []


def test_captions_without_an_end_are_counted(source, monkeypatch):
    import transformers

    captioner = Captioner(source, max_tokens=4)
    end = captioner._tokenizer.sep_token_id
    ids = torch.tensor([[2, 7, 7, 7, 7], [2, 7, 7, 7, end], [2, 7, end, 0, 0]])
    monkeypatch.setattr(
        transformers.BlipForConditionalGeneration, "generate", lambda self, **given: ids
    )
    captioner.generate_captions(images())
    captioner.generate_captions(images())
    assert captioner.num_truncated == 2


def test_more_tokens_than_the_model_has_places_are_refused(source):
    Captioner(source, max_tokens=31).generate_captions(images())
    with pytest.raises(ValueError, match="fewer than 32 tokens; got --max-tokens 32"):
        Captioner(source, max_tokens=32)


def test_fingerprint_follows_weights_and_length(source, tmp_path):
    other = str(save_blip(tmp_path / "other", seed=1))
    copied = str(shutil.copytree(source, tmp_path / "copied"))
    prints = [captioner_fingerprint(checkpoint, 6) for checkpoint in (source, copied, other)]
    assert prints[0] == prints[1] != prints[2]
    assert captioner_fingerprint(source, 7) != prints[0]


def test_what_is_no_captioner_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"captioner '.*' *: the folder has no config\.json"):
        Captioner(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(ValueError, match=r"is a 'llava'; supported: blip, .* --captions FILE"):
        Captioner(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "blip"}))
    with pytest.raises(ValueError, match=r"captioner in .* cannot be loaded"):
        Captioner(str(tmp_path))


def test_weights_that_lack_tensors_are_refused_by_name(source, tmp_path):
    folder = Path(shutil.copytree(source, tmp_path / "half"))
    weights = load_file(folder / "model.safetensors")
    del weights["text_decoder.bert.encoder.layer.0.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 tensors \(text_decoder.*output\.dense"):
        Captioner(str(folder))


def test_a_tokenizer_without_its_vocabulary_is_refused(source, tmp_path):
    """The library creates a tokenizer of special tokens only, which gives empty captions."""
    folder = Path(shutil.copytree(source, tmp_path / "lost"))
    (folder / "tokenizer.json").unlink()
    facts = {"tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"captioner in .*its tokenizer knows no words"):
        Captioner(str(folder))
