# SPDX-License-Identifier: Apache-2.0
"""Data of a report, from a study's folder or one run's, and files that changed meanwhile.

All files are untrusted: logs may end in a torn line, parts may be missing, names may be hostile.
``problems`` lists unreadable parts, which the report shows.

Settings name weights and encoders by path. Each row records digests of the files at these paths,
so a file that was replaced between two measurements is detected. Rows of earlier versions have no
digests and are skipped.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pippin.config import ConfigError, fingerprint
from pippin.recipes.recipe import Recipe
from pippin.reports.inline import source_html, source_markdown
from pippin.reports.report_source import Run, Source
from pippin.runs.folder import STUDY_RUN_PREFIX
from pippin.studies.declaration import Declaration, flat
from pippin.studies.results import Results, Row, check_fingerprint, emptied, read
from pippin.studies.study_folder import run_name
from pippin.system.formats import VERSION, FormatError, check_format, read_versioned_json
from pippin.system.lines import has_no_lines, read_lines

TEXT = ("text.source", "text.layer", "text.combine")
"""Settings that name a text encoder."""


def changed_files(rows: Iterable[Row]) -> list[str]:
    """Messages about text encoders and initial weights whose files differ between runs.

    Args:
        rows: the rows of all runs.
    """
    encoders: dict[str, set[str]] = defaultdict(set)
    starts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        text, start = (
            row.protocol.get(f"measure.model.{name}") for name in ("text_encoder", "start")
        )
        if text is not None:
            encoders[str([row.protocol.get(path) for path in TEXT])].add(text)
        run = row.protocol.get("init.run")
        if start is not None and run is not None:
            # The starts of a study are trained once for every seed.
            name = f"{run}, seed {row.seed}" if run.startswith(STUDY_RUN_PREFIX) else run
            starts[name].add(start)
    kinds = (("text.source", encoders), ("init.run", starts))
    return [
        f"{setting} {name} had different files in different runs ({_listed(digests)}): their "
        "numbers are of different models"
        for setting, digests_by_name in kinds
        for name, digests in digests_by_name.items()
        if len(digests) > 1
    ]


def mixed_weights(file: str, rows: Iterable[Row]) -> list[str]:
    """Message about a run that was trained between its evaluations, so that the newest rows of its
    metrics are of different weights; empty if there is none.

    Args:
        file: name of the run's results file.
        rows: the newest row of each metric.
    """
    names = ("model.weights", "model.images_seen", "model.sha256")
    weights: set[tuple[Any, ...]] = {
        tuple(row.protocol.get(name) for name in names) for row in rows if row.subject == "arm"
    }
    stated = {entry[:2] for entry in weights if entry[2]}
    # A row of an earlier version has no digest, and may be of the same weights.
    different = [entry for entry in weights if entry[0] and (entry[2] or entry[:2] not in stated)]
    if len(different) < 2:
        return []
    listed = sorted(f"{kind} at {images}, {str(digest)[:8]}" for kind, images, digest in different)
    return [
        f"{file}: mixes metrics of different weights of this run (weights at images seen, sha256: "
        f"{'; '.join(listed)}); evaluate the run again with all parts"
    ]


def _listed(digests: Iterable[str]) -> str:
    return ", ".join(sorted(digest[:8] for digest in digests))


NAMED = 3
"""Number of unreadable lines of a file that are reported one by one."""


class DisplayedSource(Source):
    """A source that a notebook shows."""

    def _repr_html_(self) -> str:
        """Verdict and table for a notebook."""
        return source_html(self)

    def _repr_markdown_(self) -> str:
        """The same where Markdown is shown."""
        return source_markdown(self)


def open_source(folder: Path) -> Source:
    """Read a folder that ``study run`` or ``train`` wrote.

    Raises:
        ConfigError: the folder is neither, or its ``study.json`` / ``config.json`` is damaged.
    """
    if (folder / "study.json").is_file():
        return _study(folder)
    if (folder / "config.json").is_file():
        return _single(folder)
    raise ConfigError(
        f"{folder} holds neither study.json nor config.json; give the folder of a study or a run"
    )


def _study(folder: Path) -> Source:
    declaration = Declaration.load(folder / "study.json")
    results = read(folder / "results.jsonl")
    runs, problems = [], list(results.problems)
    for arm in declaration.arms:
        for seed in declaration.seeds:
            run_folder = folder / "runs" / run_name(arm, seed)
            if _inside(run_folder, folder):
                log, log_problems = read_log(run_folder / "log.jsonl")
                runs.append(Run(arm=arm, seed=seed, folder=run_folder, log=log))
                problems += [f"{run_name(arm, seed)}: {problem}" for problem in log_problems]
    problems += changed_files(results.rows)
    return DisplayedSource(
        folder=folder,
        declaration=declaration,
        results=results,
        runs=tuple(runs),
        problems=tuple(problems),
    )


def _single(folder: Path) -> Source:
    recipe = _recipe(folder / "config.json")
    name, seed = folder.resolve().name, recipe.get("seed", 0)
    declaration = Declaration(
        name=name,
        title=name,
        question="",
        axes={},
        combinations={name: {}},
        arms={name: recipe},
        seeds=(seed,),
        first_seeds=(seed,),
        primary=None,
        companions=(),
        smallest_effect=None,
        reproduce=(),
    )
    log, log_problems = read_log(folder / "log.jsonl")
    rows, unreadable = _measures(folder / "results.jsonl", name, seed, recipe)
    return DisplayedSource(
        folder=folder,
        declaration=declaration,
        results=Results(rows=rows),
        runs=(Run(arm=name, seed=seed, folder=folder, log=log),),
        problems=(*log_problems, *unreadable),
    )


def _measures(
    path: Path, arm: str, seed: int, recipe: dict[str, Any]
) -> tuple[tuple[Row, ...], list[str]]:
    """The rows of a run's own results file (the last line of a metric counts), and problems."""
    rows: dict[tuple[str, str], Row] = {}
    lines, problems = _objects(path)
    if has_no_lines(path):
        problems.append(emptied(path))
    names = ("value", "low", "high", "interval_over", "n", "unit", "better")
    for values in lines:
        settings = values.get("protocol")
        settings_by_path = dict(flat(settings if isinstance(settings, dict) else recipe))
        digest = fingerprint(settings_by_path)
        try:
            check_format("results", values.get(VERSION), path)
            if isinstance(settings, dict) and "fingerprint" in values:
                check_fingerprint("protocol", settings, values["fingerprint"])
            row = Row.from_dict(
                {name: values[name] for name in names}
                | {"study": "", "arm": arm, "seed": seed, "metric": values["name"]}
                | {"subject": values.get("subject", "arm"), "diverged": values["value"] is None}
                | {"protocol": settings_by_path, "fingerprint": digest, "comparable": digest}
            )
        except FormatError:
            raise
        except (KeyError, ValueError) as error:
            problems.append(f"{path.name}: a measure cannot be read: {error}")
            continue
        rows[row.metric, row.subject] = row
    return tuple(rows.values()), [*problems, *mixed_weights(path.name, rows.values())]


def read_log(path: Path) -> tuple[tuple[dict[str, float], ...], list[str]]:
    """A run's log, sorted by number of images, and its unreadable lines.

    Lines with equal images are merged, because training and validation write separate lines.
    Where a killed and resumed run wrote some images twice, the later value counts.
    """
    lines, problems = _objects(path)
    entries: dict[int, dict[str, float]] = {}
    for line in lines:
        images = line.get("images")
        if isinstance(images, int):
            entries[images] = entries.get(images, {}) | line
    return tuple(entries[images] for images in sorted(entries)), problems


def _objects(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    lines, unreadable, gaps = read_lines(path)
    problems = [
        f"{path.name} line {number} does not count: {unreadable[number]}"
        for number in sorted(unreadable)[:NAMED]
    ]
    if len(unreadable) > NAMED:
        problems.append(f"{path.name}: {len(unreadable) - NAMED} more lines do not count")
    problems += [f"{path.name} {gap}" for gap in gaps if gap.missing]
    return list(lines.values()), problems


def _recipe(path: Path) -> dict[str, Any]:
    """A run's recipe as plain values, so that settings of other versions are no obstacle."""
    try:
        return read_versioned_json(path, Recipe.FORMAT)
    except FormatError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _inside(run_folder: Path, folder: Path) -> bool:
    """True if the run's folder exists inside the study's folder, for arms named ``../..`` too."""
    return run_folder.is_dir() and run_folder.resolve().is_relative_to(folder.resolve())
