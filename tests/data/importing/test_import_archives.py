# SPDX-License-Identifier: Apache-2.0
"""Images, captions and classes of archives with any names of members."""

import pytest
from archives import archive, archive_of, image_bytes, rows_of

from pippin.config import ConfigError
from pippin.data.importing.columns import Columns
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.importer import import_images
from pippin.data.importing.shards import PARTS

pytest.importorskip("datasets")
NUMBERS = range(8)


def write(folder, *archives):
    """Write archives as shards of one source."""
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(archives):
        (folder / f"{number}.tar").write_bytes(content)
    return folder


@pytest.fixture
def taken(tmp_path):
    """Import archives; returns the result and the rows of the metadata."""

    def run(*archives, **settings):
        source = write(tmp_path / "source", *archives)
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        result = import_images(ImportConfig(source=str(source), **settings), out)
        images = [(out / row["file_name"]).read_bytes() for row in rows_of(out)]
        return result, rows_of(out), images

    return run


@pytest.mark.parametrize("is_png", [lambda n: n > 5, lambda n: n % 3 == 2, lambda n: n < 1])
def test_images_of_several_suffixes_are_all_taken(taken, is_png):
    samples = [
        {"png": image_bytes(n)} if is_png(n) else {"JPEG": image_bytes(n, "JPEG")} for n in NUMBERS
    ]
    result, _, images = taken(archive(samples))
    assert images == [content for sample in samples for content in sample.values()]
    assert set(result.taken["image"]) == {"png", "jpeg"} and not result.unread


def test_members_with_dots_in_their_names_upper_case_and_out_of_order(taken):
    names = [f"scene_1.{n:02d}.v2.5" for n in NUMBERS]
    content = archive_of(
        [
            *((f"{name}.PNG", image_bytes(n)) for n, name in enumerate(names)),
            *((f"{name}.TXT", name.encode()) for name in reversed(names)),
        ]
    )
    result, rows, images = taken(content)
    assert [row["text"] for row in rows] == names
    assert images == [image_bytes(n) for n in NUMBERS] and not result.skipped


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        (["depth.png", "jpg"], "jpg"),
        (["mask.png", "image.png", "conditioning_image.png"], "image.png"),
        (["canny.png", "rgb.png"], "rgb.png"),
        (["left.png", "right.png"], "left.png"),
        (["hint.png", "target.png"], "target.png"),
        (["webp", "jpg"], "jpg"),
        (["depth.png"], "depth.png"),
    ],
)
def test_the_image_itself_is_chosen_and_the_others_are_counted(taken, kinds, chosen):
    samples = [{kind: image_bytes(kinds.index(kind)) for kind in kinds} for _ in NUMBERS]
    result, _, images = taken(archive(samples))
    assert images == [image_bytes(kinds.index(chosen))] * len(NUMBERS)
    assert result.taken["image"] == {chosen: len(NUMBERS)}
    assert result.unread == {kind: len(NUMBERS) for kind in kinds if kind != chosen}


@pytest.mark.parametrize("name", ["depth", "depth.png", "Depth"])
def test_another_image_can_be_named(taken, name):
    samples = [{"depth.png": image_bytes(9), "jpg": image_bytes(n, "JPEG")} for n in NUMBERS]
    result, _, images = taken(archive(samples), image=name)
    assert images == [image_bytes(9)] * len(NUMBERS)
    assert result.unread == {"jpg": len(NUMBERS)}
    with pytest.raises(ConfigError, match=r"--image dept: .* no such column; near it are depth"):
        taken(archive(samples), image="dept")


def test_a_sample_without_the_chosen_image_is_named(taken):
    samples = [{"depth.png": image_bytes(9), "jpg": image_bytes(n, "JPEG")} for n in NUMBERS]
    del samples[3]["jpg"]
    result, rows, _ = taken(archive(samples))
    assert result.skipped == ("0 3 (00003): no image; it has depth.png",)
    assert len(rows) == len(NUMBERS) - 1


def test_captions_and_classes_that_come_late_are_taken(taken):
    plain = [{"png": image_bytes(n)} for n in NUMBERS]
    calls = [{"png": image_bytes(n), "txt": b"seen", "cls": b"2.0\n"} for n in NUMBERS]
    entries = [{"png": image_bytes(n), "json": {"Caption": "entry", "labels": 1}} for n in NUMBERS]
    result, rows, _ = taken(archive(plain + calls), archive(plain), archive(entries))
    size = len(NUMBERS)
    expected = [None] * size + ["seen"] * size + [None] * size + ["entry"] * size
    assert [row.get("text") for row in rows] == expected
    assert [row.get("label") for row in rows] == [
        {"seen": "2", "entry": "1", None: None}[text] for text in expected
    ]
    assert (result.images, result.captions, result.labels) == (4 * size, 2 * size, 2 * size)
    assert result.classes == {"1", "2"}
    assert result.taken["text"] == {"txt": size, "json.Caption": size}


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ({"json": {"caption": "one"}, "txt": b"two"}, "one"),
        ({"cap": b"one"}, "one"),
        ({"prompt.txt": b"one", "negative.txt": b"two"}, "one"),
        ({"meta.json": {"caption": "one"}}, "one"),
        ({"png.txt": b"one"}, "one"),
        ({"json": {"caption": {"en": "one"}}, "txt": b"two"}, "two"),
        ({"json": {"caption": float("nan")}, "txt": b"\xef\xbb\xbftwo"}, "two"),
        ({"json": {"caption": [1, {"en": "one"}]}}, None),
        ({"json": {"caption": '["one", "two"]'}}, "one"),
        ({"json": {"caption": "{'en': 'one'}"}, "txt": b"two"}, "two"),
        ({"txt": b'{"en": "one"}'}, None),
        ({"txt": b"[one] and {two}"}, "[one] and {two}"),
        ({"txt": b"[one]"}, "[one]"),
    ],
)
def test_which_caption_is_taken(taken, member, text):
    _, rows, _ = taken(archive([{"png": image_bytes(n)} | member for n in NUMBERS]))
    assert [row.get("text") for row in rows] == [text] * len(NUMBERS)


def test_dictionaries_are_counted_and_their_entries_can_be_named(taken):
    samples = [{"png": image_bytes(n), "json": {"caption": {"en": "one"}}} for n in NUMBERS]
    result, _, _ = taken(archive(samples))
    assert result.unread == {"json.caption (dictionary with en)": len(NUMBERS)}
    _, rows, _ = taken(archive(samples), caption="json.caption.en")
    assert {row["text"] for row in rows} == {"one"}
    with pytest.raises(ConfigError, match=r"json\.caption \(dictionary with en\) is no text in"):
        taken(archive(samples), caption="json.caption")


def test_none_takes_no_captions_and_no_classes(taken):
    samples = [{"png": image_bytes(n), "txt": b"one", "cls": b"1"} for n in NUMBERS]
    result, rows, _ = taken(archive(samples), caption="none", label="none")
    assert all(set(row) == {"file_name"} for row in rows)
    assert result.unread == {"txt": len(NUMBERS), "cls": len(NUMBERS)}


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ({"txt": b"caf\xe9"}, r"txt is not UTF-8 text \(line 1, byte 3"),
        ({"json": b'{"caption": "a \\ud83d"}'}, r"json\.caption is not Unicode text"),
        ({"json": b'{"caption": '}, "json is not JSON"),
        ({"json": b"[" * 100_000}, "json is not JSON"),
        ({"txt": b"a" * 70_000}, "txt has 70000 bytes; 65536 are allowed"),
        ({"cls": b"\xff"}, "cls is not UTF-8 text"),
    ],
    ids=["latin-1", "surrogate", "json", "deep json", "long", "class"],
)
def test_a_text_that_cannot_be_read_costs_its_row(taken, member, why):
    samples = [{"png": image_bytes(n), "txt": b"good"} for n in NUMBERS]
    samples[5] = {"png": image_bytes()} | member
    result, rows, _ = taken(archive(samples))
    (lost,) = result.skipped
    assert lost.startswith("0 5 (00005): ") and why.replace("\\", "") in lost.replace("\\", "")
    assert len(rows) == len(NUMBERS) - 1


def test_members_that_are_not_understood_are_counted(taken):
    content = archive_of(
        [
            ("1.png", image_bytes()),
            ("1.npy", b"features"),
            ("captions/1.txt", b"beside no image"),
            ("._1.png", b"of another system"),
            ("README", b"words"),
        ]
    )
    result, _, _ = taken(content)
    assert result.unread == {
        "npy": 1,
        "without an image of their name: txt": 1,
        "hidden files": 1,
        "names without a suffix": 1,
    }


def test_an_import_of_an_earlier_version_goes_on_with_its_columns(tmp_path):
    samples = [
        {"png": image_bytes(n), "txt": b"short", "json": {"caption": "long"}} for n in NUMBERS
    ]
    source = write(tmp_path / "source", archive(samples), archive(samples))
    out, config = tmp_path / "out", ImportConfig(source=str(source))
    import_images(config, out)
    (out / PARTS / "00001.json").unlink()
    place = out / PARTS / "00000.json"
    rows = '[{"file_name": "00000/0000000.png", "text": "short"}]'
    identity = f"0.tar, {(source / '0.tar').stat().st_size} bytes"
    place.write_text(f'{{"of": "{identity}", "rows": {rows}, "lost": []}}')
    (out / PARTS / "columns.json").write_text(
        '{"image": "png", "captions": {"text": "txt"}, "label": null, "names": null}'
    )
    assert Columns.load(out / PARTS / "columns.json").needed == ("png", "txt")
    result = import_images(config, out)
    assert {row["text"] for row in rows_of(out)} == {"short"}
    assert (result.images, result.before, result.uncounted) == (1 + len(NUMBERS), 1, 1)
