# SPDX-License-Identifier: Apache-2.0
"""Both pages can be read without eyes, without a network, and without torch."""

import re
import subprocess
import sys
from itertools import pairwise

import pytest
from edited_json import edit
from html_page import Page

from pippin.reports.comparison_page import render_comparison
from pippin.reports.page import ABSENT, ImageEmbedder, write_page
from pippin.reports.report import render_report


@pytest.fixture(params=["study", "run", "two studies", "two runs"])
def page(request, finished, finished_once, tmp_path):
    """The text of each kind of page."""
    runs = [finished / "runs" / f"{arm}-seed0" for arm in ("entangled", "disentangled")]
    out = tmp_path / "page.html"
    render = {
        "study": lambda: render_report(finished, out),
        "run": lambda: render_report(runs[0], out),
        "two studies": lambda: render_comparison(finished, finished_once, out),
        "two runs": lambda: render_comparison(*runs, out),
    }
    return render[request.param]().read_text(encoding="utf-8")


def test_it_holds_all_and_loads_nothing(page):
    found = Page(page)
    assert found.open == []
    forbidden = {"script", "link", "iframe", "object", "embed", "form", "base", "audio", "video"}
    assert not forbidden & set(found.tags)
    assert not any(name.startswith("on") for _, values in found.elements for name in values)
    for address in found.addresses:
        assert address.startswith(("data:image/png;base64,", "#"))
    assert "default-src 'none'" in page
    assert not re.search(r"url\(\s*[\"']?(?!#)|@import|https?://(?!www\.w3\.org/)", page)


def test_headings_descend_without_gaps(page):
    levels = [int(tag[1]) for tag in Page(page).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(second <= first + 1 for first, second in pairwise(levels))


def test_every_image_has_a_description(page):
    found = Page(page)
    assert found.all("img")
    for image in found.all("img"):
        assert len(image["alt"] or "") > 10 and image["width"] and image["height"]
    for _, values in found.elements:
        if values.get("role") in ("img", "region", "group"):
            assert values.get("aria-label")


def test_every_table_has_headers(page):
    found = Page(page)
    assert found.all("table")
    assert all(header.get("scope") in ("col", "row") for header in found.all("th"))
    rows = sum(header.get("scope") == "row" for header in found.all("th"))
    heads = sum(tag == "thead" for tag in found.tags)
    assert rows == found.tags.count("tr") - heads  # each row of a body begins with its header


def test_links_lead_to_sections(page):
    found = Page(page)
    names = [values["id"] for _, values in found.elements if values.get("id")]
    assert len(names) == len(set(names))
    targets = [(link["href"] or "")[1:] for link in found.all("a")]
    assert targets and set(targets) <= set(names)


def test_the_footer_states_the_size(page):
    (stated,) = re.findall(r"One file of (\S+) MB", page)
    assert float(stated) == pytest.approx(len(page.encode()) / 1e6, abs=0.06)


def test_a_name_cannot_take_the_place_of_the_size(finished):
    path = finished / "study.json"
    edit(path, title="@page-size@")
    text = render_report(finished).read_text(encoding="utf-8")
    assert "<h1>@page-size@</h1>" in text and "One file of @" not in text


def test_an_old_page_stays_where_a_new_one_fails(finished):
    path = render_report(finished)
    before = path.read_bytes()
    with pytest.raises(Exception, match="undefined"):
        write_page("report.html.jinja", {}, path)
    assert path.read_bytes() == before


def test_images_stop_where_the_page_would_grow_too_heavy(tmp_path):
    first, second = tmp_path / "runs/a/grid.png", tmp_path / "runs/b/grid.png"
    for path in (first, second):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(592))
    album = ImageEmbedder(room=1000)
    embedded, missing = album.embed(first)
    assert embedded is not None and missing == ""
    assert album.left == 1000 - len(embedded.uri)
    embedded, missing = album.embed(second)
    assert embedded is None and missing.endswith("the file is runs/b/grid.png")
    assert "the 0.001 MB that this page has for images" in missing
    assert album.embed(tmp_path / "none.png") == (None, ABSENT)


def test_rendering_needs_no_torch(finished, finished_once, tmp_path):
    """Reports are made again from results alone: on a laptop, for a folder from a cluster."""
    code = (
        "import sys; from pippin.cli.main import main; "
        f"assert main(['report', {str(finished)!r}]) == 0; "
        f"assert main(['report', {str(finished)!r}, {str(finished_once)!r}, "
        f"'--out', {str(tmp_path / 'two.html')!r}]) == 0; "
        "print([name for name in ('torch', 'diffusers', 'timm') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
