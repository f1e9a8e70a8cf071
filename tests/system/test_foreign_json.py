# SPDX-License-Identifier: Apache-2.0
"""Damaged and foreign config.json files: one wording, with the file and what to do, everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pippin.encoders.config import TextConfig
from pippin.encoders.hub import model_config
from pippin.encoders.normalisation import read_affine
from pippin.encoders.representation.vision_transformers import _preprocessing
from pippin.encoders.source import read_config
from pippin.encoders.text_widths import stated_encoder
from pippin.interop.diffusers_format import read_folder
from pippin.recipes.text_encoders import find_encoder
from pippin.system.formats import read_foreign_json

READERS: dict[str, Callable[[Path], Any]] = {
    "transformers": model_config,
    "autoencoder": read_config,
    "affine": read_affine,
    "diffusers": read_folder,
    "text widths": lambda folder: stated_encoder(TextConfig(source=(str(folder),))),
    "text encoder": lambda folder: find_encoder(str(folder)),
    "preprocessing": _preprocessing,
}
BROKEN = {
    "cut": ("{", r"is not a JSON object: .*; download or save it again"),
    "list": ("[]", r"is not a JSON object: it is of type list; download or save it again"),
    "binary": ("\0", r"is not a JSON object: .*; download or save it again"),
    "deep": ("[" * 100_000, r"its brackets are nested too deeply; download or save it again"),
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_json_object_is_named_alike_by_every_reader(
    reader: str, fault: str, tmp_path: Path
) -> None:
    name = "preprocessor_config.json" if reader == "preprocessing" else "config.json"
    content, message = BROKEN[fault]
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        READERS[reader](tmp_path)
    assert str(caught.value).count(name) >= 1 and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("reader", "content"),
    [
        ("affine", '{"_class_name": "AutoencoderKL", "block_out_channels": 4}'),
        ("text encoder", '{"model_type": "bert", "hidden_size": 1e999}'),
    ],
)
def test_entries_that_describe_nothing_are_named_with_the_folder(
    reader: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"does not describe|is not of a BERT") as caught:
        READERS[reader](tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_an_object_is_returned_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": [1, null]}', encoding="utf-16")
    assert read_foreign_json(tmp_path / "config.json") == {"a": [1, None]}
