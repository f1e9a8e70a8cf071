# SPDX-License-Identifier: Apache-2.0
"""CLIP score through the real loading code, on tiny checkpoints of random weights."""

import json
from types import SimpleNamespace

import pytest
import torch
import transformers
from clip_checkpoint import BOS, EOS, save_clip

from pippin.config import ConfigError
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.metrics.clip_score import Clip, clip_measures, clip_scores, score_measures

CAPTIONS = ["red apple", "blue car red apple blue", "car", ""]


def rewrite(folder, name, **settings):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clip(folder):
    return Clip(str(folder))


def images(count=4, height=48, width=40):
    draws = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, height, width), generator=draws, dtype=torch.uint8)


def test_closed_form():
    image = torch.tensor([[3.0, 4.0], [2.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    text = torch.tensor([[3.0, 4.0], [0.0, 7.0], [-1.0, 0.0], [1.0, 1.0]])
    expected = torch.tensor([100.0, 0.0, 0.0, 100 / 2**0.5], dtype=torch.float64)
    torch.testing.assert_close(clip_scores(image, text), expected)


def test_the_measure_is_the_mean_and_its_floor_exchanges_captions():
    vectors = torch.eye(16)
    own, floor = score_measures(vectors, vectors, seed=0, subject="real", protocol={"clip": "x"})
    assert (own.name, own.value, own.low, own.high, own.n) == ("CLIP score", 100, 100, 100, 16)
    assert (own.better, own.subject, own.interval_over) == ("higher", "real", "samples")
    assert floor.name == "CLIP score shuffled" and floor.better == "neither"
    assert floor.value <= 100 / 16 * 3  # a fixed place of the exchange counts 100 / 16
    assert own.protocol["clip"] == floor.protocol["clip"] == "x"
    with pytest.raises(ValueError, match="got 16 images and 15 captions"):
        score_measures(vectors, vectors[1:], seed=0)


def test_its_interval_covers_the_mean_of_more_samples():
    draws = torch.Generator().manual_seed(0)
    text = torch.tensor([[1.0, 0.0]]).expand(400, 2)
    angle = torch.rand(400, generator=draws)
    image = torch.stack([angle.cos(), angle.sin()], dim=1)
    own, _ = score_measures(image, text, seed=0)
    error = float(clip_scores(image, text).std()) / 20
    assert own.high - own.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert own.low < 100 * torch.tensor(1.0).sin() < own.high  # the mean cosine of U(0, 1)


def test_agrees_with_the_librarys_own_logits(clip, folder):
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    given = tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = model(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            pixel_values=processor(list(images()), return_tensors="pt")["pixel_values"],
        )
        cosine = (output.logits_per_image / model.logit_scale.exp()).diagonal()
    result = clip_scores(clip.images([images()]), clip.texts(CAPTIONS, 8))
    torch.testing.assert_close(result, 100 * cosine.clamp(min=0).double(), rtol=1e-5, atol=1e-4)
    assert result.max() > 0


def test_neither_batches_nor_company_matter(clip):
    whole, texts = clip.images([images()]), clip.texts(CAPTIONS, 8)
    parts = clip.images(image[None] for image in images())
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(clip.texts(CAPTIONS, 1), texts, rtol=1e-5, atol=1e-6)
    mixed = clip.images([images(1), images(2, 64, 32)])  # of two sizes
    torch.testing.assert_close(mixed[:1], clip.images([images(1)]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(4))
    with pytest.raises(ValueError, match="stream was empty"):
        clip.images([])


def test_images_of_another_scale_are_refused(clip):
    with pytest.raises(ValueError, match=r"uint8 images; got torch\.float32"):
        clip.images(iter([images().float()]))


def test_long_captions_are_cut_and_still_end(clip):
    room = clip.text_tokens - 2
    fits, long = "red " * room, "red " * (room + 50)
    assert torch.equal(*clip.texts([fits, long], 2))
    assert (clip.num_truncated([fits, long, long]), clip.num_truncated([])) == (2, 0)
    for row in clip.ids([fits, long])["input_ids"]:
        assert len(row) == clip.text_tokens and (row[0], row[-1]) == (BOS, EOS)


@pytest.mark.parametrize(
    "caption", ["", " ", "<b>red</b> & <script>", "\x00\x07\u202e\n", "\udcff red", "🍎"]
)
def test_hostile_captions(clip, caption):
    config = EvaluationConfig()
    result = clip_measures(clip, [caption, "red"], {"arm": ([images(2)], {"k": 1})}, config)
    assert all(
        0 <= measure.value <= 100 and measure.n == 2 and measure.protocol["k"] == 1
        for measure in result
    )
    assert len(result[0].protocol["captions_hash"]) == 16


def test_protocol_says_which_clip_and_what_it_reads(clip, tmp_path):
    protocol = clip.protocol()
    assert protocol["clip_image_size"] == 32 and protocol["clip_text_tokens"] == 12
    assert protocol["clip_vision"] == "2 layers of 16, patches of 16"
    same, other = save_clip(tmp_path / "a"), save_clip(tmp_path / "b", seed=1)
    assert Clip(str(same)).fingerprint == protocol["clip"] != Clip(str(other)).fingerprint


def test_without_a_preprocessor_the_published_one_is_taken(clip, tmp_path):
    plain = save_clip(tmp_path)
    (plain / "preprocessor_config.json").unlink()
    torch.testing.assert_close(Clip(str(plain)).pixels(images()), clip.pixels(images()))


def test_the_preprocessor_may_lie_in_the_processors_file(clip, tmp_path):
    nested = save_clip(tmp_path)
    old = nested / "preprocessor_config.json"
    settings = json.loads(old.read_text()) | {"image_mean": [0.0, 0.0, 0.0]}
    (nested / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    old.unlink()
    assert not torch.allclose(Clip(str(nested)).pixels(images()), clip.pixels(images()))


def test_older_files_are_read_as_they_were_meant(clip, tmp_path):
    """The first published CLIPs give sizes as numbers, and 2 as the end of a caption."""
    old = save_clip(tmp_path)
    rewrite(old, "preprocessor_config.json", size=32, crop_size=32)
    text = json.loads((old / "config.json").read_text())["text_config"]
    rewrite(old, "config.json", text_config=text | {"eos_token_id": 2})
    result = Clip(str(old))
    torch.testing.assert_close(result.images([images()]), clip.images([images()]))
    torch.testing.assert_close(result.texts(CAPTIONS, 8), clip.texts(CAPTIONS, 8))


def test_what_is_no_clip_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"CLIP '.*' has no|has no config\.json"):
        Clip(str(tmp_path))
    with pytest.raises(ValueError, match=r"CLIP 'no name !' is no folder.*give a folder, or"):
        Clip("no name !")
    for text, message in (
        ('{"model_type": "siglip"}', "is a 'siglip' model, but CLIP score needs a whole CLIP"),
        ("{", r"config\.json is not a JSON object"),
        ("[]", r"config\.json is not a JSON object"),
        ('{"model_type": "clip"}', "cannot be loaded"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            Clip(str(tmp_path))


def test_files_that_do_not_fit_each_other_are_refused(tmp_path):
    folder = save_clip(tmp_path / "size")
    rewrite(folder, "preprocessor_config.json", crop_size={"height": 24, "width": 24})
    with pytest.raises(ValueError, match=r"reads images of 32 pixels, but its .* makes 24 x 24"):
        Clip(str(folder))
    folder = save_clip(tmp_path / "end")
    config = json.loads((folder / "config.json").read_text())
    rewrite(folder, "config.json", text_config=config["text_config"] | {"eos_token_id": 7})
    with pytest.raises(ValueError, match="at its token 7"):
        Clip(str(folder))
    folder = save_clip(tmp_path / "half")
    weights = folder / "model.safetensors"
    from safetensors.torch import load_file, save_file

    kept = {k: v for k, v in load_file(weights).items() if not k.startswith("vision_model")}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack \d+ tensors \(vision_model"):
        Clip(str(folder))


def test_weights_are_never_unpickled(tmp_path):
    folder = save_clip(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be loaded"):
        Clip(str(folder))


def test_an_empty_name_is_refused():
    with pytest.raises(ConfigError, match=r"evaluation\.clip must name"):
        EvaluationConfig(clip=" ")


def test_embeddings_come_bare_or_in_an_output(clip, monkeypatch):
    """Before its version 5 the library gave them bare."""
    batch, captions = [images()], list(CAPTIONS)
    target = clip.images(batch), clip.texts(captions, 8)
    kind = type(clip._model)
    for name in ("get_image_features", "get_text_features"):
        whole = getattr(kind, name)
        for bare in (True, False):

            def given(self, *inputs, whole=whole, bare=bare):
                result = whole(self, *inputs)
                vectors = result if isinstance(result, torch.Tensor) else result.pooler_output
                return vectors if bare else SimpleNamespace(pooler_output=vectors)

            with monkeypatch.context() as patch:
                patch.setattr(kind, name, given)
                assert torch.equal(clip.images(batch), target[0])
                assert torch.equal(clip.texts(captions, 8), target[1])
