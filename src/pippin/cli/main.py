# SPDX-License-Identifier: Apache-2.0
"""``pippin VERB ...``: finds the verb, turns errors into messages and exit codes.

Exit codes: 0 done; 1 it could not be done (a failed arm, a diverged model, no memory, a full
disk); 2 bad input; 75 stopped by a signal (Ctrl-C, SIGTERM, SIGUSR2), to go on later.
"""

import faulthandler
import importlib
import os
import sys

from pippin.cli.failures import BAD_INPUT, explain
from pippin.system.children import end_with_launcher
from pippin.system.ranks import first_process
from pippin.system.secrets import redact
from pippin.system.stop import signals_interrupt
from pippin.system.stuck import leave_when_stuck
from pippin.system.terminal import say
from pippin.system.text import prefer_utf8, show_any_text

VERBS: dict[str, str] = {
    "demo": "the whole line on the embedded pictures, with a report, in minutes",
    "data": "check or recaption own pictures, or prepare a recipe's latents",
    "show": "what a recipe is and costs: parameters, FLOPs, memory",
    "plan": "what training a recipe takes: memory, hours and disk on many devices",
    "train": "train a recipe",
    "sample": "draw images from a run",
    "evaluate": "measure a run or a folder of images",
    "reference": "keep statistics of a folder of images, to evaluate against",
    "convert": "read the weights of another implementation",
    "export": "write the weights of a run as a folder of their own",
    "bench": "measure how fast a recipe trains",
    "report": "write report.html for a run or a study",
    "study": "run or list the shipped studies",
    "autoencoder": "train a small autoencoder",
}
RESUMABLE = 75
KEEPS = {"demo", "train", "sample", "evaluate", "study", "autoencoder"}
"""Verbs that find what they had finished when they are given again; and ``data`` but its check."""


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    if argv is None:  # a command, not a call
        prefer_utf8()
    show_any_text()
    if sys.__stderr__ is not None and not faulthandler.is_enabled():
        # A crash in native code says where it was: torchrun tells no more than the signal.
        faulthandler.enable(sys.__stderr__)
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        say(_help())
        return 0 if arguments else BAD_INPUT
    if arguments[0] == "--version":
        from pippin import __version__

        say(f"pippin {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        from pippin.config import nearest

        near = nearest(verb, VERBS)
        say(f"error: no verb {verb!r}{near}; `pippin --help` lists all", error=True)
        return BAD_INPUT
    return _guarded(verb, rest)


def _guarded(verb: str, arguments: list[str]) -> int:
    end_with_launcher()
    try:
        with signals_interrupt(), leave_when_stuck(lambda: _leave_stopped(verb, arguments)):
            return importlib.import_module(f"pippin.cli.{verb}").main(arguments)
    except KeyboardInterrupt:
        _say_stopped(verb, arguments)
        return RESUMABLE
    except Exception as error:
        failure = explain(error, verb)
        if failure is None:
            raise
        say(f"error: {redact(failure.message)}", error=True)
        return failure.code


def _say_stopped(verb: str, arguments: list[str]) -> None:
    if first_process():
        keeps = verb in KEEPS or (verb == "data" and arguments[:1] != ["check"])
        way = "goes on from here" if keeps else "begins anew"
        say(f"stopped; the same command {way}", error=True)


def _leave_stopped(verb: str, arguments: list[str]) -> None:
    """End a process whose main thread is stuck in native code."""
    if sys.stderr.isatty():
        sys.stderr.write("\033[?25h")  # the cursor, which a progress bar hides
    _say_stopped(verb, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(RESUMABLE)


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    return (
        "usage: pippin VERB ...\n\n"
        "Apple-to-apple training recipes for latent diffusion models.\n\n"
        f"verbs:\n{verbs}\n\n"
        "`pippin VERB --help` shows the options of a verb."
    )


if __name__ == "__main__":
    sys.exit(main())
