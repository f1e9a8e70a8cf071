# SPDX-License-Identifier: Apache-2.0
"""Tables as HTML, Markdown and lines for notebooks, with all text escaped.

Names of arms, classes and folders come from users and downloaded files. In a notebook they could
otherwise hold markup that acts on the page.
"""

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from pippin.system.redaction import redact
from pippin.system.text import printable

Rows = Sequence[Sequence[str]]
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|$~#!])")
"""Characters with a meaning in Markdown or in a notebook's formulas."""


def html_text(text: object) -> Markup:
    """Text without markup, control characters and secrets of URLs."""
    return escape(printable(redact(text)))


def markdown_text(text: object) -> str:
    """Text on one line that Markdown shows as it is, HTML included."""
    safe = str(html_text(" ".join(str(text).split())))
    return _MARKDOWN.sub(r"\\\1", safe).replace("&\\#", "&#")


def html_table(heads: Sequence[str], rows: Rows, caption: str = "") -> str:
    """Table whose first column holds the headings of its rows.

    Args:
        heads: of the columns; empty = no row of headings.
        rows: texts of the cells.
        caption: text above the table; empty = none.
    """
    title = Markup("<caption>{}</caption>").format(html_text(caption)) if caption else ""
    head = _html_heads(heads) if heads else ""
    body = Markup().join(
        Markup("<tr><th scope='row'>{}</th>{}</tr>").format(
            html_text(first), Markup().join(map(_html_cell, rest))
        )
        for first, *rest in rows
    )
    return str(Markup("<table>{}{}{}</table>").format(title, head, body))


def _html_heads(heads: Sequence[str]) -> Markup:
    cells = (Markup("<th scope='col'>{}</th>").format(html_text(head)) for head in heads)
    return Markup("<tr>{}</tr>").format(Markup().join(cells))


def _html_cell(text: str) -> Markup:
    return Markup("<td>{}</td>").format(html_text(text))


def markdown_table(heads: Sequence[str], rows: Rows, caption: str = "") -> str:
    """The same table as Markdown; empty headings where ``heads`` is empty."""
    width = len(heads) or max(map(len, rows), default=1)
    lines = [list(heads) or [""] * width, *rows]
    texts = [f"| {' | '.join(map(markdown_text, line))} |" for line in lines]
    texts.insert(1, f"|{' --- |' * width}")
    return "\n".join([*([f"**{markdown_text(caption)}**", ""] if caption else []), *texts])


def fact_rows(facts: Mapping[str, str]) -> list[list[str]]:
    """Rows of a table of names and values."""
    return [[name, value] for name, value in facts.items()]


def fact_lines(facts: Mapping[str, str]) -> str:
    """Names and values as lines of text, for a terminal."""
    return "\n".join(printable(redact(f"{name}: {value}")) for name, value in facts.items())
