# SPDX-License-Identifier: Apache-2.0
"""Parser of HTML pages for tests."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "line", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects tags with attributes, the addresses they load, and the text outside styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    @property
    def addresses(self) -> list[str]:
        """Addresses that may be loaded or followed."""
        names = ("src", "href", "xlink:href", "srcset", "action", "poster", "data")
        return [v or "" for _, values in self.elements for k, v in values.items() if k in names]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element of this tag."""
        return [values for name, values in self.elements if name == tag]
