# SPDX-License-Identifier: Apache-2.0
"""Checks of all arms of a study before its runs are submitted, and its dry run."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pippin.cli.plan_study import plan_rows, print_rows
from pippin.config import Config, ConfigError
from pippin.planning.devices import Cluster
from pippin.preflight.checks import CHECKS, failures
from pippin.preflight.disk import DiskNeed, run_needs
from pippin.preflight.resolved import describe_need
from pippin.preflight.resources import (
    check_node_memory,
    disk_failures,
    gigabytes,
    missing_bytes,
    unrepeated,
)
from pippin.preflight.start import Start, has_last_checkpoint
from pippin.runs.folder import RunFolder, locate, resolved_paths, start_folder
from pippin.studies.execution import execute, first_with_same_training
from pippin.studies.runner import refuse_unmeasured
from pippin.studies.slurm import SlurmConfig
from pippin.studies.study import Study
from pippin.studies.study_folder import run_name
from pippin.system.text import print_text


class StudyStart:
    """A study that is about to start.

    Args:
        study: the study.
        folder: its folder.
        elsewhere: its runs are jobs on other machines.
        ignore_plan: start although the disk or the node's memory do not suffice by the plan.
        job: resources of each run's Slurm job, if its runs are such jobs.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        *,
        elsewhere: bool,
        ignore_plan: bool = False,
        job: SlurmConfig | None = None,
    ) -> None:
        self.study, self.folder, self.ignore_plan, self.job = study, folder, ignore_plan, job
        recipes = {f"@{name}": recipe for name, recipe in study.starts.items()} | study.arms()
        seed = study.seeds[0]  # as the first runs record it
        self.recipes = {name: replace(recipe, seed=seed) for name, recipe in recipes.items()}
        first, shared = first_with_same_training(self.recipes), dict[Config, Any]()
        self.starts = {
            name: Start(
                recipe,
                locate(recipe, resolved_paths(recipe)),
                self._run(name, seed),
                resume="auto",
                elsewhere=elsewhere,
                ignore_plan=ignore_plan,
                shared=shared,
            )
            for name, recipe in self.recipes.items()
            if first[name] == name
        }

    def _run(self, name: str, seed: int) -> RunFolder:
        """Folder of the run of a seed."""
        if name.startswith("@"):
            return RunFolder(start_folder(self.folder, name[1:], seed))
        return RunFolder(self.folder / "runs" / run_name(name, seed))

    def check(self) -> None:
        """Check the declaration, and each training once; nothing is written.

        Raises:
            ConfigError: all failures, with the arms that have them.
        """
        self.study.check()
        refuse_unmeasured(self.study, execute)
        checks = [check for check in CHECKS if check.name != "disk"]
        arms: dict[tuple[str, str], list[str]] = defaultdict(list)
        for arm, start in self.starts.items():
            for name, error in failures(start, checks):
                arms[name, str(error)].append(arm)
        if not arms and not self.ignore_plan:
            arms |= {("disk", text): ["all arms"] for text in disk_failures(self._needs())}
            for arm, text in self._memory_failures():
                arms["node memory", text].append(arm)
        if arms:
            lines = "".join(
                f"\n{number}. {name} ({', '.join(names)}): {text}"
                for number, ((name, text), names) in enumerate(arms.items(), 1)
            )
            count = f"{len(arms)} check{'s' if len(arms) > 1 else ''}"
            raise ConfigError(f"{count} failed; no run was started:{lines}")

    def _memory_failures(self) -> Iterator[tuple[str, str]]:
        """Arm and message of each training that takes more memory than its job has."""
        job = self.job
        if job is None:
            return
        for arm, start in self.starts.items():
            for text in check_node_memory(start, memory_gb=job.memory_gb, gpus=job.gpus):
                yield arm, text

    def _needs(self) -> list[DiskNeed]:
        """Disk space of the caches, and of what all runs keep that are not finished."""
        needs: list[DiskNeed] = []
        for name, start in self.starts.items():
            needs += [need for need in start.disk_needs if need.shared is not None]
            runs = (self._run(name, seed) for seed in self.study.seeds)
            images = start.recipe.train.images
            for run in runs:
                needs += [] if has_last_checkpoint(run, images) else run_needs(start, run)
        return needs

    def print_plan(self) -> int:
        """Print plans, disk space and folders; returns the exit code."""
        seeds = self.study.seeds
        print_rows(plan_rows(self.recipes, Cluster(devices=1), len(seeds)))
        print_text(f"checks passed: {', '.join(check.name for check in CHECKS)}")
        each = "s" if len(seeds) > 1 else ""
        print_text(
            f"runs: {len(self.recipes)} x {len(seeds)} seed{each} below {self.folder}, "
            f"{len(self.starts)} trainings of a seed"
        )
        first = [need for start in self.starts.values() for need in start.disk_needs]
        for line in dict.fromkeys(map(describe_need, first)):
            print_text(f"disk: {line}")
        missing = sum(map(missing_bytes, unrepeated(self._needs())))
        print_text(f"disk: {gigabytes(missing)} still to be written, for {len(seeds)} seed{each}")
        print_text("dry run: nothing was written")
        return 0
