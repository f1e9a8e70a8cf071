# SPDX-License-Identifier: Apache-2.0
"""The report holds all, loads nothing, escapes everything, and ranks only what may be ranked."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from edited_json import edited_lines, write_edited
from html_page import Page

from pippin.conditioning.config import PowerCosineGate
from pippin.config import ConfigError, replace_at
from pippin.reports.headline import headline
from pippin.reports.report import render_report
from pippin.reports.report_data import open_source
from pippin.reports.tables.results_table import result_lines
from pippin.studies.results import Row, append, read
from pippin.studies.runner import run_study
from pippin.studies.shipped.control import control_axes
from pippin.studies.study import Axis, Study

HOSTILE = "</style><script>alert('x')</script>\"'><img src=http://evil.example/x.png>$\\frac{"


def page(folder):
    return render_report(folder).read_text(encoding="utf-8")


def test_verdict_then_images_then_numbers(finished):
    text = page(finished)
    assert "disentangled is better than entangled on drift" in text
    places = ("verdict", "samples", "drift", "results", "training", "runs", "differences")
    order = [text.index(f'id="{name}"') for name in (*places, "protocol", "reproduce")]
    assert order == sorted(order)


def test_chance_is_stated_for_the_level_of_the_differences(finished):
    text = page(finished)
    assert "in one of twenty others, some Δ excludes zero by chance" in text
    assert "one Δ in twenty" not in text


def test_numbers_are_means_over_paired_seeds(finished):
    drift, effect = result_lines(open_source(finished))
    first, second = (cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in drift.arms)
    assert (first, second) == ("0.0610 ± 0.0025", "0.04 ± 0")
    assert drift.arms[1].delta.startswith("Δ \N{MINUS SIGN}0.0210")
    assert drift.arms[1].tone == "good"
    assert (drift.role, effect.role) == ("primary", "companion")
    assert drift.real.text.startswith("0.000 [") and drift.real.remark == "n = 60"
    assert drift.untrained.text.startswith("0.0010")


def test_page_is_self_contained(finished):
    found = Page(page(finished))
    assert found.open == []
    assert "script" not in found.tags and "link" not in found.tags and "iframe" not in found.tags
    assert "img" in found.tags and "svg" in found.tags
    outside = [
        one for one in found.addresses if not one.startswith(("data:image/png;base64,", "#"))
    ]
    assert outside == []
    text = render_report(finished).read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"url\(\s*[\"']?(?!#)|@import", text)


def test_every_hostile_name_is_escaped(study, execute, finished):
    run_study(
        replace(study, title=HOSTILE, question=HOSTILE), finished, execute, lambda text: None
    )
    path = finished / "study.json"
    declared = json.loads(path.read_text())
    declared["reproduce"] = [HOSTILE]
    declared["arms"][HOSTILE] = declared["arms"]["entangled"]
    declared["combinations"][HOSTILE] = declared["combinations"]["entangled"]
    declared["arms"]["../../escape"] = declared["arms"]["entangled"]
    declared["axes"]["path"]["description"] = HOSTILE
    write_edited(path, declared)
    results = read(finished / "results.jsonl")
    append(
        finished / "results.jsonl",
        [
            Row.from_dict(row.to_dict() | {"metric": HOSTILE, "unit": HOSTILE})
            for row in results.rows
        ],
    )
    found = Page(page(finished))
    assert "script" not in found.tags
    assert not any("evil" in one for one in found.addresses)
    assert sum(text.count("alert('x')") for text in found.text) >= 6


def test_images_that_are_no_images_are_not_embedded(finished):
    secret = finished / "secret.txt"
    secret.write_text("do not show")
    grid = finished / "runs/entangled-seed0/evaluation/samples/grid.png"
    grid.unlink()
    grid.symlink_to(secret)
    text = page(finished)
    assert "no image: not a PNG file" in text
    assert "ZG8gbm90" not in text  # base64 of the secret's beginning


def test_grids_of_other_seeds_are_marked(finished):
    assert "the same sample seeds and labels in every grid: 0 to 3" in page(finished)
    manifest = finished / "runs/entangled-seed0/evaluation/samples/manifest.json"
    manifest.write_text(json.dumps({"images": [{"seed": 9, "label": 0}]}))
    assert "do not compare them" in page(finished)


def test_rows_of_another_protocol_are_not_ranked(study, measure, finished):
    """One arm measured again on another number of steps: listed, and out of every mean."""
    from pippin.studies.execution import result_row

    before = result_lines(open_source(finished))[0]
    arm = replace_at(study.arms()["disentangled"], "sampling.steps", 9)
    stray = result_row(study, "disentangled", arm, measure("drift", 5.0))
    append(finished / "results.jsonl", [stray])
    after = result_lines(open_source(finished))[0]
    assert after.arms == before.arms and after.comparisons == before.comparisons
    assert "sampling.steps = 9, not 50" in after.unranked[0]
    assert "not ranked with the others" in page(finished)


def test_divergence_has_a_cell_of_its_own(study, measure, tmp_path):
    def run(recipe, folder):
        entangled = recipe.conditioning.rules["label"] == "modulation"
        return [measure("drift", float("nan") if entangled else 0.1)]

    run_study(study, tmp_path, run, lambda text: None)
    (line,) = result_lines(open_source(tmp_path))
    assert line.arms[0].text == "diverged"
    text = page(tmp_path)
    assert "entangled diverged: no verdict on drift." in text
    assert "entangled diverged in every one of its 3 runs." in text
    assert "No verdict yet" not in text and "fewer than two arms" not in text


def test_arms_that_all_diverged_are_not_called_unmeasured(study, tmp_path):
    """Nothing has any number: the outcomes say why."""

    def run(recipe, folder):
        raise FloatingPointError("not finite")

    run_study(study, tmp_path, run, lambda text: None)
    text = page(tmp_path)
    assert "entangled and disentangled diverged: no verdict on drift." in text
    assert "No verdict yet" not in text


def test_an_arm_that_diverged_is_not_one_that_was_not_measured(study, measure, tmp_path):
    gates = {f"{alpha:g}": PowerCosineGate(alpha=alpha) for alpha in (1.0, 2.0, 4.0)}
    levels = {name: {"conditioning.control.low_gate": gate} for name, gate in gates.items()}
    several = replace(study, axes={"alpha": Axis(levels=levels)}, combinations=None)

    def run(recipe, folder):
        alpha = recipe.conditioning.control.low_gate.alpha
        return [measure("drift", float("nan") if alpha == 2 else 0.1 - 0.001 * recipe.seed)]

    run_study(several, tmp_path, run, lambda text: None)
    sentence = headline(open_source(tmp_path), result_lines(open_source(tmp_path))).sentence
    assert sentence.endswith("diverged: 2.") and "not measured" not in sentence


def test_missing_parts_are_said(study, execute, tmp_path):
    def nothing(recipe, folder):
        raise RuntimeError("no disk")

    run_study(study, tmp_path, nothing, lambda text: None)
    text = page(tmp_path)
    for words in ("No verdict yet", "No results yet", "No learning curve"):
        assert words in text
    for words in ("No sample grid", "No drift strips", "RuntimeError: no disk"):
        assert words in text


def test_unfinished_and_added_seeds_are_cautions(study, execute, tmp_path):
    run_study(replace(study, seeds=(0, 1)), tmp_path, execute, lambda text: None)

    def stop(recipe, folder):
        raise KeyboardInterrupt

    run_study(study, tmp_path, stop, lambda text: None)
    text = page(tmp_path)
    assert "Only 4 of 6 runs are done" in text
    assert "Seeds 2 were added after the study began" in text


def test_one_seed_is_undecided(study, execute, tmp_path):
    run_study(replace(study, seeds=(0,)), tmp_path, execute, lambda text: None)
    text = page(tmp_path)
    assert "Inconclusive" in text and "over samples only" in text
    assert "one seed, interval over samples" in text


def test_several_arms_get_one_sentence(base, measure, tmp_path):
    values = {("modulation", "constant"): 0.06, ("attention", "power-cosine"): 0.04}

    def run(recipe, folder):
        gate = recipe.conditioning.control.low_gate.kind
        path = recipe.conditioning.rules["label"]
        if (path, gate) == ("attention", "constant"):
            raise RuntimeError("no memory")
        value = values.get((path, gate), 0.05 + 0.02 * (recipe.seed - 0.5))
        return [measure("drift", value + 0.001 * recipe.seed)]

    study = Study(
        name="corners",
        title="Corners",
        question="Which?",
        base=base,
        axes=control_axes(PowerCosineGate()),
        seeds=(0, 1),
        primary="drift",
    )
    run_study(study, tmp_path, run, lambda text: None)
    assert (
        "By drift, against modulation-constant: better: attention-scheduled; "
        "undecided: modulation-scheduled; not measured: attention-constant."
    ) in page(tmp_path)


def test_one_seed_of_several_arms_is_said_once(base, measure, tmp_path):
    study = Study(
        name="corners",
        title="Corners",
        question="Which?",
        base=base,
        axes=control_axes(PowerCosineGate()),
        seeds=(0,),
        primary="drift",
        companions=("effect",),
    )

    def run(recipe, folder):
        by_attention = recipe.conditioning.rules["label"] == "attention"
        return [measure("drift", 0.06 - 0.02 * by_attention), measure("effect", 0.8)]

    run_study(study, tmp_path, run, lambda text: None)
    text = page(tmp_path)
    assert "One training seed cannot rank 4 arms by drift." in text
    assert text.count("With one training seed the variation") == 1
    assert text.count("(one seed, no interval)") == 2  # of the primary and the companion
    minus = "\N{MINUS SIGN}"
    assert f"attention-constant {minus} modulation-constant: {minus}0.020" in text


def test_a_worse_companion_is_the_price(study, measure, tmp_path):
    def run(recipe, folder):
        disentangled = recipe.conditioning.rules["label"] == "attention"
        return [
            measure("drift", 0.05 - 0.02 * disentangled + 0.001 * recipe.seed),
            measure("effect", 0.8 - 0.3 * disentangled, better="higher"),
        ]

    run_study(study, tmp_path, run, lambda text: None)
    text = page(tmp_path)
    assert "Supported, with a trade-off" in text and "It is worse on effect." in text


@pytest.mark.parametrize(
    ("second", "status"), [(1.2, "worse"), (2.4, "worse"), (1.8, "better"), (2.0, "undecided")]
)
def test_more_effect_than_real_pairs_show_is_not_better(study, measure, tmp_path, second, status):
    """Real pairs 1.8, the first arm about 1.6: what is as far on the other side is undecided."""

    def run(recipe, folder):
        disentangled = recipe.conditioning.rules["label"] == "attention"
        value = second if disentangled else (1.6 + 0.001 * (recipe.seed - 1))
        return [
            measure("drift", 0.05),
            measure("effect original_size", value, better="higher"),
            measure("effect original_size", 1.8, better="higher", subject="real"),
        ]

    run_study(study, tmp_path, run, lambda text: None)
    lines = result_lines(open_source(tmp_path))
    (line,) = [line for line in lines if line.metric.name == "effect original_size"]
    assert line.comparisons[0].status == status
    assert line.comparisons[0].difference.mean == pytest.approx(second - 1.6)
    assert line.arms[1].delta.endswith(f": {status}")
    assert line.better == "≈ nearest to real images is better"


def test_without_real_pairs_an_effect_is_only_different(study, measure, tmp_path):
    def run(recipe, folder):
        disentangled = recipe.conditioning.rules["label"] == "attention"
        return [measure("effect flip", 0.5 + 0.2 * disentangled, better="higher")]

    run_study(study, tmp_path, run, lambda text: None)
    (line,) = result_lines(open_source(tmp_path))
    assert line.comparisons[0].status == "different"
    assert line.better == "neither direction is better"


def test_one_good_arm_among_several_is_counted_and_not_called_support(study, measure, tmp_path):
    gates = {f"{alpha:g}": alpha for alpha in (1.0, 2.0, 4.0)}
    path = "conditioning.control.low_gate"
    levels = {name: {path: PowerCosineGate(alpha=alpha)} for name, alpha in gates.items()}
    several = replace(study, axes={"alpha": Axis(levels=levels)}, combinations=None)

    def run(recipe, folder):
        good = recipe.conditioning.control.low_gate.alpha == 4
        worse = recipe.conditioning.control.low_gate.alpha == 2
        return [
            measure("drift", 0.05 - 0.02 * good + 0.001 * recipe.seed),
            measure("effect", 0.8 - 0.3 * worse, better="higher"),
        ]

    run_study(several, tmp_path, run, lambda text: None)
    text = page(tmp_path)
    assert "1 of 2 arms: better" in text and "Supported" not in text
    assert "with a trade-off" not in text  # another arm is worse on the companion


def test_a_single_run(finished, measure):
    run = finished / "runs/entangled-seed0"
    lines = [measure("kid", 0.25).to_dict(), measure("kid", float("nan")).to_dict()]
    lines += [measure("kid", 0.5, subject="real").to_dict()]
    (run / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[::2]))
    text = page(run)
    assert "Trained on 10,000 images with seed 0." in text
    assert "0.2500 [" in text or "0.250 [" in text
    (run / "results.jsonl").write_text(json.dumps(lines[1]) + "\n")
    assert "diverged" in page(run)


def test_torn_log_lines_are_counted(finished):
    assert re.search(r"log\.jsonl line \d+ does not count: ", page(finished))


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"neither study\.json nor"):
        render_report(tmp_path)


def test_a_model_that_ignores_a_control_is_said_to_have_no_drift_for_that_reason(
    finished, tmp_path
):
    rows = edited_lines(finished / "results.jsonl")
    like = next(row for row in rows if row.get("metric") == "effect" and row["subject"] == "arm")

    def effect(arm, value, subject="arm"):
        named = {"metric": "effect original_size", "arm": arm, "value": value}
        known = {"protocol": {}, "fingerprint": like["settings"]}
        return like | named | known | {"subject": subject}

    added = [
        effect("entangled", 0.0),
        effect("disentangled", 1.0),
        effect("entangled", 1.8, subject="real"),
    ]
    folder = shutil.copytree(finished, tmp_path / "copy")
    with (folder / "results.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in added)
    page = render_report(folder).read_text()
    said = "Original size has hardly any effect (real pairs: 1.8) in: entangled 0. Their low drift"
    assert said in page
