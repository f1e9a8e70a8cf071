# SPDX-License-Identifier: Apache-2.0
"""``report.html``: verdict, results, images and reproduction of a study or run, in one file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pippin.evaluation.control_words import control_label
from pippin.evaluation.metric_registry import find_metric
from pippin.reports.contrast_headline import study_headline
from pippin.reports.figures.control_figures import control_profiles, tradeoffs
from pippin.reports.figures.curves import learning_curves
from pippin.reports.figures.gallery import SEEDS_SHOWN, gallery
from pippin.reports.figures.loss_words import NOT_COMPARABLE
from pippin.reports.figures.previews import Previews, previews
from pippin.reports.figures.quality_curves import quality_curves
from pippin.reports.headings import HEADINGS
from pippin.reports.page import ROOM, ImageEmbedder, write_page
from pippin.reports.repetition import repetition
from pippin.reports.report_data import open_source
from pippin.reports.report_source import Run, Source
from pippin.reports.settings import differing, grouped, plan_met, starting_point
from pippin.reports.tables.agreement_table import (
    AGREEMENT_HEADS,
    AGREEMENT_READING,
    agreement_lines,
    evaluate_agreements,
    rank_table,
)
from pippin.reports.tables.contrast_table import HEADS, READING, contrast_lines, evaluate_contrasts
from pippin.reports.tables.paper_numbers import CAUTION, HEADING, published_figures
from pippin.reports.tables.results_table import Line, nearest_note, result_lines
from pippin.runs.folder import SHARED_WEIGHTS_FILE
from pippin.system.formats import read_versioned_json

NAMED_ARMS = 4
"""Highest number of arms that the head of the page names."""
CONTROL_PARTS = ("drift", "control-profile")
"""Parts of an evaluation that the section on controls shows."""


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """One line of the table of runs."""

    name: str
    begun: bool
    """True if its folder or its outcome exists."""
    status: str
    message: str
    wall: str
    speed: str
    bad_steps: str
    fingerprint: str


def render_report(
    folder: Path, out: Path | None = None, room: int = ROOM, repeated_in: Path | None = None
) -> Path:
    """Write the page of a study or a run from its folder, and return the page's path.

    Needs neither the model nor its data: a folder copied from another machine works.

    Args:
        folder: the folder of a study or of a run.
        out: the file to write; None = ``report.html`` in the folder.
        room: size limit in characters of all images together; skipped images are named.
        repeated_in: the folder that the page's commands name; None = ``folder``. For a page that
            stays where its folder does not.

    Raises:
        ConfigError: the folder is neither, or its declaration is damaged.
    """
    source = open_source(folder)
    page = out or folder / "report.html"
    context = _context(source, ImageEmbedder(room))
    context["repeat"] = repetition(replace(source, folder=repeated_in or folder), page)
    return write_page("report.html.jinja", context, page)


def _context(source: Source, embedder: ImageEmbedder) -> dict[str, Any]:
    lines = result_lines(source)
    curves = learning_curves(source)
    images = gallery(source, embedder)
    agreements = evaluate_agreements(source)
    profiles, curves_of_drift = control_profiles(source), tradeoffs(source)
    shown = images.drift or profiles or curves_of_drift or _declares_controls(source)
    sections = _sections(source, controls=bool(shown))
    return {
        "study": source.declaration,
        "is_study": source.is_study,
        "arms": list(source.declaration.arms),
        "facts": _facts(source),
        "start": starting_point(source),
        "headline": study_headline(source, lines) if source.is_study else None,
        "run_sentence": "" if source.is_study else run_sentence(source),
        "contrasts": contrast_lines(source, evaluate_contrasts(source)),
        "contrast_heads": HEADS,
        "contrast_reading": READING,
        "agreements": agreement_lines(agreements),
        "agreement_heads": AGREEMENT_HEADS,
        "agreement_reading": AGREEMENT_READING,
        "rank_tables": [rank_table(result) for result in agreements],
        "sections": sections,
        "shown_sections": [anchor for anchor, _ in sections],
        "lines": [line for line in lines if not line.detail],
        "all_lines": lines,
        "reading": _reading(source),
        "groups": grouped_details(lines),
        "curves": [(figure, Markup(figure.svg)) for figure in curves],
        "losses_note": NOT_COMPARABLE,
        "quality": [(figure, Markup(figure.svg)) for figure in quality_curves(source)],
        "profiles": [(figure, Markup(figure.svg)) for figure in profiles],
        "tradeoffs": [(figure, Markup(figure.svg)) for figure in curves_of_drift],
        "samples": images.samples,
        "drift": images.drift,
        "previews": None if source.is_study else run_previews(source, embedder),
        "names": {control: control_label(control) for control in images.drift},
        "shown": SEEDS_SHOWN,
        "differing": differing(source.declaration),
        "settings": grouped(source.declaration) | plan_met(source),
        "runs": run_lines(source),
        "environments": environments(source),
        "published": published_figures(source.declaration),
        "published_heading": HEADING,
        "published_caution": CAUTION,
        "problems": source.problems,
    }


def run_sentence(source: Source) -> str:
    """``Trained on 70,016 of 100,000 images with seed 0.``"""
    (settings,) = source.declaration.settings().values()
    log, total = source.runs[0].log, settings.get("train.images")
    seen = f"{log[-1]['images']:,}" if log else ""
    of = f" of {total:,}" if isinstance(total, int) and log and log[-1]["images"] < total else ""
    trained = f"Trained on {seen}{of} images" if seen else "Not trained yet, or without a log,"
    return f"{trained} with seed {source.declaration.seeds[0]}."


def run_previews(source: Source, embedder: ImageEmbedder) -> Previews | None:
    """Previews of a single run over time."""
    (settings,) = source.declaration.settings().values()
    of_text = settings.get("conditioning.semantic.kind") == "text"
    return previews(source.runs[0], embedder, of_text=of_text)


def _sections(source: Source, *, controls: bool) -> list[tuple[str, str]]:
    """Sections of the page: anchor and title.

    Args:
        controls: with the section on drift and control profiles.
    """
    differences = [("differences", "What differs")] if source.is_study else []
    drift = [("drift", "Control drift")] if controls else []
    return [
        ("samples", "Samples"),
        *drift,
        ("results", "Results"),
        ("training", "Training"),
        *differences,
        ("protocol", "Protocol"),
        ("reproduce", "Reproduction"),
    ]


def _declares_controls(source: Source) -> bool:
    """True if the evaluation of any arm has drift or control profiles, or does not say."""
    settings = source.declaration.settings().values()
    parts = [arm.get("evaluation.parts") for arm in settings]
    return any(
        not isinstance(named, list | tuple) or not set(CONTROL_PARTS).isdisjoint(map(str, named))
        for named in parts
    )


def _reading(source: Source) -> list[str]:
    """Notes that explain the numbers of the table."""
    missing = "“\N{EN DASH}” was not measured."
    single = "[low, high] is a 95 % interval over the samples of one trained model"
    if not source.is_study:
        return [f"{single}: it does not cover other training runs.", missing]
    arms, seeds = list(source.declaration.arms), source.declaration.seeds
    if len(seeds) == 1:
        return [
            f"One training seed. {single}: it does not cover the variation between training "
            "runs, so no difference (Δ) is called better or worse.",
            missing,
        ]
    others, measured = len(arms) - 1, {row.metric for row in source.results.rows}
    with_target = any(find_metric(name).target for name in measured)
    corrected = f", corrected for {others} comparisons" if others > 1 else ""
    return [
        f"Mean ± half of the 95 % interval (Student t) over {len(seeds)} training seeds; "
        f"{single}, where all seeds have the same.",
        f"Δ is the mean paired difference to {arms[0]} over common seeds{corrected}.",
        *([nearest_note(source.declaration)] if with_target else []),
        _decides(source),
        missing,
    ]


def _decides(source: Source) -> str:
    if source.declaration.contrasts:
        return (
            "Only the declared contrasts decide. Every Δ here is exploratory; in one metric of "
            "twenty, some Δ excludes zero by chance."
        )
    if source.declaration.agreements:
        return (
            "Only the primary agreement of rankings decides. Every Δ here is exploratory; in one "
            "metric of twenty, some Δ excludes zero by chance."
        )
    return (
        "Only the metric marked “decides” gives the verdict; in one of twenty others, some Δ "
        "excludes zero by chance."
    )


def grouped_details(lines: list[Line]) -> dict[str, list[Line]]:
    """The collapsed lines, by heading."""
    details = [line for line in lines if line.detail]
    groups = {
        heading: [line for line in details if line.metric.group == group]
        for group, heading in HEADINGS.items()
    }
    return {
        heading: lines_of_group for heading, lines_of_group in groups.items() if lines_of_group
    }


def _facts(source: Source) -> list[str]:
    """Arms, seeds, budgets, models and data, for the head of the page."""
    settings, seeds = list(source.declaration.settings().values()), source.declaration.seeds
    arms = list(source.declaration.arms)
    named = " against ".join(arms) if len(arms) <= NAMED_ARMS else f"{len(arms)} arms"
    facts = [named] if source.is_study else []
    facts.append(f"training seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    budgets = {arm.get("train.images") for arm in settings}
    facts += [f"{images:,} images a run" for images in budgets if isinstance(images, int)]
    kinds = {f"{arm.get('denoiser.kind')} on {arm.get('data.kind')}" for arm in settings}
    sides = {arm.get("data.resolution") for arm in settings}
    facts += [*sorted(kinds), *(f"{side} px" for side in sides if isinstance(side, int))]
    return facts


def run_lines(source: Source) -> list[RunLine]:
    """One line for every declared run, including those that have not begun."""
    return [
        _run_line(source, arm, seed)
        for arm in source.declaration.arms
        for seed in source.declaration.seeds
    ]


def _run_line(source: Source, arm: str, seed: int) -> RunLine:
    run, outcome = source.run(arm, seed), source.results.latest(arm, seed)
    log = run.log if run else ()
    speeds = sorted(
        line["images_per_second"]
        for line in log
        if isinstance(line.get("images_per_second"), int | float)
    )
    bad_steps = [
        line["bad_steps"] for line in log if isinstance(line.get("bad_steps"), int | float)
    ]
    started = f"at {log[-1]['images']:,} images" if log else "not started"
    return RunLine(
        name=f"{arm}, seed {seed}",
        begun=run is not None or outcome is not None,
        status=outcome.status if outcome else started,
        message=outcome.message if outcome and outcome.message else _shared_weights(run),
        wall=_duration(outcome.wall_seconds) if outcome else "",
        speed=f"{speeds[len(speeds) // 2]:,.0f}" if speeds else "",
        bad_steps=f"{bad_steps[-1]:g}" if bad_steps else "",
        fingerprint=outcome.fingerprint if outcome else "",
    )


def _shared_weights(run: Run | None) -> str:
    """The run whose weights this run shares; empty if it trained its own."""
    path = run.folder / SHARED_WEIGHTS_FILE if run else None
    if path is None or not path.is_file():
        return ""
    try:
        return f"weights of {read_versioned_json(path, 'run')['run']}"
    except (ValueError, KeyError):
        return ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def environments(source: Source) -> list[str]:
    """The distinct software environments of the runs."""
    versions = (
        ", ".join(f"{name} {value}" for name, value in outcome.environment.items())
        for outcome in source.results.outcomes
    )
    return list(dict.fromkeys(versions))
