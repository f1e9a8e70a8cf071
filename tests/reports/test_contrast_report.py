# SPDX-License-Identifier: Apache-2.0
"""A study with contrasts is headed by them, and nothing else on its pages gives a verdict."""

import re
from dataclasses import replace

import pytest

from pippin.config import ConfigError
from pippin.reports.contrast_headline import study_headline
from pippin.reports.markdown import markdown
from pippin.reports.page import code_spans
from pippin.reports.report import render_report
from pippin.reports.report_data import open_source
from pippin.reports.tables.contrast_table import (
    contrast_label,
    contrast_lines,
    evaluate_contrasts,
    p_text,
)
from pippin.reports.tables.results_table import nearest_note, result_lines
from pippin.studies.contrasts import Contrast, difference
from pippin.studies.runner import run_study
from pippin.studies.study_folder import declare

PREDICTION = "Drift falls by 0.02 or so, as in `control` & co."


@pytest.fixture(scope="module")
def folder(study, execute, measure, tmp_path_factory):
    """Drift falls by 0.02; FD, KID and sharpness fall by a little, and differently by seed."""

    def run(recipe, folder):
        gated = recipe.conditioning.rules["label"] == "attention"
        wave = (0.0, 1.0, -0.6)[recipe.seed]
        return [
            measure("sharpness", -2.9 - 0.1 * gated, better="neither"),
            *execute(recipe, folder),
            measure("KID-efflite0", 8.0 - 0.3 * gated),
            measure("coverage", 0.5, better="higher"),
            measure("FD-efflite0", 2400.0 - gated * (10 + 30 * wave)),
            measure("FD-efflite0 at best request", 2300.0),
        ]

    first, second = study.arms()
    lower = difference(
        first,
        second,
        "drift",
        name="drift",
        claim="Drift falls.",
        predicted="negative",
        smallest_effect=0.005,
    )
    same = difference(
        first,
        second,
        "FD-efflite0",
        name="quality",
        claim="FD stays equal.",
        predicted="none",
        smallest_effect=40.0,
    )
    more = difference(
        first, second, "effect", name="effect", claim="It acts as much.", role="exploratory"
    )
    made = replace(study, contrasts=(lower, same, more), prediction=PREDICTION)
    place = tmp_path_factory.mktemp("contrasts")
    run_study(made, place, run, lambda text: None)
    return place


def test_the_headline_says_each_claim_with_its_verdict(folder):
    source = open_source(folder)
    found = study_headline(source, result_lines(source))
    assert found.mark == "1 supported, 1 inconclusive"
    assert found.sentence == "Supported: Drift falls. Inconclusive: FD stays equal."
    assert found.tone == "mixed"
    assert [strip.label for strip in found.strips] == ["drift", "quality"]
    assert len({strip.band for strip in found.strips}) == 1  # each in units of its own
    assert "better" not in " ".join(found.companions)


def test_equal_verdicts_of_all_claims_are_said_once(folder):
    source = open_source(folder)
    drift = source.declaration.contrasts[0]
    more = replace(drift, name="again", claim="It falls again.")
    declared = replace(source.declaration, contrasts=(drift, more))
    found = study_headline(replace(source, declaration=declared), [])
    assert (found.mark, found.sentence) == ("Supported", "Drift falls. It falls again.")


def test_the_table_has_estimate_interval_power_and_verdict(folder):
    source = open_source(folder)
    results = evaluate_contrasts(source)
    drift, quality, effect = contrast_lines(source, results)
    assert (
        drift.cells[0]
        .replace("\N{NO-BREAK SPACE}", " ")
        .startswith("\N{MINUS SIGN}0.0210 ± 0.0025")
    )
    assert drift.cells[1] == "below 0" and drift.cells[-1] == "supported"
    assert drift.cells[3] == p_text(results[0].adjusted)
    assert drift.formula == "\N{MINUS SIGN}1 entangled +1 disentangled of drift (unit: distance)"
    assert re.fullmatch(r"0\.\d\d; \d+ seeds", quality.cells[4])
    assert effect.cells[-1] == "exploratory" and effect.cells[3].endswith("not adjusted")
    sized = replace(results[1], contrast=replace(results[1].contrast, role="secondary"))
    assert contrast_lines(source, [sized])[0].cells[4] == "\N{EN DASH}"


def test_markdown_puts_contrasts_first_and_the_rest_without_verdict(folder):
    text = markdown(open_source(folder))
    assert text.startswith("**1 supported, 1 inconclusive.** Supported: Drift falls.")
    assert (
        text.index("| claim | estimate |")
        < text.index("Exploratory: means")
        < text.index("| arm |")
    )
    assert ": better" not in text and ": undecided" not in text
    assert f"- Predicted before the run: {PREDICTION}" in text
    assert text.count("\n- Δ: 95 % interval, 3 seeds.\n") == 1  # besides that of the estimates
    assert "The interval of the difference includes zero" not in text
    head = next(line for line in text.splitlines() if line.startswith("| arm |"))
    columns = [cell.split()[0] for cell in head.strip("| ").split(" | ")]
    assert columns[:4] == ["arm", "drift", "effect", "FD-efflite0"]
    assert columns[4:6] == ["KID-efflite0", "sharpness"]  # quality stands together
    assert "coverage" not in columns


def test_the_level_of_most_differences_is_that_of_the_table(study, execute, measure, tmp_path):
    """The first column lacks a seed, and says so in its cell."""

    def run(recipe, folder):
        measures = [one for one in execute(recipe, folder) if one.name != "drift"]
        drift = measure("drift", 0.1 - 0.01 * recipe.seed)
        return [*measures, *([drift] if recipe.seed < 2 else []), measure("coverage", 0.5)]

    first, second = study.arms()
    claims = [
        difference(first, second, metric, name=metric, claim="It differs.", predicted="negative")
        for metric in ("drift", "effect", "coverage")
    ]
    run_study(replace(study, contrasts=tuple(claims)), tmp_path, run, lambda text: None)
    text = markdown(open_source(tmp_path))
    assert "\n- Δ: 95 % interval, 3 seeds.\n" in text
    assert "Δ: 95 % interval, 2 seeds" not in text


def test_no_note_explains_a_word_that_no_difference_has(folder, tmp_path):
    claims = open_source(folder)  # with sharpness, whose best value is that of real images
    assert "≈: the value nearest" in markdown(claims)
    assert "the word after it" not in markdown(claims)
    page = render_report(folder, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "≈: the value nearest" in page and "the word after it" not in page
    undecided = replace(claims.declaration, contrasts=())
    assert "the word after it compares" in nearest_note(undecided)


def test_the_page_holds_the_table_and_the_prediction(folder, tmp_path):
    page = render_report(folder, tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("Declared contrasts")
    assert "Drift falls by 0.02 or so, as in <code>control</code> &amp; co." in page
    for text in (
        "FD stays equal.",
        "inconclusive",
        "not adjusted",
        "Exploratory, without a verdict",
    ):
        assert text in page
    assert ">decides<" not in page and ">read with it<" not in page and ": better<" not in page
    assert "in one metric of twenty, some Δ excludes zero by chance" in page  # corrected for arms


def contrast(name, *metrics):
    pairs = [difference("a", "b", metric, name="", claim="").terms for metric in metrics]
    terms = tuple(term for pair in pairs for term in pair)
    return Contrast(name=name, claim="It differs.", terms=terms)


@pytest.mark.parametrize(
    ("name", "metric", "label"),
    [
        (
            "a less b, matched drift original_size",
            "matched drift original_size",
            "a less b, matched drift (original size)",
        ),
        (
            "gate on colour_jitter, matched drift",
            "matched drift colour_jitter",
            "gate on colour jitter, matched drift",
        ),
        ("gate on grain, effect grain", "effect grain", "gate on grain, effect (grain)"),
        ("flipped arm", "drift flip", "flipped arm"),
        ("a.b (c)", "own metric", "a.b (c)"),
    ],
)
def test_metrics_in_a_contrasts_name_appear_by_their_labels(name, metric, label):
    assert contrast_label(contrast(name, metric)) == label


def test_code_spans_are_escaped():
    assert code_spans("a `b<c` & `d") == "a <code>b&lt;c</code> &amp; `d"
    assert code_spans("``") == "``"


def test_a_study_without_contrasts_has_the_headline_that_it_had(finished):
    source = open_source(finished)
    found = study_headline(source, result_lines(source))
    assert found.mark == "Supported" and "is better than" in found.sentence
    page = render_report(finished).read_text(encoding="utf-8")
    assert "Declared contrasts" not in page and ">decides<" in page


def test_only_secondary_contrasts_decide_nothing(study, execute, tmp_path):
    first, second = study.arms()
    said = difference(first, second, "drift", name="d", claim="It falls.", role="secondary")
    run_study(replace(study, contrasts=(said,)), tmp_path, execute, lambda text: None)
    found = study_headline(open_source(tmp_path), result_lines(open_source(tmp_path)))
    assert found.mark == "Exploratory" and "nothing is decided" in found.sentence


def test_nothing_measured_is_no_verdict_yet(study, tmp_path):
    first, second = study.arms()
    said = difference(first, second, "drift", name="d", claim="It falls.")
    declare(replace(study, contrasts=(said,)), tmp_path)
    found = study_headline(open_source(tmp_path), result_lines(open_source(tmp_path)))
    assert found.mark == "No verdict yet" and not found.strips


def test_the_prediction_cannot_be_changed_after_the_first_run(study, finished):
    with pytest.raises(ConfigError, match="declares prediction = ''"):
        declare(replace(study, prediction="I knew it."), finished)


def test_p_values_in_words():
    assert [p_text(one) for one in (0.04321, 1.0, 3e-7)] == ["0.043", "1", "< 0.0001"]
