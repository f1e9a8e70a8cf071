# SPDX-License-Identifier: Apache-2.0
"""Check that a study's runs measure the metrics that it declares.

What :func:`pippin.run.execute.execute` measures follows from the declarations of the metrics and
from each arm's evaluation, so other metrics are refused before anything is trained. A custom
execution may measure anything: there, each finished run reports missing metrics.
"""

from collections.abc import Iterator

from pippin.config import ConfigError
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.metric import OTHER, Metric
from pippin.evaluation.metric_parameters import network_of
from pippin.evaluation.metric_registry import find_metric, near_names
from pippin.run.execute import execute
from pippin.study.folder import run_name
from pippin.study.results import Results
from pippin.study.run_execution import Execute
from pippin.study.study import Study


def refuse_unmeasured(study: Study, execution: Execute) -> None:
    """Refuse a declared metric that pippin's own evaluation does not measure in any arm.

    Raises:
        ConfigError: the message names the metric, and similar names or the setting to change.
    """
    if execution is not execute:
        return
    evaluations = {arm: recipe.evaluation for arm, recipe in study.arms().items()}
    for name in study.declared_metrics:
        metric = find_metric(name)
        if metric.kind is OTHER or not _is_known(metric):
            raise ConfigError(_unknown(study, name))
        reasons = {arm: next(obstacles(metric, own), "") for arm, own in evaluations.items()}
        if all(reasons.values()):
            raise ConfigError(
                f"study {study.name!r} declares {name!r}, which no run measures: "
                + "; ".join(dict.fromkeys(reasons.values()))
            )


def obstacles(metric: Metric, evaluation: EvaluationConfig) -> Iterator[str]:
    """Reasons why the evaluation of a run does not measure a metric, each with its setting."""
    kind = metric.kind
    if kind.command:
        yield f"only `{kind.command}` measures it"
    if kind.part is not None and kind.part not in evaluation.parts:
        yield f"evaluation.parts lacks {kind.part}"
    if metric.features and network_of(metric.features) != evaluation.features:
        yield f"evaluation.features is {evaluation.features}"
    for setting in kind.needs:
        if not getattr(evaluation, setting):
            yield f"evaluation.{setting} is not set"
    for name, value in metric.values:
        setting = kind.placeholders[name].setting(value)
        listed = getattr(evaluation, setting) if setting else ()
        wanted = value.value if setting and name == "position" else value
        if setting and wanted not in listed:
            yield f"evaluation.{setting} lacks {metric.value_text(name)}"


def _is_known(metric: Metric) -> bool:
    """True unless the metric names a control that no probe and no profile knows."""
    controls = metric.kind.placeholders.get("control")
    inner = metric.of is None or _is_known(metric.of)
    return inner and (controls is None or metric.control in controls.examples)


def _unknown(study: Study, name: str) -> str:
    near = near_names(name)
    return (
        f"study {study.name!r} declares {name!r}, which no run measures"
        + (f" (did you mean {' or '.join(near)}?)" if near else "")
        + "; docs/reference/metrics.md lists the metrics; a custom execution may measure others"
    )


def unmeasured(study: Study, run: str, results: Results) -> str:
    """Message about declared metrics that a finished run lacks; empty if it lacks none."""
    measured = {row.metric for row in results.rows if run_name(row.arm, row.seed) == run}
    absent = [name for name in study.declared_metrics if name not in measured]
    if not absent:
        return ""
    return f"{run} measured no {', '.join(absent)}, which the study declares: see its evaluation"
