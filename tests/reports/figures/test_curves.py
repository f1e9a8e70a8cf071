# SPDX-License-Identifier: Apache-2.0
"""Curves: means over seeds, smoothing, and SVG that needs nothing else."""

import json
import shutil

import pytest
from edited_json import edited_lines

from pippin.reports.figures.control_figures import tradeoffs
from pippin.reports.figures.curves import learning_curves, mean_line, smooth
from pippin.reports.report import render_report
from pippin.reports.report_data import open_source, read_log


def test_smoothing_keeps_a_line_straight_inside():
    """A running mean of a straight line is the line, away from the ends."""
    points = [(float(x), 2.0 * x + 1.0) for x in range(101)]
    found = [y for _, y in smooth(points)]
    assert found[10:90] == pytest.approx([y for _, y in points[10:90]])
    assert smooth([]) == []


def test_mean_is_taken_where_all_seeds_are():
    lines = [[(1.0, 2.0), (2.0, 4.0)], [(2.0, 8.0), (3.0, 1.0)], []]
    assert mean_line(lines) == [(2.0, 6.0)]


def test_lines_of_equal_images_are_one(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"images": 2, "loss": 9}\n{"images": 1, "loss": 3}\n{"images": 2, "loss": 4}\n['
    )
    lines, problems = read_log(path)
    assert [(line["images"], line["loss"]) for line in lines] == [(1, 3), (2, 4)]
    path.write_text('{"images": 2, "loss": 9}\n{"images": 2, "held_out_loss": 4}\n')
    assert read_log(path)[0] == ({"images": 2, "loss": 9, "held_out_loss": 4},)
    assert len(problems) == 1 and problems[0].startswith("log.jsonl line 4 does not count: ")


def test_svg_is_drawn_in_the_pages_colour_and_repeats(finished):
    (figure,) = learning_curves(open_source(finished))
    assert figure.svg.startswith("<svg") and "currentColor" in figure.svg
    assert "<metadata" not in figure.svg and "images seen" in figure.svg
    assert learning_curves(open_source(finished))[0].svg == figure.svg


def test_a_curve_of_one_point_is_a_sentence(finished):
    run = finished / "runs/entangled-seed0"
    (run / "log.jsonl").write_text('{"images": 1000, "loss": 0.5}\n')
    (figure,) = learning_curves(open_source(run))
    assert figure.svg == "" and figure.legend == ()
    assert figure.sentence == "0.5 at 1,000 images seen (measured once, so there is no curve)."
    page = render_report(run).read_text(encoding="utf-8")
    assert figure.sentence in page and "<svg" not in page.partition('id="training"')[2]


def test_single_points_of_several_arms_are_named(finished):
    for seed in (0, 1, 2):
        for arm, loss in (("entangled", 0.5), ("disentangled", 0.25)):
            log = finished / f"runs/{arm}-seed{seed}/log.jsonl"
            log.write_text(json.dumps({"images": 1000, "loss": loss}) + "\n")
    (figure,) = learning_curves(open_source(finished))
    assert figure.sentence.startswith(
        "entangled: 0.5 at 1,000 images seen; disentangled: 0.25 at 1,000 images seen (measured"
    )


def test_a_single_point_beside_a_curve_has_a_marker(finished):
    """A line of one point has no length, so only a marker shows it."""
    plain = learning_curves(open_source(finished))[0].svg
    for seed in (0, 1, 2):
        log = finished / f"runs/entangled-seed{seed}/log.jsonl"
        log.write_text('{"images": 1000, "loss": 0.5}\n')
    (figure,) = learning_curves(open_source(finished))
    assert figure.svg.startswith("<svg") and not figure.sentence
    assert figure.svg.count("<use") > plain.count("<use")


def test_a_tradeoff_runs_from_the_origin_through_the_means_of_seeds(finished, tmp_path):
    rows = edited_lines(finished / "results.jsonl")
    first = next(row for row in rows if row.get("metric") == "drift" and row["subject"] == "arm")
    added = []
    for arm, slope in (("entangled", 0.4), ("disentangled", 0.1)):
        for seed in (0, 1, 2):
            for beta in (1.0, 2.0):
                effect = beta * (1 + 0.1 * seed)
                for metric, value in (("effect", effect), ("drift", slope * effect)):
                    name = f"{metric} original_size at beta {beta:g}"
                    values = {"metric": name, "value": value, "arm": arm, "seed": seed}
                    added.append(first | values)
    for metric, value in (("effect", 1.8), ("drift", 0.05)):
        added.append(
            first | {"metric": f"{metric} original_size", "value": value, "subject": "real"}
        )
    folder = shutil.copytree(finished, tmp_path / "copy")
    with (folder / "results.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in added)
    (figure,) = tradeoffs(open_source(folder))
    assert [(key.arm, key.end) for key in figure.legend] == [
        ("entangled", "0.88 at 2.2"),
        ("disentangled", "0.22 at 2.2"),
    ]
    assert "against effect: entangled ends at 0.88 at 2.2" in figure.alt
    assert "the cross is real pairs" in figure.caption
    assert tradeoffs(open_source(finished)) == []
    page = render_report(folder).read_text()
    assert "Drift against effect (original size)" in page
