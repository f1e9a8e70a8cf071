# SPDX-License-Identifier: Apache-2.0
import pytest

from pippin.system.formats import parse_json


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, b"\xff", "{", "", b"\0"])
def test_every_defect_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json(text)
    assert isinstance(caught.value, ValueError)


def test_json_is_read_as_json_reads_it():
    assert parse_json(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert parse_json("NaN", parse_constant=str.lower) == "nan"


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '{"x": [{"a": 1, "b": 2, "a": 3}]}'])
def test_a_duplicate_key_is_refused_by_name(text):
    parse_json(text)
    with pytest.raises(ValueError, match="duplicate key 'a' in one object; remove one"):
        parse_json(text, unique=True)
    parse_json('{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}', unique=True)
