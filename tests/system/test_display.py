# SPDX-License-Identifier: Apache-2.0
"""Tables for notebooks: their structure, and that no text of others acts as markup."""

import re

import pytest
from html_page import Page

from pippin.system.display import (
    fact_lines,
    fact_rows,
    html_table,
    html_text,
    markdown_table,
    markdown_text,
)

HOSTILE = "<script>alert('x')</script>|**a** [b](javascript:c) `d` $e$ \x1b[31m\u202e"


def test_a_table_has_headings_of_columns_and_rows():
    page = Page(html_table(("arm", "KID"), [["first", "1.0"], ["second", "2.0"]], "results"))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("tr") == 3 and tags.count("td") == 2 and "caption" in tags
    scopes = [dict(attrs).get("scope") for tag, attrs in page.elements if tag == "th"]
    assert scopes == ["col", "col", "row", "row"]
    assert page.text == ["results", "arm", "KID", "first", "1.0", "second", "2.0"]


def test_html_escapes_names_captions_and_cells():
    page = Page(html_table((HOSTILE, "b"), [[HOSTILE, HOSTILE]], HOSTILE))
    assert {tag for tag, _ in page.elements} <= {"table", "caption", "tr", "th", "td"}
    shown = html_text("\x1b[31m\u202ered")
    assert "\x1b" not in shown and "\u202e" not in shown and "\\x1b" in shown


def test_markdown_has_as_many_cells_in_each_line():
    lines = markdown_table(("a", "b"), [["x|y", "z\nz"], [HOSTILE, ""]]).splitlines()
    assert len(lines) == 4
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)
    assert lines[1] == "| --- | --- |"


def test_a_markdown_table_without_headings_has_an_empty_row_of_them():
    assert markdown_table((), fact_rows({"weights": "ema"})).splitlines() == [
        "|  |  |",
        "| --- | --- |",
        "| weights | ema |",
    ]


def test_lines_of_facts_hold_no_control_characters_and_no_secrets():
    text = fact_lines({"a": HOSTILE, "source": "https://user:password@host/0.tar"})
    assert text.splitlines()[0].startswith("a: <script>") and len(text.splitlines()) == 2
    assert "\x1b" not in text and "\u202e" not in text and "password" not in text


@pytest.mark.parametrize("letter", list("\\`*_{}[]|$~!"))
def test_markdown_escapes_each_letter_with_a_meaning(letter):
    assert markdown_text(f"a{letter}b") == f"a\\{letter}b"


def test_markdown_shows_html_as_text():
    text = markdown_text("<b>'&")
    assert "<" not in text and "'" not in text
    assert text == "&lt;b&gt;&#39;&amp;"


def test_secrets_of_urls_are_left_out():
    url = "https://user:password@host/0.tar?signature=0123456789abcdef"
    for text in (html_text(url), markdown_text(url)):
        assert "password" not in text and "0123456789abcdef" not in text and "host" in text
