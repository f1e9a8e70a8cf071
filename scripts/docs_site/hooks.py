# SPDX-License-Identifier: Apache-2.0
"""MkDocs hooks: pages generated from the code, and links that leave docs/.

mkdocs.yml names this file. The generated pages are never written into docs/: they exist in the
built site only. A link of a page to a file of the repository outside docs/ (a script, a model
card, a report of results/) leads to a copy of that file inside the site.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "src")]

from cli_page import cli_page  # noqa: E402
from configuration_page import configuration_page  # noqa: E402
from gallery_page import gallery_page  # noqa: E402
from metrics_page import metrics_page  # noqa: E402
from recipes_page import recipes_page  # noqa: E402

PAGES = {
    "reference/cli.md": cli_page,
    "reference/recipes.md": recipes_page,
    "reference/configuration.md": configuration_page,
    "reference/metric-list.md": metrics_page,
    "results/index.md": gallery_page,
}
LINK = re.compile(r"(\]\(|src=\"|href=\")(?![a-z]+:|#)([^)#\"\s]+)(?=[)#\"])")
FENCE = re.compile(r"^```.*?^```|`[^`\n]+`", re.M | re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and copies of the files outside docs/ that pages link to."""
    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    linked = {
        target
        for file in files.documentation_pages()
        for target in _outside(file.src_uri, file.content_string)
    }
    for target in sorted(linked):
        copy = File.generated(
            config,
            _copy_name(target),
            content=(ROOT / target).read_bytes(),
            inclusion=InclusionLevel.NOT_IN_NAV,
        )
        files.append(copy)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links that leave docs/ to the copies inside the site."""
    uri = page.file.src_uri

    def replace(match: re.Match[str]) -> str:
        target = repository_file(uri, match[2])
        if target is None:
            return match[0]
        folder = posixpath.dirname(uri) or "."
        return match[1] + posixpath.relpath(_copy_name(target), folder)

    texts = [LINK.sub(replace, text) for text in FENCE.split(markdown)]
    code = [*FENCE.findall(markdown), ""]
    return "".join(text + block for text, block in zip(texts, code, strict=True))


def repository_file(uri: str, link: str) -> str | None:
    """The path from the repository's root of a file outside docs/ that a page links to."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), link))
    if path.startswith(("docs/", "..")) or not (ROOT / path).is_file():
        return None
    return path


def _outside(uri: str, markdown: str) -> set[str]:
    links = LINK.findall(FENCE.sub("", markdown))
    return {path for _, link in links if (path := repository_file(uri, link))}


def _copy_name(path: str) -> str:
    """The place of a copy in the site; Markdown is shown as plain text."""
    return f"repository/{path}" + (".txt" if path.endswith(".md") else "")
