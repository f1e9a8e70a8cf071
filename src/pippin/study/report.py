# SPDX-License-Identifier: Apache-2.0
"""``report.html``: one file that says what was found, shows it, and tells how to repeat it.

It holds everything that it shows, loads nothing, and runs no script (a content policy in the page
forbids both). All text is escaped: names and messages may come from anywhere.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pippin.study.figures import colour, dashes, learning_curves
from pippin.study.gallery import SEEDS_SHOWN, drift_walls, sample_walls
from pippin.study.headline import headline
from pippin.study.settings import differing, grouped
from pippin.study.source import Source, open_source
from pippin.study.table import result_lines
from pippin.system.files import write_text


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """How one run went."""

    arm: str
    seed: int
    status: str
    message: str
    wall: str
    speed: str
    bad_steps: str
    fingerprint: str


def render_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a study or a run, and return its path.

    Raises:
        ConfigError: the folder is neither, or its declaration is damaged.
    """
    source = open_source(folder)
    page = _environment().get_template("report.html.jinja").render(_context(source))
    path = folder / "report.html"
    write_text(path, page)
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pippin.study", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(colour=colour, dashes=dashes)
    return environment


def _context(source: Source) -> dict[str, Any]:
    lines = result_lines(source)
    curves = learning_curves(source)
    samples, drift = sample_walls(source), drift_walls(source)
    return {
        "study": source.declaration,
        "is_study": source.is_study,
        "arms": list(source.declaration.arms),
        "facts": _facts(source),
        "headline": headline(source, lines) if source.is_study else None,
        "lines": lines,
        "curves": [(figure, Markup(figure.svg)) for figure in curves],
        "samples": samples,
        "drift": drift,
        "shown": SEEDS_SHOWN,
        "differing": differing(source.declaration),
        "settings": grouped(source.declaration),
        "runs": _run_lines(source),
        "environments": _environments(source),
        "problems": source.problems,
    }


def _facts(source: Source) -> list[str]:
    """The size of the comparison, for the head of the page."""
    settings, seeds = list(source.declaration.settings().values()), source.declaration.seeds
    facts = [f"{len(settings)} arms"] if source.is_study else []
    facts.append(f"training seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    budgets = {arm.get("train.images") for arm in settings}
    facts += [f"{images:,} images a run" for images in budgets if isinstance(images, int)]
    kinds = {f"{arm.get('denoiser.kind')} on {arm.get('data.kind')}" for arm in settings}
    sides = {arm.get("data.resolution") for arm in settings}
    facts += [*sorted(kinds), *(f"{side} px" for side in sides if isinstance(side, int))]
    return facts


def _run_lines(source: Source) -> list[RunLine]:
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
        arm=arm,
        seed=seed,
        status=outcome.status if outcome else started,
        message=outcome.message if outcome else "",
        wall=_duration(outcome.wall_seconds) if outcome else "",
        speed=f"{speeds[len(speeds) // 2]:,.0f}" if speeds else "",
        bad_steps=f"{bad_steps[-1]:g}" if bad_steps else "",
        fingerprint=outcome.fingerprint if outcome else "",
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _environments(source: Source) -> list[str]:
    """The different sets of versions that runs were made with."""
    found = (
        ", ".join(f"{name} {value}" for name, value in one.environment.items())
        for one in source.results.outcomes
    )
    return list(dict.fromkeys(found))
