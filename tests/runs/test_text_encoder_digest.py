# SPDX-License-Identifier: Apache-2.0
"""Images of a model of text belong to the files of its text encoder too."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from pippin.conditioning.config import TextSemantic
from pippin.encoders.config import TextConfig
from pippin.encoders.text import encoder_fingerprint
from pippin.evaluation.runs.evaluate import run_protocol
from pippin.sampling.load import untrained_run
from pippin.sampling.sample import sampling_protocol
from pippin.sampling.sample_folder import SampleFolder, SampleRow


def test_another_encoder_at_the_same_place_draws_into_another_folder(recipe, tmp_path):
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (encoder / "model.safetensors").write_bytes(b"weights")
    rule = TextSemantic(token_features=16, num_tokens=4)
    of_text = replace(
        recipe,
        conditioning=replace(recipe.conditioning, semantic=rule, rules={"text": "attention"}),
        text=TextConfig(source=(str(encoder),)),
    )

    def protocols():
        run = untrained_run(of_text, Console(quiet=True))
        return sampling_protocol(run, of_text.sampling), run_protocol(run)

    (drawn, measured), before = protocols(), encoder_fingerprint(of_text.text)
    assert drawn["model.text_encoder"] == measured["model.text_encoder"] == before
    SampleFolder(tmp_path / "samples", drawn).begin(
        [SampleRow(seed=0, prompt="red", class_name=None)]
    )
    assert protocols() == (drawn, measured)
    (encoder / "model.safetensors").write_bytes(b"others!")
    other, _ = protocols()
    assert {name for name in drawn if drawn[name] != other[name]} == {"model.text_encoder"}
    with pytest.raises(ValueError, match=r"model\.text_encoder: '.*' there, '.*' here"):
        SampleFolder(tmp_path / "samples", other)
