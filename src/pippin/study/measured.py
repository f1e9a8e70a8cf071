# SPDX-License-Identifier: Apache-2.0
"""Whether the metrics that a study declares come out of its runs.

What :func:`pippin.run.execute.execute` measures has words in the glossary, so a name without is
refused before anything is trained. Another execution may measure what it likes: there, as where a
known metric needs settings that the recipe lacks, each finished run says what it did not measure.
"""

from difflib import get_close_matches

from pippin.config import ConfigError
from pippin.run.execute import execute
from pippin.study.folder import run_name
from pippin.study.glossary import names, term
from pippin.study.one_run import Execute
from pippin.study.results import Results
from pippin.study.study import Study


def refuse_unmeasured(study: Study, execution: Execute) -> None:
    """Refuse a declared metric that pippin's own evaluation does not have.

    Raises:
        ConfigError: naming it, and what is near to it.
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
                + "; docs/reference/metrics.md names the measures, and an execution of one's own "
                "may have others"
            )


def unmeasured(study: Study, run: str, results: Results) -> str:
    """What to say of a finished run that lacks declared metrics; empty where it lacks none."""
    found = {row.metric for row in results.rows if run_name(row.arm, row.seed) == run}
    absent = [name for name in study.declared_metrics if name not in found]
    if not absent:
        return ""
    return f"{run} measured no {', '.join(absent)}, which the study declares: see its evaluation"
