# SPDX-License-Identifier: Apache-2.0
import importlib.util
import json
from pathlib import Path

import pytest

from pippin.data.sources.openmoji_table import COLUMNS, table_bytes

PATH = Path(__file__).parents[3] / "scripts" / "derive_openmoji_table.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("derive_openmoji_table", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entry(hexcode: str, annotation: str, **other: object) -> dict:
    """Entry in OpenMoji's format."""
    blank = {"tags": "", "openmoji_tags": "", "skintone": "", "skintone_base_hexcode": ""}
    return {
        **blank,
        "hexcode": hexcode,
        "annotation": annotation,
        "group": "g",
        "subgroups": "s",
    } | other


def test_the_header_of_the_shipped_table() -> None:
    assert table_bytes().splitlines()[0].decode() == ",".join(COLUMNS)


def test_rows_merge_tags_and_lead_tones_to_their_base(script, tmp_path: Path) -> None:
    entries = [
        entry("1F44B", "waving  hand ", tags="bye, hand", openmoji_tags="hand,hello, "),
        entry(
            "1F44B-1F3FB",
            "waving hand: light skin tone",
            skintone=1,
            skintone_base_hexcode="1F44B",
        ),
        entry("AB", "castile and le\ufffdn flag"),
    ]
    source, target = tmp_path / "openmoji.json", tmp_path / "out.csv"
    source.write_text(json.dumps(entries))
    script.main(source, target)
    assert target.read_text(encoding="utf-8").splitlines() == [
        "hexcode,name,group,subgroup,tags,skintone,base,family",
        '1F44B,waving hand,g,s,"bye, hand, hello",,,1F44B',
        "1F44B-1F3FB,waving hand: light skin tone,g,s,,1,1F44B,1F44B",
        "AB,castile and león flag,g,s,,,,AB",
    ]
