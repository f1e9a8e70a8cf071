# SPDX-License-Identifier: Apache-2.0
"""Versions and checksums of records in JSON."""

import json
import os

import pytest

from pippin.system.formats import (
    CHECKSUM,
    VERSION,
    FormatError,
    check_format,
    read_versioned_json,
    write_versioned_json,
)


def test_a_newer_file_is_not_replaced_and_a_damaged_one_is(tmp_path):
    path = tmp_path / "values.json"
    path.write_text(json.dumps({VERSION: 99}))
    with pytest.raises(FormatError, match=r"values\.json .* samples format 99"):
        write_versioned_json(path, "samples", {"count": 1})
    assert json.loads(path.read_text()) == {VERSION: 99}
    for damaged in ("{", "[1]", json.dumps({VERSION: "one"})):
        path.write_text(damaged)
        write_versioned_json(path, "samples", {"count": 1})
        assert read_versioned_json(path, "samples") == {"count": 1}


@pytest.mark.parametrize("version", [-1, 1.0, "one", True, [1]])
def test_what_is_no_version_is_damage(version):
    with pytest.raises(ValueError, match="not a version"):
        check_format("run", version, "file")


@pytest.mark.parametrize("stated", [None, 0, 1, "1"])
def test_older_versions_are_read(stated):
    assert check_format("run", stated, "file") == int(stated or 0)


def test_a_changed_value_is_found_and_an_edited_file_is_read(tmp_path):
    path = tmp_path / "values.json"
    write_versioned_json(path, "run", {"count": 60, 1: [0.1, None]})
    assert read_versioned_json(path, "run") == {"count": 60, "1": [0.1, None]}
    path.write_text(json.dumps(json.loads(path.read_text())))  # other spaces are no damage
    assert read_versioned_json(path, "run")["count"] == 60
    path.write_text(path.read_text().replace("60", "50"))
    with pytest.raises(ValueError, match=r"values\.json is damaged.*remove its entry content"):
        read_versioned_json(path, "run")
    edited = {k: v for k, v in json.loads(path.read_text()).items() if k != CHECKSUM}
    path.write_text(json.dumps(edited))
    assert read_versioned_json(path, "run")["count"] == 50


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"a"', "[" * 100_000, "\udc80"])
def test_what_is_no_json_object_is_named(text, tmp_path):
    path = tmp_path / "values.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"values\.json (is not JSON|must hold a JSON object)"):
        read_versioned_json(path, "run")


def test_a_fifo_in_the_place_of_a_record_is_named(tmp_path):
    os.mkfifo(tmp_path / "values.json")
    with pytest.raises(OSError, match=r"values\.json is a FIFO, not a file"):
        read_versioned_json(tmp_path / "values.json", "run")
