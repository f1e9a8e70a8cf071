# SPDX-License-Identifier: Apache-2.0
"""The page's answer to a click: a stream of updates, the last of which may be an error."""

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pippin.app.commands import python_program, sample_commands
from pippin.app.gallery import problem_html, sheet_html, status_html
from pippin.app.session import PlaySession
from pippin.app.sheet import Request, Sheet
from pippin.images.display import png_uri
from pippin.system.main_memory import is_out_of_memory
from pippin.system.text import print_text

MEMORY_ADVICE = "there is not enough memory: ask for a smaller aspect, or close other programs"


@dataclass(frozen=True, kw_only=True)
class Update:
    """New content of the page; all HTML is escaped."""

    gallery: str
    status: str
    command: str
    program: str


Build = Callable[[], tuple[Sheet, tuple[str, ...]]]
"""Makes the sheet of a click, and notes that the page shows with it."""


def updates(session: PlaySession, build: Build) -> Iterator[Update]:
    """Updates of one click: an empty sheet, then one for each batch of images.

    An error ends the stream with its words; images that were finished stay on the page.
    """
    gallery = command = program = ""
    names = [model.source for model in session.models]
    finished: dict[tuple[Request, int], str] = {}
    try:
        sheet, notes = build()
        command = sample_commands(session.models, sheet)
        program = python_program(session.models, sheet)
        gallery = sheet_html(sheet, names, finished)
        start = time.monotonic()
        status = status_html(0, sheet.total, 0, notes)
        yield Update(gallery=gallery, status=status, command=command, program=program)
        done = 0
        for batch in session.stream(sheet):
            finished |= {(image.request, image.seed): png_uri(image.pixels) for image in batch}
            done += len(batch)
            gallery = sheet_html(sheet, names, finished)
            status = status_html(done, sheet.total, time.monotonic() - start, notes)
            yield Update(gallery=gallery, status=status, command=command, program=program)
    except Exception as error:
        status = problem_html(describe(error))
        yield Update(gallery=gallery, status=status, command=command, program=program)


def describe(error: Exception) -> str:
    """An error in words for the page; unexpected ones are also printed with their traceback."""
    if is_out_of_memory(error):
        return MEMORY_ADVICE
    if isinstance(error, ValueError | FloatingPointError | OSError):
        return str(error)
    print_text("".join(traceback.format_exception(error)), error=True)
    return f"unexpected error, printed in the terminal of pippin play: {type(error).__name__}"
