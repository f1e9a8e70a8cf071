# SPDX-License-Identifier: Apache-2.0
"""The page in Chromium: draw, sweep, copy, hostile prompts, on a desktop and a phone.

``make test-ui`` runs it: it needs the extra ``ui``, the package playwright and Debian's Chromium.
pytest keeps the screenshots in its folder of temporary files (``--basetemp``).
"""

import base64
import importlib.util
import io
import shlex
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from pippin.cli.main import main

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

PROMPTS = (
    "<script>document.title='broken'</script><b onclick=alert(1)>x</b>",
    *("\U0001f600\u200d\U0001f525\u732b", "", "   ", "a\nb", "None", "../../etc/passwd", "%s{0}"),
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
    with opened_tab(chromium, *request.param) as tab:
        yield tab


@pytest.fixture
def desktop(chromium):
    with opened_tab(chromium, 1280, 900) as tab:
        yield tab


@contextmanager
def opened_tab(chromium, width, height):
    """A tab; all its requests go to the page, and neither the page nor the console has errors."""
    context = chromium.new_context(viewport={"width": width, "height": height})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.set_default_timeout(TIMEOUT)
    urls, errors = set(), []
    tab.on("request", lambda request: urls.add(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    tab.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
    yield tab
    own = ("/".join(tab.url.split("/")[:3]) + "/", "data:", "blob:")
    context.close()
    assert urls and not [url for url in urls if not url.startswith(own)]
    assert own[0].startswith("http://127.0.0.1:") and not errors


def draw(tab, name, images):
    tab.click(f"#{name}-draw")
    tab.wait_for_function(
        f"document.querySelectorAll('#{name}-gallery img').length == {images}"
        f" && !document.querySelector('#{name}-gallery .play-empty')"
    )


def pixels_of(tab, name):
    """Pixels of the images of a gallery, in order."""
    sources = tab.locator(f"#{name}-gallery img").evaluate_all("all => all.map(one => one.src)")
    contents = [base64.b64decode(source.partition("base64,")[2]) for source in sources]
    return [pil_to_tensor(Image.open(io.BytesIO(content))) for content in contents]


def is_refused(tab, words, name="images"):
    """Click on Draw and wait for an error with these words."""
    tab.click(f"#{name}-draw")
    status = f"document.querySelector('#{name}-status .play-problem')?.textContent"
    tab.wait_for_function(f"words => {status}?.includes(words)", arg=words)


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
    is_refused(tab, "control character U+0007")


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
    is_refused(tab, "lambda must be a number", "grid")
    tab.get_by_label("lambda", exact=True).fill("1, 2")
    tab.get_by_label("beta", exact=True).fill("1")
    draw(tab, "grid", 4)
    tab.screenshot(path=tmp_path / "grid.png", full_page=True)


def test_copy_buttons_keep_their_label_without_focus(text_page, desktop):
    """Safari leaves the focus on the page when a button is clicked."""
    desktop.goto(text_page)
    desktop.wait_for_selector("#images-copy-command")
    label = "document.getElementById('images-copy-command').textContent.trim()"
    click = "document.activeElement.blur(), document.getElementById('images-copy-command').click()"
    desktop.evaluate(click)
    desktop.wait_for_function(f"{label} == 'Draw first'")
    desktop.evaluate(click)  # before the label is back
    desktop.wait_for_timeout(3000)
    desktop.wait_for_function(f"{label} == 'Copy command'")
    assert desktop.locator("#images-draw").is_visible()


def test_the_copied_command_draws_the_images_of_the_page(text_page, desktop, tmp_path, capsys):
    desktop.goto(text_page)
    desktop.get_by_label("prompt", exact=True).fill('it\'s "a" $HOME\n--red apple \U0001f34e')
    desktop.get_by_label("first seed", exact=True).fill("5")
    fill_number(desktop, "images", 2)
    fill_number(desktop, "steps", 2)
    draw(desktop, "images", 2)
    desktop.click("#images-copy-command")
    desktop.wait_for_function("navigator.clipboard.readText().then(t => t.startsWith('pippin'))")
    words = shlex.split(desktop.evaluate("navigator.clipboard.readText()"))
    assert main([*words[1:], "--out", str(tmp_path / "out"), "--quiet"]) == 0
    for seed, pixels in zip((5, 6), pixels_of(desktop, "images"), strict=True):
        (file,) = (tmp_path / "out").glob(f"*{seed:06d}*.png")
        assert torch.equal(pil_to_tensor(Image.open(file)), pixels)


def test_any_prompt_draws_or_is_refused_in_words(text_page, desktop):
    desktop.goto(text_page)
    prompt = desktop.get_by_label("prompt", exact=True)
    fill_number(desktop, "images", 1)
    fill_number(desktop, "steps", 1)
    for text in PROMPTS:
        prompt.fill(text)
        desktop.click("#images-draw")
        alt = f"{text[:80]}, seed 0" if text else "seed 0"
        desktop.wait_for_function(
            "alt => document.querySelector('#images-gallery img')?.alt === alt", arg=alt
        )
        assert desktop.title() == "pippin play"
    prompt.fill("x" * 10_000)
    is_refused(desktop, "the prompt has 10,000 characters; at most 2,000")
    prompt.fill("cat")
    desktop.get_by_label("first seed", exact=True).fill("-1")
    is_refused(desktop, "first seed must be a whole number from 0")
    desktop.get_by_label("first seed", exact=True).fill("")
    is_refused(desktop, "got nothing")


def test_two_models_draw_equal_seeds_and_stop_in_words(pair_page, desktop):
    desktop.goto(pair_page[0])
    fill_number(desktop, "images", 2)
    fill_number(desktop, "steps", 2)
    draw(desktop, "images", 4)
    first, second, *same = pixels_of(desktop, "images")  # one model twice
    assert torch.equal(first, same[0]) and torch.equal(second, same[1])
    assert not torch.equal(first, second)
    fill_number(desktop, "images", 64)
    fill_number(desktop, "steps", 64)
    desktop.click("#images-draw")
    desktop.wait_for_selector("#images-gallery .play-empty")
    desktop.click("#images-stop")
    desktop.wait_for_function(
        "document.getElementById('images-status').textContent.includes('stopped')"
    )
