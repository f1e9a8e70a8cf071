# SPDX-License-Identifier: Apache-2.0
"""Colours of the report's style sheet can be read: WCAG 2.2 contrast, computed from the sheet."""

import re
from importlib.resources import files

import pytest

from pippin.reports.figures.curves import COLOURS

CSS = files("pippin.reports").joinpath("templates", "report.css").read_text(encoding="utf-8")
BLOCKS = re.findall(r":root \{(.*?)\}", CSS, re.S)
TEXT, GRAPHICS = 4.5, 3.0
"""Success criteria 1.4.3 and 1.4.11."""


def variables(block):
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6}|\d+%)", block))


SCHEMES = {"light": variables(BLOCKS[0]), "dark": variables(BLOCKS[1])}


def channels(colour):
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def luminance(rgb):
    """Relative luminance (IEC 61966-2-1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def mixed(colour, share, ground):
    """CSS color-mix in sRGB."""
    return [share * a + (1 - share) * b for a, b in zip(colour, ground, strict=True)]


def test_contrast_of_known_pairs():
    """Black on white is 21; #767676 is the well-known grey that just passes on white."""
    white = channels("#ffffff")
    assert contrast(channels("#000000"), white) == pytest.approx(21)
    assert contrast(channels("#767676"), white) == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["ink", "soft", "good", "mixed", "bad", "same", "undecided"])
def test_text_can_be_read(scheme, name):
    found = SCHEMES[scheme]
    colour, tint = channels(found[name]), float(found["tint"][:-1]) / 100
    card, page = channels(found["card"]), channels(found["page"])
    tones = ("good", "mixed", "bad", "same", "undecided")
    tinted = [mixed(channels(found[tone]), tint, card) for tone in tones]
    for ground in (card, page, *tinted):
        assert contrast(colour, ground) >= TEXT


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("arm", range(COLOURS))
def test_curves_can_be_seen(scheme, arm):
    found = SCHEMES[scheme]
    assert contrast(channels(found[f"arm-{arm}"]), channels(found["card"])) >= GRAPHICS


def test_every_colour_has_both_schemes():
    assert SCHEMES["light"].keys() == SCHEMES["dark"].keys()
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", CSS)) - {"tone"}
    assert used <= SCHEMES["light"].keys()
