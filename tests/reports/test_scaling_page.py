# SPDX-License-Identifier: Apache-2.0
"""The page of scaling curves: its figures, its tables, hostile names, and nothing loaded."""

import math
from dataclasses import replace

import numpy as np
import pytest
from html_page import Page

from pippin.config import ConfigError
from pippin.reports.figures import scaling_figures
from pippin.reports.figures.scaling_figures import (
    MIN_SPAN,
    ScalingCurve,
    ScalingPoint,
    ScalingSeries,
    round_numbers,
    rounded,
    scaling_figure,
)
from pippin.reports.scaling_page import check_scaling_page, render_scaling, summary_row


def point(x, median, ideal, ratio=None):
    return ScalingPoint(
        x=x,
        median=median,
        low=0.8 * median,
        high=1.5 * median,
        repetitions=3,
        ideal=ideal,
        ratio=ratio,
    )


OWN = ScalingSeries(name="pippin", points=(point(64, 100.0, 100.0), point(256, 20.0, 25.0)))
PEER = ScalingSeries(
    name="peer",
    points=(point(64, 50.0, 50.0, (2.0, 1.9, 2.2)), point(256, 16.0, 12.5, (1.25, 1.0, 1.5))),
)
CURVE = ScalingCurve(
    key="tokens",
    title="Training against tokens",
    axis="tokens",
    unit="images/s",
    better="higher",
    law="as FLOPs",
    note="A note",
    series=(OWN, PEER),
    left_out=("1024: too long",),
)


@pytest.fixture
def drawn(monkeypatch):
    """The axes that a figure was drawn on."""
    figures = []
    monkeypatch.setattr(
        scaling_figures, "to_svg", lambda figure: figures.append(figure) or "<svg></svg>"
    )

    def draw(curve):
        scaling_figure(curve)
        return figures.pop().axes[0]

    return draw


def test_the_figure_holds_the_points_their_ranges_and_the_ideal(drawn):
    axes = drawn(CURVE)
    assert axes.get_xscale() == axes.get_yscale() == "log"
    lines = [line.get_xydata().tolist() for line in axes.lines]
    assert lines == [
        [[64, 50], [256, 16]],
        [[64, 100], [256, 20]],
        [[64, 100], [256, 25]],  # the ideal of the first series
    ]
    bands = [collection.get_paths()[0].vertices[:, 1] for collection in axes.collections]
    ranges = [end for values in bands for end in (values.min(), values.max())]
    assert ranges == pytest.approx([12.8, 75.0, 16.0, 150.0])
    bottom, top = axes.get_ylim()
    assert bottom < 12.8 and top > 150.0
    assert [text.get_text() for text in axes.get_xticklabels()] == ["64", "256"]


def test_a_flat_curve_looks_flat_and_nothing_is_drawn_at_zero(drawn):
    flat = (point(1, 10.0, 10.0), point(2, 10.1, 10.0))
    bottom, top = drawn(replace(CURVE, series=(replace(OWN, points=flat),))).get_ylim()
    assert top / bottom >= MIN_SPAN
    empty = (point(8, 0.0, 0.1), point(16, 0.5, 0.2), point(32, 1.0, 0.4))
    axes = drawn(replace(CURVE, series=(replace(OWN, points=empty),)))
    assert axes.lines[0].get_xydata().tolist() == [[16, 0.5], [32, 1.0]]
    assert np.isfinite(axes.get_ylim()).all()


@pytest.mark.parametrize(("bottom", "top"), [(3.0, 25.0), (0.002, 40.0), (1e-6, 1e9)])
def test_ticks_are_few_round_numbers_inside(bottom, top):
    values = round_numbers(bottom, top)
    assert 2 <= len(values) <= 6
    assert all(bottom <= value <= top for value in values)
    assert {f"{value:e}"[0] for value in values} <= set("1235")


def test_curves_of_one_point_are_told_in_words():
    one = replace(CURVE, series=(replace(OWN, points=OWN.points[:1]),))
    figure = scaling_figure(one)
    assert figure.sentence.startswith("100 at tokens 64") and not figure.svg


def render(curves, tmp_path, **context):
    out = tmp_path / "scaling.html"
    settings = {"facts": ["device cpu"], "settings": {"seconds": 2.0}} | context
    return render_scaling(curves, out=out, **settings).read_text(encoding="utf-8")


def test_the_tables_hold_ratios_to_the_ideal_and_to_peers(tmp_path):
    text = " ".join("".join(Page(render([CURVE], tmp_path)).text).split())
    assert "100 (80 to 150)" in text and "0.80 of ideal" in text and "1.28 of ideal" in text
    assert "pippin / this: 1.25 (1.00 to 1.50)" in text
    assert "Left out: 1024: too long." in text
    (summary,) = {cell.text for cell in summary_row(CURVE).cells[-1:]}
    assert summary == "0.80"
    assert math.isnan(replace(OWN.points[0], ideal=0.0).of_ideal)


def test_a_single_repetition_has_no_range(tmp_path):
    once = tuple(
        replace(one, points=tuple(replace(p, repetitions=1) for p in one.points))
        for one in CURVE.series
    )
    text = " ".join("".join(Page(render([replace(CURVE, series=once)], tmp_path)).text).split())
    assert "pippin / this: 1.25" in text and "(1.00 to" not in text and "(80 to" not in text


def test_numbers_have_three_digits_and_no_exponent():
    assert [*map(rounded, (0.01234, 5.301, 999.0, 18_210.0))] == ["0.0123", "5.3", "999", "18,200"]


def test_the_page_loads_nothing_and_names_are_text(tmp_path):
    hostile = "<script>alert(1)</script> $x"
    texts = dict.fromkeys(("title", "axis", "unit", "law", "note"), hostile)
    series = tuple(replace(one, name=f"{hostile} {one.name}") for one in CURVE.series)
    curve = replace(CURVE, series=series, left_out=(hostile,), **texts)
    text = render([curve], tmp_path, facts=[hostile], settings={hostile: hostile})
    page = Page(text)
    assert page.open == [] and "default-src 'none'" in text
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    assert "svg" in page.tags


def test_curves_without_a_point_are_named(tmp_path):
    empty = replace(CURVE, title="Training against width", series=())
    text = render([CURVE, empty], tmp_path)
    assert "Not measured: Training against width." in text


def test_another_file_is_not_replaced(tmp_path):
    (tmp_path / "notes.html").write_text("<p>mine</p>")
    with pytest.raises(ConfigError, match="is not replaced"):
        check_scaling_page(tmp_path / "notes.html")
    with pytest.raises(ConfigError, match=r"written as \.html"):
        check_scaling_page(tmp_path / "notes.json")
    check_scaling_page(tmp_path / "new.html")
