# SPDX-License-Identifier: Apache-2.0
"""State that the process of a run takes over from the study."""

import pickle
import sys
from importlib import import_module

import fake_runs
import pytest

from pippin import plugins
from pippin.plugins import WorkerModules
from pippin.studies.executors import LocalExecutor
from pippin.studies.slurm import Resumable
from pippin.system.offline import LIBRARY_SWITCHES, SWITCH, offline_mode
from pippin.system.output import hidden_progress

METRIC = """
from pippin import ImageMetric, declare_metric

declare_metric(
    ImageMetric(
        name="NAME",
        description="of NAME",
        better="lower",
        values=lambda images: images[:, 0, 0, 0],
    )
)
"""
STRINGS_ONLY = """
from pippin import MetricKind, declare_metric

declare_metric(MetricKind(name="NAME", description="of NAME", better="lower"))
"""


@pytest.fixture
def metric_modules(tmp_path, monkeypatch):
    """Two modules on Python's path; each declares the metric of its name, the second without any
    function of its own."""
    names = ["tests_named_metric", "tests_program_metric"]
    for name, text in zip(names, (METRIC, STRINGS_ONLY), strict=True):
        (tmp_path / f"{name}.py").write_text(text.replace("NAME", name))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(plugins, "_registering", {})
    for switch in (SWITCH, *LIBRARY_SWITCHES):
        monkeypatch.delenv(switch, raising=False)
    yield names
    for name in names:  # an import declares its metric once, and a test's metrics end with it
        sys.modules.pop(name, None)


def test_a_worker_takes_over_the_state_of_its_parent_at_its_start(metric_modules):
    """The fork server keeps the environment of the first job."""
    named, program = metric_modules
    executor = LocalExecutor(1)

    def state(metric):
        return executor.submit(fake_runs.worker_state, metric).result()

    before = state(named)
    assert before == {
        "offline": False, "hub": None, "quiet": False, "lines": True, "imports": [],
        "description": "",
    }  # fmt: skip
    with offline_mode(True), hidden_progress():
        plugins.import_modules([named])
        inside = state(named)
    import_module(program)  # by the program itself
    after = state(program)
    assert inside == {
        "offline": True, "hub": "1", "quiet": True, "lines": True, "imports": [named],
        "description": f"of {named}",
    }  # fmt: skip
    assert after == before | {"imports": [named], "description": f"of {program}"}


def test_a_job_of_a_cluster_imports_the_modules_of_its_study(metric_modules):
    """Whatever its environment: a cluster may hand over none."""
    named, program = metric_modules
    job = pickle.dumps(
        Resumable(WorkerModules(named=(named,), registering=(program, "tests_x.y")))
    )
    state = pickle.loads(job)(fake_runs.worker_state, program)
    assert (state["imports"], state["description"]) == ([named], f"of {program}")
    again = pickle.loads(job).checkpoint(fake_runs.worker_state, named)
    assert again.result()["description"] == f"of {named}"
    assert "tests_x" not in sys.modules
