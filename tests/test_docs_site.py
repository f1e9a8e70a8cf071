# SPDX-License-Identifier: Apache-2.0
"""The documentation site builds without a warning, and every link to a page leads somewhere."""

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from pippin.cli.main import VERBS
from pippin.evaluation.metric_registry import metric_kinds
from pippin.recipes.table import RECIPES, get_recipe

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts" / "docs_site"
OUTSIDE = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
NAMED = re.compile(r"docs/[\w./-]+\.(?:md|png)")


class Page(HTMLParser):
    """Links, anchors and loaded files of one page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.loaded = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in ("link", "script", "img") and (values.get("href") or values.get("src")):
            self.loaded.append(values.get("href") or values.get("src"))


@pytest.fixture(scope="module")
def generated():
    """The functions that write pages from the code, by name."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        names = ("cli_page", "configuration_page", "recipes_page", "gallery_page", "metrics_page")
        return {name: getattr(importlib.import_module(name), name) for name in names}
    finally:
        sys.path.remove(str(SCRIPTS))


def broken_links(site):
    """Links and loaded files that lead nowhere or to another host, with their pages."""
    copies = site / "repository"  # reports and cards, which are no pages of the site
    paths = [path for path in site.rglob("*.html") if copies not in path.parents]
    pages = {path: Page(path) for path in paths if path.name != "404.html"}
    for path, page in pages.items():
        for link in (*page.links, *page.loaded):
            if re.match(r"https?:", link) and link not in page.loaded:
                continue
            place, _, anchor = unquote(link).partition("#")
            target = (path.parent / place).resolve() if place else path
            other = pages.get(target)
            if not target.exists() or (anchor and other and anchor not in other.anchors):
                yield f"{path.relative_to(site)}: {link}"
    for document in OUTSIDE:
        for place, anchor in re.findall(
            r"\]\(docs/([\w/-]+)\.md(?:#([\w-]+))?\)", document.read_text(encoding="utf-8")
        ):
            other = pages.get(site / f"{place}.html")
            if other is None or (anchor and anchor not in other.anchors):
                yield f"{document.name}: docs/{place}.md#{anchor}"


def test_the_site_builds_without_a_warning_and_links_lead_somewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "reference" / "api" / "runs.html").is_file()
    assert not list(broken_links(tmp_path.resolve()))


def test_every_verb_and_its_options_are_listed(generated):
    page = generated["cli_page"]()
    for verb in VERBS:
        assert f"\n## {verb}\n" in page
    for option in ("--folder", "--prompts-file", "--slurm.minutes", "PATH"):
        assert f"| `{option}` |" in page, option


def test_every_recipe_is_listed(generated):
    page = generated["recipes_page"]()
    for name in RECIPES:
        assert f"\n| `{name}` | " in page, name


def settings_of(values, prefix=""):
    """The dotted names of a recorded recipe."""
    for name, value in values.items():
        if isinstance(value, dict) and value and "kind" not in value and name != "rules":
            yield from settings_of(value, f"{prefix}{name}.")
        elif name not in ("kind", "format"):
            yield f"{prefix}{name}"


def test_every_setting_is_listed(generated):
    page = generated["configuration_page"]()
    record = get_recipe("openmoji/mmdit-disentangled").to_dict()
    for name in settings_of({part: record[part] for part in ("train", "cache", "evaluation")}):
        assert f"| `{name}` | " in page, name
    for part in record:
        assert f"\n## {part}\n" in page or f"| `{part}` |" in page or part == "format", part


def test_every_metric_is_listed(generated):
    page = generated["metrics_page"]()
    for kind in metric_kinds():
        assert f"\n| `{kind.name}`" in page, kind
        assert next(kind.examples()).description in page, kind


def test_every_kept_study_has_an_entry_with_its_section_and_report(generated):
    page = generated["gallery_page"]()
    names = [path.parent.name for path in (ROOT / "results").glob("*/study.json")]
    for name in names:
        assert f"[Report](../../results/{name}/report.html)" in page
    assert page.count("[Section](../results.md#") == len(names)
    assert page.count('<span class="verdict supported">') >= 1


def pages_of(nav):
    """The files that a navigation names."""
    if isinstance(nav, str):
        return {f"docs/{nav}"}
    parts = nav.values() if isinstance(nav, dict) else nav
    return set().union(*map(pages_of, parts))


def test_pages_that_messages_and_scripts_name_exist():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    known = pages_of(yaml.safe_load(text)["nav"])
    files = [
        path
        for folder in ("src", "examples", "scripts")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".sbatch", ".md", ".jinja")
    ]
    for path in (*files, *OUTSIDE):
        for name in NAMED.findall(path.read_text(encoding="utf-8")):
            assert name in known or (ROOT / name).is_file(), f"{path.name} names {name}"
