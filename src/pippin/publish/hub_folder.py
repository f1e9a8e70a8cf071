# SPDX-License-Identifier: Apache-2.0
"""Folder that is pushed to the hub: an export, a grid of samples drawn from it, and its card."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from pippin.publish.card import CARD, CardForm, render_card
from pippin.publish.facts import CardFacts, public_notes
from pippin.publish.markdown import literal, one_line
from pippin.publish.model_folder import write_model_folder
from pippin.publish.sample_grid import draw_grid, grid_prompts
from pippin.runs.hub_source import HubSource
from pippin.system.files import write_text
from pippin.system.weight_checks import check_cast


@dataclass(frozen=True, kw_only=True)
class ShareRequest:
    """Request of a push."""

    name: str
    """USER/NAME."""
    revision: str | None = None
    text_encoders: bool = True
    prompts: tuple[str, ...] = ()
    num_samples: int = 16
    """Images of the grid; 0 = none."""

    @property
    def source(self) -> str:
        """Name by which others load the model."""
        return str(HubSource(name=self.name, revision=self.revision))


def prepare_folder(
    facts: CardFacts, folder: Path, request: ShareRequest, console: Console
) -> list[str]:
    """Write the folder that is pushed.

    Args:
        facts: of the model.
        folder: new or empty.
        request: what the author asks.
        console: for progress.

    Returns:
        Notes for the author: what becomes public, and what others have to bring.

    Raises:
        ValueError: no prompts for a text model's grid, or weights that the dtype cannot hold.
        OSError: disk full or not writable.
    """
    trained = facts.trained
    check_cast(trained.tensors, getattr(torch, facts.dtype), trained.source)
    prompts = grid_prompts(facts, request.prompts, request.num_samples)
    facts, notes = write_model_folder(facts, folder, text_encoders=request.text_encoders)
    facts = draw_grid(facts, folder, prompts, request.num_samples, console)
    write_text(folder / CARD, render_card(facts, hub_form(facts, request)))
    return [*notes, *public_notes(facts)]


def hub_form(facts: CardFacts, request: ShareRequest) -> CardForm:
    """Title, header and use of a pushed model."""
    return CardForm(
        title=request.name.partition("/")[2],
        header={"library_name": "pippin"},
        use=_use(facts, request.source),
    )


def _use(facts: CardFacts, source: str) -> tuple[str, ...]:
    """Three lines of shell and of Python."""
    options, prompt, note = _example_request(facts)
    return (
        "```bash",
        f"pippin show {source}",
        f"pippin sample {source} {options}--seeds 0:16",
        f"pippin play {source}",
        "```",
        "",
        "```python",
        "from pippin import draw, load_run",
        f'run = load_run("{source}")',
        f"images = draw(run, [{prompt}] * 4, seeds=range(4))  # uint8 (4, 3, height, width)",
        "```",
        "",
        f"Training starts from these weights with `--init.run {source}`. Add `@COMMIT` to the "
        f"name to pin a version; a run records the commit in any case.{note} `config.json` has "
        "every setting.",
    )


def _example_request(facts: CardFacts) -> tuple[str, str, str]:
    """(options of pippin sample, prompt in Python, a note) of the first sample or class."""
    if facts.reads_text:
        texts = [row["prompt"] for row in facts.samples if "prompt" in row]
        prompt = one_line(texts[0]) if texts else "a red apple"
        return f"--prompts {shlex.quote(prompt)} ", literal(prompt), ""
    if facts.class_names:
        label = shlex.quote(one_line(facts.class_names[0]))
        return f"--labels {label} ", "0", " Class ids count from 0."
    return "", "0", ""
