# SPDX-License-Identifier: Apache-2.0
"""Derive src/pippin/data/tables/openmoji.csv from OpenMoji's own metadata.

    npm pack openmoji@17.0.0
    tar xzf openmoji-17.0.0.tgz package/data/openmoji.json
    python scripts/derive_openmoji_table.py package/data/openmoji.json \\
        src/pippin/data/tables/openmoji.csv

The table is CC BY-SA 4.0 like its source; src/pippin/data/tables/NOTICE.md says what changed.
"""

import csv
import json
import sys
from pathlib import Path

from pippin.data.sources.openmoji_table import COLUMNS, assign_families

# One name of openmoji 17.0.0 lost a letter.
CORRECTIONS = {"castile and le\ufffdn flag": "castile and león flag"}


def merge_tags(*lists: str) -> str:
    """Merge comma-separated tags of several lists, without duplicates, in order."""
    tags = [tag.strip() for text in lists for tag in text.split(",")]
    return ", ".join(dict.fromkeys(tag for tag in tags if tag))


def table_rows(emojis: list[dict]) -> list[dict[str, str]]:
    """One row per image, in OpenMoji's order."""
    names = {p["hexcode"]: " ".join(p["annotation"].split()) for p in emojis}
    names = {hexcode: CORRECTIONS.get(name, name) for hexcode, name in names.items()}
    families = assign_families(
        {p["hexcode"]: names[p["hexcode"]] for p in emojis if not p["skintone"]}
    )
    rows = []
    for emoji in emojis:
        hexcode, toned = emoji["hexcode"], bool(emoji["skintone"])
        base = emoji["skintone_base_hexcode"] if toned else ""
        values = (
            *(hexcode, names[hexcode], emoji["group"], emoji["subgroups"]),
            merge_tags(emoji["tags"], emoji["openmoji_tags"]),
            *(str(emoji["skintone"]), base, families[base or hexcode]),
        )
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def main(source: Path, target: Path) -> None:
    """Write the table."""
    rows = table_rows(json.loads(source.read_text(encoding="utf-8")))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} images, {len({row['family'] for row in rows})} families -> {target}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: derive_openmoji_table.py PATH/TO/openmoji.json OUT.csv")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
