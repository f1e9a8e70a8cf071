# SPDX-License-Identifier: Apache-2.0
"""The page in Chromium: draw, sweep, copy, hostile prompts, on a desktop and a phone.

Needs the extra ``ui``, the package playwright and Debian's Chromium; pytest keeps the screenshots
in its folder of temporary files (``--basetemp``).
"""

import importlib.util
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
MISSING = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
MISSING += [] if CHROMIUM.exists() else [str(CHROMIUM)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}")
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
TIMEOUT = 240_000  # milliseconds; machines may be busy
HOSTILE = (
    "<img src=x onerror=\"document.title='broken'\"> {{7*7}} ${document.title='broken'} \U0001f600"
)


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def tab(chromium, request):
    """A tab, and the URLs it fetched from elsewhere and errors of its console."""
    width, height = request.param
    context = chromium.new_context(viewport={"width": width, "height": height})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.set_default_timeout(TIMEOUT)
    problems = []
    tab.on("request", lambda r: problems.append(r.url) if is_foreign(r.url) else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    yield tab
    assert not problems
    context.close()


def is_foreign(url):
    return not url.startswith(("http://127.0.0.1", "data:", "blob:"))


def draw(tab, name, images):
    tab.click(f"#{name}-draw")
    tab.wait_for_function(
        f"document.querySelectorAll('#{name}-gallery img').length == {images}"
        f" && !document.querySelector('#{name}-gallery .play-empty')"
    )


def fill_number(tab, label, value):
    tab.get_by_label(f"number input for {label}", exact=True).fill(str(value))
    tab.keyboard.press("Tab")


def is_within_width(tab):
    return tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_text_model_draws_copies_and_shows_hostile_prompts_as_text(text_page, tab, tmp_path):
    tab.goto(text_page)
    tab.get_by_label("prompt", exact=True).fill(HOSTILE)
    fill_number(tab, "images", 2)
    fill_number(tab, "steps", 1)
    draw(tab, "images", 2)
    assert tab.title() == "pippin play"
    first = tab.locator("#images-gallery img").first
    assert first.get_attribute("alt").startswith(HOSTILE[:60])
    assert tab.locator("#images-gallery img[src='x']").count() == 0
    tab.click("#images-copy-command")
    tab.wait_for_function("navigator.clipboard.readText().then(t => t.startsWith('pippin'))")
    assert "--steps 1" in tab.evaluate("navigator.clipboard.readText()")
    tab.click("#images-copy-python")
    tab.wait_for_function("navigator.clipboard.readText().then(t => t.startsWith('from'))")
    assert is_within_width(tab)
    tab.screenshot(path=tmp_path / "text.png", full_page=True)
    tab.get_by_label("prompt", exact=True).fill("a\u0007b")
    tab.click("#images-draw")
    tab.wait_for_selector("#images-status .play-problem")
    assert "control character U+0007" in tab.text_content("#images-status")


def test_two_models_sweep_a_control(pair_page, tab, tmp_path):
    tab.goto(pair_page[0])
    fill_number(tab, "steps", 2)
    tab.get_by_role("tab", name="Sweep").click()
    fill_number(tab, "values", 3)
    draw(tab, "sweep", 6)
    assert tab.locator("#sweep-gallery section").count() == 2
    assert is_within_width(tab)
    tab.screenshot(path=tmp_path / "sweep.png", full_page=True)
    tab.get_by_role("tab", name="Guidance", exact=True).click()
    tab.get_by_label("lambda", exact=True).fill("1, x")
    tab.click("#grid-draw")
    tab.wait_for_selector("#grid-status .play-problem")
    assert "lambda must be a number" in tab.text_content("#grid-status")
    tab.get_by_label("lambda", exact=True).fill("1, 2")
    tab.get_by_label("beta", exact=True).fill("1")
    draw(tab, "grid", 4)
    tab.screenshot(path=tmp_path / "grid.png", full_page=True)


def test_copy_buttons_keep_their_label_without_focus(text_page, tab):
    """Safari leaves the focus on the page when a button is clicked."""
    tab.goto(text_page)
    tab.wait_for_selector("#images-copy-command")
    click = "document.activeElement.blur(), document.getElementById('images-copy-command').click()"
    button = tab.locator("#images-copy-command")
    tab.evaluate(click)
    tab.wait_for_function(
        "document.getElementById('images-copy-command').textContent == 'Draw first'"
    )
    tab.evaluate(click)  # before the label is back
    tab.wait_for_timeout(3000)
    assert button.text_content().strip() == "Copy command"
    assert tab.locator("#images-draw").is_visible()
