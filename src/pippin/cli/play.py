# SPDX-License-Identifier: Apache-2.0
"""``pippin play RUN [RUN2]``: draw from one or two runs in a local page."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import tyro

from pippin.app.server import LOOPBACK, free_port, is_loopback, require_gradio, serve
from pippin.cli.parsing.options import parse
from pippin.cli.sample import TEXT_MODEL
from pippin.sampling.config import GuideChoice
from pippin.system.text import print_text


@dataclass(frozen=True, kw_only=True)
class PlayCommand:
    """Open a page that draws images of one run, or of two runs side by side, and shows the command
    for each. Ctrl-C ends it. Only this machine reaches the page, and nothing is downloaded but
    a model that is given as hf://USER/NAME."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = TEXT_MODEL
    """A run folder, an exported folder, the name of a shipped model, or hf://USER/NAME."""
    run2: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN2")] = None
    """A second one, which draws the same seeds."""
    weights: str | None = None
    """ema, raw, or one of the averages of train.ema_extra; default as in pippin sample."""
    guide: str | None = None
    """A weaker model for autoguidance of RUN, which the page then has a scale for: a run, a model
    or hf://USER/NAME; default RUN itself, where --guide-checkpoint is given."""
    guide_checkpoint: int | None = None
    """Images seen of the guide's checkpoint; default the newest."""
    address: str = LOOPBACK
    """Address to listen on. Whoever reaches another address than the default can draw images:
    there is no password."""
    port: int | None = None
    """Port to listen on; default the first free one from 7860."""
    browser: bool = False
    """Open the page in the default browser."""


def main(argv: list[str]) -> int:
    """Parse, load, serve until interrupted."""
    command = parse(PlayCommand, "pippin play", argv)
    local = is_loopback(command.address)
    require_gradio()
    free_port(command.address, command.port)  # refuses before the models are loaded
    from pippin.app.play_model import open_model
    from pippin.app.session import PlaySession
    from pippin.runs.hub_source import pin_source

    given = [command.run] if command.run2 is None else [command.run, command.run2]
    sources = [pin_source(source) for source in given]
    weaker = None if command.guide is None else pin_source(command.guide)
    guide = GuideChoice(weaker, command.guide_checkpoint, None)
    first, *others = sources
    models = [open_model(first, command.weights, guide)]
    session = PlaySession([*models, *(open_model(one, command.weights) for one in others)])
    page = serve(session, command.address, command.port)
    try:
        if not local:
            print_text(
                f"warning: everyone who reaches {command.address} can draw images here, without a "
                "password; leave out --address to serve this machine only",
                error=True,
            )
        print_text(f"{', '.join(sources)}: {page.local_url} (Ctrl-C ends)")
        if command.browser:
            import webbrowser

            webbrowser.open(page.local_url)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    finally:
        page.close(verbose=False)
    return 0
