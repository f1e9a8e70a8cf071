# SPDX-License-Identifier: Apache-2.0
"""Checks of a study before its jobs are submitted."""

import math
from dataclasses import replace

import pytest

from pippin.cli import study as study_verb
from pippin.cli.study_start import StudyStart
from pippin.config import ConfigError, replace_at
from pippin.evaluation.metrics.cost import meta_model
from pippin.preflight import start
from pippin.preflight.resources import check_node_memory
from pippin.runs.folder import RunFolder
from pippin.studies.slurm import SlurmConfig
from pippin.studies.study import Axis, Study
from pippin.studies.study_folder import run_name


@pytest.fixture
def study(recipe, tmp_path):
    """Two arms of a tiny recipe."""
    recipe = replace_at(recipe, "cache.folder", str(tmp_path / "caches"))
    recipe = replace(recipe, evaluation=replace(recipe.evaluation, parts=("held-out",)))
    levels = {"low": {"train.learning_rate": 1e-4}, "high": {"train.learning_rate": 1e-3}}
    return Study(
        name="two",
        title="Two rates",
        question="Which rate?",
        base=recipe,
        axes={"rate": Axis(levels=levels)},
        primary="held-out loss",
        seeds=(0, 1),
    )


def test_all_arms_are_checked_and_nothing_is_written(study, tmp_path, capsys):
    begin = StudyStart(study, tmp_path / "study", elsewhere=True)
    begin.check()
    assert begin.print_plan() == 0
    text = capsys.readouterr().out
    assert "2 x 2 seeds" in text and "24 images in 2 views" in text
    assert not list(tmp_path.iterdir())


def test_failures_name_their_arms_once(study, tmp_path):
    broken = replace(study, base=replace_at(study.base, "autoencoder.source", "pippin/none"))
    with pytest.raises(
        ConfigError, match=r"(?s)1 check failed; .*autoencoder \(.*low.*high.*\): no"
    ):
        StudyStart(broken, tmp_path / "study", elsewhere=True).check()
    assert not list(tmp_path.iterdir())


def test_the_disk_holds_the_checkpoints_of_all_seeds(study, tmp_path, monkeypatch):
    begin = StudyStart(study, tmp_path / "study", elsewhere=True)
    caches = {need.shared: need.num_bytes for need in begin._needs() if need.shared}
    own = [need.num_bytes for need in begin._needs() if not need.shared]
    assert len(own) == 4 and len(caches) == 1
    needed = sum(own) + sum(caches.values())
    free = start.shutil.disk_usage(tmp_path)
    for room, refused in ((needed, False), (needed - 1, True)):
        monkeypatch.setattr(
            start.shutil, "disk_usage", lambda folder, room=room: free._replace(free=room)
        )
        if refused:
            with pytest.raises(ConfigError, match="--ignore-plan"):
                begin.check()
        else:
            begin.check()
    StudyStart(study, tmp_path / "study", elsewhere=True, ignore_plan=True).check()


def trained(study, folder, arm, seed, images):
    """The files of a run that has trained a number of images."""
    run = RunFolder(folder / "runs" / run_name(arm, seed))
    checkpoint = run.checkpoints / str(images)
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{}")
    replace(study.arms()[arm], seed=seed).save(run.config)
    return run


def test_a_study_of_other_seeds_is_checked_again_after_its_runs_began(study, tmp_path):
    """Its runs have recorded their seed, and the base of the study has another."""
    later = replace(study, seeds=(5, 6))
    assert study.base.seed not in later.seeds
    folder = tmp_path / "study"
    for arm in later.arms():
        trained(later, folder, arm, 5, 32)
    StudyStart(later, folder, elsewhere=True).check()
    other = replace(later, base=replace_at(later.base, "train.grad_clip", 0.5))
    with pytest.raises(ConfigError, match=r"(?s)started with other settings.*grad_clip"):
        StudyStart(other, folder, elsewhere=True).check()


def test_finished_runs_need_no_disk_and_each_seed_has_its_own_folder(study, tmp_path):
    folder = tmp_path / "study"
    arms = [*study.arms()]
    before = sum(
        need.shared is None for need in StudyStart(study, folder, elsewhere=True)._needs()
    )
    trained(study, folder, arms[0], 0, study.base.train.images)
    needs = [x for x in StudyStart(study, folder, elsewhere=True)._needs() if x.shared is None]
    runs = {need.folder.parent.name for need in needs}
    assert before == 4
    assert runs == {run_name(arms[0], 1), run_name(arms[1], 0), run_name(arms[1], 1)}


@pytest.mark.parametrize("executor", ["slurm", "inline"])
def test_jobs_are_submitted_after_the_checks_only(study, tmp_path, monkeypatch, executor):
    broken = replace(study, base=replace_at(study.base, "autoencoder.source", "pippin/none"))
    monkeypatch.setattr("pippin.studies.shipped.table.get_study", lambda *given: broken)
    monkeypatch.setattr(study_verb, "with_features", lambda study, features: study)
    run = []
    monkeypatch.setattr("pippin.studies.runner.run_study", lambda *given: run.append(given))

    class Slurm(study_verb.SlurmExecutor):
        def __init__(self):
            self.jobs, self.config = 1, SlurmConfig()

    given = {"executor": Slurm()} if executor == "slurm" else {"dry_run": True}
    with pytest.raises(ConfigError, match="autoencoder"):
        study_verb.run("two", tmp_path / "study", (), **given)
    assert not run and not list(tmp_path.iterdir())


def test_a_job_with_less_memory_than_its_training_takes_is_refused(study, tmp_path):
    begin = StudyStart(study, tmp_path / "study", elsewhere=True, job=SlurmConfig(gpus=0))
    begin.check()
    small = next(iter(begin.starts.values()))
    own = small.memory
    assert not list(check_node_memory(small, memory_gb=math.ceil(own / 2**30), gpus=0))
    small.__dict__["memory"] = 3 * 2**30  # as of a larger model
    (refusal,) = check_node_memory(small, memory_gb=2, gpus=0)
    assert "slurm.memory_gb is 2 (2.15 GB)" in refusal and "--slurm.memory-gb 7" in refusal
    assert not list(check_node_memory(small, memory_gb=3, gpus=0))
    small.recipe = replace_at(small.recipe, "train.device", "auto")
    assert not list(check_node_memory(small, memory_gb=1, gpus=1))  # its tensors are on the GPU
    small.recipe = replace_at(small.recipe, "train.checkpoint_overlap", True)
    small.__dict__["stored_sizes"] = small.stored_sizes._replace(checkpoint=3 * 2**30)
    (refusal,) = check_node_memory(small, memory_gb=2, gpus=1)
    assert "must hold a copy of a checkpoint, 3.22 GB" in refusal
    tight = StudyStart(study, tmp_path / "study", elsewhere=True, job=SlurmConfig(gpus=0))
    for start_ in tight.starts.values():
        start_.__dict__["memory"] = 65 * 2**30
    with pytest.raises(ConfigError, match=r"(?s)1 check failed.*node memory \(low, high\): slurm"):
        tight.check()
    assert not list(tmp_path.iterdir())


def test_snapshots_of_averages_are_in_the_disk_plan(study, tmp_path):
    base = replace_at(study.base, "train.snapshot_every", 8)
    begin = StudyStart(replace(study, base=base), tmp_path / "study", elsewhere=True)
    first = next(iter(begin.starts.values()))
    snapshots = [need for need in begin._needs() if need.folder.name == "snapshots"]
    assert len(snapshots) == 4
    model = meta_model(base.conditioning, base.denoiser, first.num_classes, first.latent_shape[0])
    parameters = sum(p.numel() for p in model.parameters())
    count = base.train.images // 8
    assert {need.num_bytes for need in snapshots} == {count * 2 * 4 * parameters}
    assert first.plan.snapshots == count and first.plan.snapshot_bytes == 8 * parameters
