# SPDX-License-Identifier: Apache-2.0
"""``report.html``: one file that says what was found, shows it, and tells how to repeat it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pippin.run.folder import TWIN
from pippin.study.contrast_headline import study_headline
from pippin.study.contrast_source import evaluate_contrasts
from pippin.study.contrast_table import HEADS, READING, contrast_lines
from pippin.study.figures import learning_curves
from pippin.study.gallery import SEEDS_SHOWN, gallery
from pippin.study.glossary import HEADINGS, control_name, term
from pippin.study.page import write_page
from pippin.study.pictures import ROOM, Album
from pippin.study.profiles import control_profiles
from pippin.study.published import CAUTION, HEADING, published_figures
from pippin.study.settings import differing, grouped
from pippin.study.source import Run, Source, open_source
from pippin.study.start import starting_point
from pippin.study.table import NEAREST_NOTE, Line, result_lines
from pippin.study.tradeoff import tradeoffs
from pippin.system.formats import read_stamped


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """How one run went."""

    name: str
    known: bool
    """Its folder or its outcome is there."""
    status: str
    message: str
    wall: str
    speed: str
    bad_steps: str
    fingerprint: str


def render_report(folder: Path, out: Path | None = None, room: int = ROOM) -> Path:
    """Write the page of a study or a run from what its folder holds, and return its path.

    Needs neither the model nor its data; a folder brought from another machine will do.

    Args:
        folder: of a study or of a run.
        out: the file to write; None = ``report.html`` in the folder.
        room: characters of all pictures together; those that find none are named instead.

    Raises:
        ConfigError: the folder is neither, or its declaration is damaged.
    """
    source = open_source(folder)
    context = _context(source, Album(room))
    return write_page("report.html.jinja", context, out or folder / "report.html")


def _context(source: Source, album: Album) -> dict[str, Any]:
    lines = result_lines(source)
    curves = learning_curves(source)
    pictures = gallery(source, album)
    return {
        "study": source.declaration,
        "is_study": source.is_study,
        "arms": list(source.declaration.arms),
        "facts": _facts(source),
        "start": starting_point(source),
        "headline": study_headline(source, lines) if source.is_study else None,
        "contrasts": contrast_lines(source, evaluate_contrasts(source)),
        "contrast_heads": HEADS,
        "contrast_reading": READING,
        "sections": _sections(source),
        "lines": [line for line in lines if not line.detail],
        "all_lines": lines,
        "reading": _reading(source),
        "groups": grouped_details(lines),
        "curves": [(figure, Markup(figure.svg)) for figure in curves],
        "profiles": [(figure, Markup(figure.svg)) for figure in control_profiles(source)],
        "tradeoffs": [(figure, Markup(figure.svg)) for figure in tradeoffs(source)],
        "samples": pictures.samples,
        "drift": pictures.drift,
        "names": {control: control_name(control) for control in pictures.drift},
        "shown": SEEDS_SHOWN,
        "differing": differing(source.declaration),
        "settings": grouped(source.declaration),
        "runs": run_lines(source),
        "environments": environments(source),
        "published": published_figures(source.declaration),
        "published_heading": HEADING,
        "published_caution": CAUTION,
        "problems": source.problems,
    }


def _sections(source: Source) -> list[tuple[str, str]]:
    """Places of the page, by the words that lead there."""
    differences = [("differences", "What differs")] if source.is_study else []
    return [
        ("samples", "Samples"),
        ("drift", "Control drift"),
        ("results", "Results"),
        ("training", "Training"),
        *differences,
        ("protocol", "Protocol"),
        ("reproduce", "How to repeat it"),
    ]


def _reading(source: Source) -> list[str]:
    """How the numbers of the table are to be read."""
    missing = "“\N{EN DASH}” was not measured."
    single = "[low, high] is a 95 % interval over the samples of one trained model"
    if not source.is_study:
        return [f"{single}: it says nothing of another training run.", missing]
    arms, seeds = list(source.declaration.arms), source.declaration.seeds
    if len(seeds) == 1:
        return [
            f"One training seed. {single}: it says nothing of how another training run would "
            "come out, so no difference (Δ) is called better or worse.",
            missing,
        ]
    others = len(arms) - 1
    corrected = f", corrected for {others} comparisons" if others > 1 else ""
    return [
        f"Mean ± half of the 95 % interval (Student t) over {len(seeds)} training seeds; "
        f"{single}, where all seeds have the same.",
        f"Δ is the mean paired difference to {arms[0]} over common seeds{corrected}.",
        *([NEAREST_NOTE] if any(term(row.metric).target for row in source.results.rows) else []),
        _decides(source),
        missing,
    ]


def _decides(source: Source) -> str:
    if source.declaration.contrasts:
        return (
            "The declared contrasts alone decide. Every Δ here is exploratory; one in twenty "
            "leaves zero out by chance."
        )
    return (
        "Only the metric marked “decides” was chosen before the run; of many others, one Δ in "
        "twenty leaves zero out by chance."
    )


def grouped_details(lines: list[Line]) -> dict[str, list[Line]]:
    """The lines that are shown on demand, by heading."""
    details = [line for line in lines if line.detail]
    groups = {
        heading: [line for line in details if line.term.group == group]
        for group, heading in HEADINGS.items()
    }
    return {heading: found for heading, found in groups.items() if found}


def _facts(source: Source) -> list[str]:
    """The size of the comparison, for the head of the page."""
    settings, seeds = list(source.declaration.settings().values()), source.declaration.seeds
    facts = [" against ".join(source.declaration.arms)] if source.is_study else []
    facts.append(f"training seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    budgets = {arm.get("train.images") for arm in settings}
    facts += [f"{images:,} images a run" for images in budgets if isinstance(images, int)]
    kinds = {f"{arm.get('denoiser.kind')} on {arm.get('data.kind')}" for arm in settings}
    sides = {arm.get("data.resolution") for arm in settings}
    facts += [*sorted(kinds), *(f"{side} px" for side in sides if isinstance(side, int))]
    return facts


def run_lines(source: Source) -> list[RunLine]:
    """Every declared run, also those that have not begun."""
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
        known=run is not None or outcome is not None,
        status=outcome.status if outcome else started,
        message=outcome.message if outcome and outcome.message else _twin(run),
        wall=_duration(outcome.wall_seconds) if outcome else "",
        speed=f"{speeds[len(speeds) // 2]:,.0f}" if speeds else "",
        bad_steps=f"{bad_steps[-1]:g}" if bad_steps else "",
        fingerprint=outcome.fingerprint if outcome else "",
    )


def _twin(run: Run | None) -> str:
    """Whose weights a run measured, where it trained none."""
    path = run.folder / TWIN if run else None
    if path is None or not path.is_file():
        return ""
    try:
        return f"weights of {read_stamped(path, 'run')['run']}"
    except (ValueError, KeyError):
        return ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def environments(source: Source) -> list[str]:
    """The different sets of versions that runs were made with."""
    found = (
        ", ".join(f"{name} {value}" for name, value in one.environment.items())
        for one in source.results.outcomes
    )
    return list(dict.fromkeys(found))
