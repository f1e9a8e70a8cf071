# SPDX-License-Identifier: Apache-2.0
"""Runs at once: the same record as one after the other, whatever happens to a process."""

from dataclasses import replace

import made_up_runs
import pytest

from pippin.config import ConfigError
from pippin.study.executors import LocalExecutor, SlurmConfig, SlurmExecutor
from pippin.study.results import read
from pippin.study.runner import run_study
from pippin.study.study import Axis
from pippin.training.config import InitConfig


def quiet(text: str) -> None:
    pass


def values(folder):
    rows = read(folder / "results.jsonl").rows
    return {(row.arm, row.seed): (row.value, row.comparable) for row in rows}


def test_a_process_that_dies_costs_its_own_run_only(study, tmp_path):
    study = replace(study, seeds=(0, 1, 2))
    said = []
    summary = run_study(
        study, tmp_path, made_up_runs.execute, said.append, executor=LocalExecutor(3)
    )
    assert summary.statuses == {
        "entangled-seed0": "finished",
        "disentangled-seed0": "finished",
        "entangled-seed1": "failed",
        "disentangled-seed1": "failed",
        "entangled-seed2": "finished",
        "disentangled-seed2": "finished",
    }
    failures = "\n".join(text for text in said if "failed" in text)
    assert "exit code -9 (killed: out of memory?)" in failures and "disk on fire" in failures
    alone = tmp_path / "alone"
    run_study(replace(study, seeds=(0, 2)), alone, made_up_runs.execute, quiet)
    assert values(tmp_path) == values(alone)


def test_runs_that_train_alike_follow_one_another_after_their_start(study, tmp_path):
    sampling = Axis(levels={f"s{n}": {"sampling.steps": n} for n in (4, 5)})
    base = replace(study.base, init=InitConfig(run="@low"))
    study = replace(
        study,
        base=base,
        axes={"sampling": sampling},
        combinations=None,
        starts={"low": replace(base, init=InitConfig())},
        seeds=(0, 2),
    )
    summary = run_study(
        study, tmp_path, made_up_runs.execute, quiet, made_up_runs.pretrain, LocalExecutor(4)
    )
    assert set(summary.statuses.values()) == {"finished"}
    for seed in (0, 2):
        times = [
            [float((tmp_path / f"runs/s{n}-seed{seed}" / at).read_text()) for n in (4, 5)]
            for at in ("began", "ended")
        ]
        assert max(times[0]) >= min(times[1])  # the second began when the first had ended
        assert (tmp_path / f"starts/low-seed{seed}/done").exists()


def test_a_stop_cancels_what_runs(study, tmp_path, monkeypatch):
    cancelled = []

    class Stuck:
        jobs = 2

        def submit(self, function, *arguments):
            return self

        def done(self):
            raise KeyboardInterrupt

        def result(self):
            raise AssertionError

        def cancel(self):
            cancelled.append(self)

    summary = run_study(study, tmp_path, made_up_runs.execute, quiet, executor=Stuck())
    assert summary.interrupted and len(cancelled) == 2
    assert read(tmp_path / "results.jsonl").outcomes == ()


def test_submitit_runs_the_same(study, tmp_path):
    executor = SlurmExecutor(tmp_path / "jobs", SlurmConfig(), jobs=2, cluster="debug")
    folder = tmp_path / "study"
    run_study(replace(study, seeds=(0,)), folder, made_up_runs.execute, quiet, executor=executor)
    assert {key: value for key, (value, _) in values(folder).items()} == {
        ("entangled", 0): 0.0,
        ("disentangled", 0): 1.0,
    }


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--jobs must be 1 or more; got 0"):
        LocalExecutor(0)
    with pytest.raises(ConfigError, match=r"no Slurm can be reached from here.*executor local"):
        SlurmExecutor(tmp_path, SlurmConfig(), jobs=1)
    with pytest.raises(ConfigError, match=r"slurm\.minutes"):
        SlurmConfig(minutes=0)
