# SPDX-License-Identifier: Apache-2.0
"""Checks of the page's values, and the HTML that shows them."""

from html.parser import HTMLParser

import pytest

from pippin.app.controls import PlayControl
from pippin.app.form import MAX_CHARACTERS, read_settings, read_text, read_values
from pippin.app.gallery import escaped, problem_html, sheet_html
from pippin.app.sheet import Request, Sheet
from pippin.config import ConfigError
from pippin.sampling.config import SamplingConfig

FORM = {"prompt": "cat", "solver": "heun", "steps": 4}
SIZE = PlayControl(name="original_size", label="original size", low=8, high=99, step=1, default=9)
SHAPE = PlayControl(name="aspect", label="aspect", kind="choice", choices=("1x2",), default="1x2")
FLIP = PlayControl(name="flip", label="flip", kind="switch", default=False)
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "{{7*7}} ${alert(1)} `x`",
    "&lt;b&gt;",
    "\u202etxt.exe",
)


def test_missing_values_take_defaults():
    settings = read_settings(FORM, [SIZE, FLIP])
    assert settings.controls == {"original_size": 9, "flip": False}
    assert settings.seeds == tuple(range(16)) and settings.log_snr_interval is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": float("nan")}, "steps must be a whole number from 1 to 1000; got nan"),
        ({"steps": "NaN"}, "steps must be a whole number from 1 to 1000; got 'NaN'"),
        ({"steps": None}, "got nothing"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": True}, "whole number"),
        ({"steps": 10**400}, "whole number"),
        ({"steps": [3]}, "whole number"),
        ({"count": 65}, "number of images must be a whole number from 1 to 64; got 65"),
        ({"first_seed": -1}, "first seed must be"),
        ({"first_seed": float("inf")}, "first seed must be"),
        ({"semantic_scale": "x"}, r"guidance scale \(lambda\) must be a number"),
        ({"control_scale": float("-inf")}, r"control guidance scale \(beta\) must be"),
        ({"solver": "rk4"}, "solver must be one of ddim, "),
        ({"solver": ["ddim"]}, "solver must be one of"),
        ({"interval": True, "interval_low": 2, "interval_high": 1}, "must begin below its end"),
        ({"interval": True, "interval_low": float("nan")}, "guidance interval, low must be"),
        ({"original_size": 7}, "original size must be a whole number from 8 to 99; got 7"),
        ({"aspect": "2x1"}, "aspect must be one of 1x2; got '2x1'"),
        ({"aspect": ["1x2"]}, "aspect must be one of"),
        ({"flip": "yes"}, "flip must be yes or no; got 'yes'"),
        ({"prompt": "x" * 100_000}, "the prompt has 100,000 characters; at most 2,000"),
        ({"prompt": "a\x1b[2J"}, r"the prompt has the control character U\+001B at position 2"),
        ({"prompt": "\ud800"}, r"U\+D800"),
        ({"negative_prompt": "\x00"}, r"the negative prompt has the control character U\+0000"),
        ({"negative_prompt": "None"}, "means no negative prompt in commands: write none"),
        ({"prompt": 3}, "prompt must be text; got 3"),
    ],
)
def test_wrong_values_are_refused_in_words(values, message):
    with pytest.raises(ConfigError, match=message):
        read_settings(FORM | values, [SIZE, SHAPE, FLIP])


@pytest.mark.parametrize("text", ["\U0001f600\u200d\U0001f525", "\u732b", "a\nb", "x" * 2000])
def test_text_is_taken_as_it_is(text):
    assert len(text) <= MAX_CHARACTERS and read_text("prompt", text) == text


def test_scales_of_a_grid():
    assert read_values("lambda", "1, 2 2,3.5") == (1.0, 2.0, 3.5)
    for text in ("", "1, x", "nan", "1 2 3 4 5 6 7", None):
        with pytest.raises(ConfigError, match="lambda"):
            read_values("lambda", text)


@pytest.mark.parametrize(
    ("control", "count", "values"),
    [
        (FLIP, 8, (False, True)),
        (SHAPE, 8, ("1x2",)),
        (PlayControl(name="x", label="x", low=0, high=1, default=0), 3, (0, 0.5, 1)),
        (
            PlayControl(name="x", label="x", low=1, high=64, step=1, log=True, default=1),
            4,
            (1, 4, 16, 64),
        ),
        (PlayControl(name="x", label="x", low=1, high=3, step=1, default=1), 9, (1, 2, 3)),
    ],
)
def test_values_of_a_sweep(control, count, values):
    assert control.values(count) == values


class Tags(HTMLParser):
    """Names of tags and attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.alts = set(), set(), "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.alts += [value for name, value in attributes if name == "alt"]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_users_is_no_markup_and_no_template(text):
    request = Request(model=0, prompt=text, seeds=(0,), config=SamplingConfig(), label=text)
    sheet = Sheet(
        kind="grid", prompt=text, requests=(request,), title=text, rows=(text,), columns=(text,)
    )
    html = sheet_html(sheet, [text, text], {(request, 0): "data:,"}) + problem_html(text)
    shown = Tags(html)
    assert shown.tags <= {
        *("div", "section", "h2", "h3", "table", "tr", "td", "th", "figure", "img", "p"),
    }
    assert "h2" in shown.tags and shown.attributes <= {"class", "src", "alt", "scope", "role"}
    assert not set("{}$`") & set(html)
    visible = text.replace("\u202e", "\\u202e")
    assert visible in shown.text and visible in shown.alts[0]
    assert Tags(str(escaped(text))).text == visible


def test_a_long_message_is_cut():
    assert len(problem_html("x" * 10_000)) < 2000
