# SPDX-License-Identifier: Apache-2.0
"""Start of a training or a cache build from the command line: checks, dry run, plan met."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pippin.cli.recaption import result_lines
from pippin.data.config import ImagesConfig
from pippin.data.folder.metadata import find_metadata
from pippin.data.importing.config import ShardsConfig
from pippin.distributed.ranks import get_world_size, is_rank0
from pippin.preflight.checks import check_before_start
from pippin.preflight.memory_advice import memory_advice
from pippin.preflight.notes import start_notes
from pippin.preflight.plan_met import write_plan_met
from pippin.preflight.resolved import resolved_plan
from pippin.preflight.start import Start
from pippin.recipes.recipe import Recipe
from pippin.runs.data.missing_captions import caption_column, caption_missing
from pippin.runs.folder import Resume, RunFolder, locate, resolved_paths
from pippin.runs.inputs import read_inputs
from pippin.runs.plan_met import plan_met_rows
from pippin.system.text import print_text


class Preflight:
    """Checks of one command, and what they learned.

    Args:
        run: run folder; None for a cache build.
        resume: as in ``pippin train``.
        ignore_plan: start although memory or disk do not suffice by the plan.
        shards: the shards that hold the images, where none is read yet.
        captioner: model that captions images without a caption before the start.
    """

    def __init__(
        self,
        run: RunFolder | None,
        resume: Resume = False,
        *,
        ignore_plan: bool = False,
        shards: ShardsConfig | None = None,
        captioner: str | None = None,
    ) -> None:
        self.run, self.resume, self.ignore_plan = run, resume, ignore_plan
        self.shards, self.captioner = shards, captioner
        self.start: Start | None = None
        """Set on rank 0 once the checks run."""

    def of(self, recipe: Recipe, located: Recipe) -> Start:
        """The start of a recipe."""
        if self.run is None:
            recipe, located = _cached(recipe), _cached(located)
        return Start(
            recipe,
            located,
            self.run,
            resume=self.resume,
            world_size=get_world_size(),
            ignore_plan=self.ignore_plan,
            shards=self.shards,
            captioner=self.captioner,
        )

    def check(self, recipe: Recipe, located: Recipe) -> None:
        """Run all checks, then print notes; see
        :func:`pippin.preflight.checks.check_before_start`."""
        self.start = self.of(recipe, located)
        _ = self.start.is_finished, self.start.caches_before  # as they are before the training
        check_before_start(self.start)
        for note in start_notes(self.start):
            print_text(f"note: {note}", error=True)

    def begin(self, recipe: Recipe, located: Recipe) -> None:
        """Run all checks, then caption the images without a caption.

        Raises:
            ValueError, OSError: a check failed, or see
                :func:`pippin.runs.data.missing_captions.caption_missing`.
        """
        self.check(recipe, located)
        data = located.data
        if self.captioner is None or not isinstance(data, ImagesConfig):
            return
        is_new = find_metadata(Path(data.path), data.metadata) is None
        result = caption_missing(data, self.captioner, recipe.train.device, Console(stderr=True))
        if result is not None:
            for line in result_lines(caption_column(self.captioner), result, new=is_new):
                print_text(line, error=True)

    def locate(self, recipe: Recipe, places: Mapping[str, str]) -> Recipe:
        """The recipe with resolved paths, as training finds them.

        Args:
            recipe: the recipe.
            places: as in :func:`pippin.training.train.train`.
        """
        own = None if self.run is None else read_inputs(self.run.path)
        return locate(recipe, places, resolved_paths(recipe), own.places if own else {})

    def memory_advice(
        self, error: BaseException, recipe: Recipe, places: Mapping[str, str], again: str
    ) -> str:
        """Settings that take less than the memory that was exhausted; on any rank.

        Args:
            error: torch's error.
            recipe: the recipe that was trained.
            places: as in :meth:`locate`.
            again: the command that resumes.
        """
        start = self.start or self.of(recipe, self.locate(recipe, places))
        return memory_advice(error, start, again)

    def met_lines(self) -> list[str]:
        """Planned against measured time, memory and disk of a training that has just ended, which
        the run folder then keeps. A full disk costs the comparison, not the training."""
        if self.start is None or self.start.is_finished:
            return []
        try:
            met = write_plan_met(self.start)
        except OSError as error:
            return [f"the plan's comparison could not be kept: {error}"]
        return [] if met is None else [f"{name}: {text}" for name, text in plan_met_rows(met)]


def _cached(recipe: Recipe) -> Recipe:
    """The recipe of a cache build, whether or not its cache is enabled."""
    return replace(recipe, cache=replace(recipe.cache, enabled=True))


def dry_run(preflight: Preflight, recipe: Recipe, places: Mapping[str, str] | None = None) -> int:
    """Run all checks and print the resolved plan, on rank 0; exit code 0 if all pass.

    Raises:
        ValueError, OSError: a check failed.
    """
    if is_rank0():
        located = preflight.locate(recipe, places or {})
        for line in resolved_plan(preflight.of(recipe, located)):
            print_text(line)
        print_text("dry run: nothing was written")
    return 0
