# SPDX-License-Identifier: Apache-2.0
"""One-line report of an import: imported and ignored columns."""

from collections import Counter

from archives import archive, image_bytes

from pippin.cli.main import main
from pippin.data.importing.importer import ImportResult, summary


def test_the_summary_names_columns_rows_and_what_was_not_taken():
    imported = ImportResult(shards=3, before=0, images=5, skipped=("0 1: no image",), captions=4)
    imported.labels, imported.classes, imported.empty = 3, {"cat", "dog"}, 1
    imported.taken["label"]["cls"] = 3
    imported.taken["caption_blip"]["blip.txt"] = 2
    imported.taken["text"] += Counter({"txt": 1, "json.caption": 3})
    imported.taken["image"]["jpg"] = 5
    imported.unread.update({f"json.{n:02d}": 1 for n in range(20)}, npy=6, **{"od\x1b[2Jd": 5})
    imported.statuses.update(success=5, failed_to_download=1)
    line = summary(imported)
    assert line.startswith(
        "images from jpg (5); captions from json.caption (3), txt (1); caption_blip from blip.txt "
        "(2); classes from cls (3); 6 rows: 5 with image, 4 with caption, 3 with class "
        "(2 classes), 1 skipped; ignored: npy (6), od?[2Jd (5), json.00 (1), "
    )
    assert line.endswith(
        "json.09 (1), and 10 more (10); img2dataset: success (5), failed_to_download (1); "
        "shards without rows: 1"
    )


def test_images_without_a_class_are_noted(tmp_path, capsys):
    samples = [{"png": image_bytes(n)} | ({"cls": b"1"} if n else {}) for n in range(3)]
    (tmp_path / "0.tar").write_bytes(archive(samples))
    command = ["data", "import", str(tmp_path / "0.tar"), "--folder"]
    assert main([*command, str(tmp_path / "out")]) == 0
    assert "note: 1 images have no class, and training skips them" in capsys.readouterr().out
    assert main([*command, str(tmp_path / "none"), "--label", "none"]) == 0
    messages = capsys.readouterr().out
    assert "note:" not in messages and "ignored: cls (2)" in messages
