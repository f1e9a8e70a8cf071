# SPDX-License-Identifier: Apache-2.0
"""Check that a study's runs measure the metrics that it declares.

The glossary describes every metric of :func:`pippin.run.execute.execute`, so other names are
refused before anything is trained. A custom execution may measure anything: there, and where a
known metric needs settings that the recipe lacks, each finished run reports missing metrics.
"""

from difflib import get_close_matches

from pippin.config import ConfigError
from pippin.run.execute import execute
from pippin.study.folder import run_name
from pippin.study.glossary import names, term
from pippin.study.results import Results
from pippin.study.run_execution import Execute
from pippin.study.study import Study


def refuse_unmeasured(study: Study, execution: Execute) -> None:
    """Refuse a declared metric that pippin's own evaluation does not measure.

    Raises:
        ConfigError: the message names the metric and similar names.
    """
    if execution is not execute:
        return
    for metric in study.declared_metrics:
        if not term(metric).text:
            longer = [name for name in names() if name.startswith(metric)]
            near = longer or get_close_matches(metric, names(), cutoff=0.5)
            raise ConfigError(
                f"study {study.name!r} declares {metric!r}, which no run measures"
                + (f" (did you mean {' or '.join(near)}?)" if near else "")
                + "; docs/reference/metrics.md lists the metrics; a custom execution may measure "
                "others"
            )


def unmeasured(study: Study, run: str, results: Results) -> str:
    """Message about declared metrics that a finished run lacks; empty if it lacks none."""
    measured = {row.metric for row in results.rows if run_name(row.arm, row.seed) == run}
    absent = [name for name in study.declared_metrics if name not in measured]
    if not absent:
        return ""
    return f"{run} measured no {', '.join(absent)}, which the study declares: see its evaluation"
