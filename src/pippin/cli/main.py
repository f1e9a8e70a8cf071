# SPDX-License-Identifier: Apache-2.0
"""``pippin VERB ...``: run the verb, and turn errors into messages and exit codes.

Exit codes: 0 success; 1 failure (a failed arm, a diverged model, out of memory, a full disk);
2 wrong input; 75 stopped by a signal (Ctrl-C, SIGTERM, SIGUSR2), resumable; 141 nobody reads the
output.
"""

import faulthandler
import importlib
import os
import sys

from pippin.cli.failures import (
    BAD_INPUT,
    BROKEN_PIPE,
    discard_output,
    explain,
    is_closed_output,
    retry_command,
)
from pippin.cli.imports import take_imports
from pippin.cli.parsing.verb_help import HELP, SHARED_FLAGS, examples_text
from pippin.distributed.ranks import is_rank0
from pippin.system.offline import offline_mode
from pippin.system.output import hidden_progress, verbose_progress
from pippin.system.redaction import redact
from pippin.system.signals import exit_when_stuck, signals_interrupt
from pippin.system.text import prefer_utf8, print_text, show_any_text
from pippin.system.workers.processes import end_with_launcher

VERBS: dict[str, str] = {
    "demo": "full pipeline on the embedded images, with a report, in minutes",
    "data": "import, check or recaption a custom data set, or prepare a recipe's latents",
    "show": "show a recipe and its cost: parameters, FLOPs, memory",
    "fetch": "bring the models that a recipe names into the hub's cache, for machines offline",
    "plan": "estimate the training of a recipe: memory, hours and disk on many devices",
    "train": "train a recipe",
    "sample": "sample images from a run",
    "play": "draw images of one or two runs in a local page",
    "evaluate": "evaluate a run or a folder of images",
    "average": "reconstruct an EMA of any width from a run's snapshots",
    "reference": "save reference statistics of a folder of images",
    "convert": "convert weights of another implementation",
    "export": "export the weights of a run as a self-contained folder",
    "push": "push a model with its card to the Hugging Face hub",
    "bench": "measure the training throughput of a recipe",
    "report": "write report.html for a run or a study",
    "study": "run or list the shipped studies",
    "autoencoder": "train a small autoencoder",
    "runs": "list run folders with recipe, progress, state and loss",
    "cache": "list or delete caches of latents and caption features",
    "completion": "print a script that completes commands in bash, zsh or fish",
}
RESUMABLE = 75
RESUMABLE_VERBS = {"demo", "train", "sample", "evaluate", "study", "autoencoder"}
"""Verbs that resume when run again; also ``data``, except its check."""


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    try:
        try:
            return _main(argv)
        finally:  # while errors can still be handled
            if sys.stdout is not None:
                sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        if not is_closed_output(error):
            raise
        discard_output()
        return BROKEN_PIPE


def _main(argv: list[str] | None) -> int:
    if argv is None:  # the command line, not a call from Python
        prefer_utf8()
    show_any_text()
    if sys.__stderr__ is not None and not faulthandler.is_enabled():
        # Print the traceback of a crash in native code: torchrun reports only the signal.
        faulthandler.enable(sys.__stderr__)
    try:
        modules, arguments = take_imports(sys.argv[1:] if argv is None else argv)
    except ValueError as error:
        print_text(f"error: {error}", error=True)
        return BAD_INPUT
    if not arguments or arguments[0] in HELP:
        print_text(_help())
        return 0 if arguments else BAD_INPUT
    if arguments[0] == "--version":
        from pippin import __version__

        print_text(f"pippin {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        from pippin.config import suggest_names

        near = suggest_names(verb, VERBS)
        print_text(f"error: unknown verb {verb!r}{near}; `pippin --help` lists all", error=True)
        return BAD_INPUT
    return _guarded(verb, rest, modules)


def _guarded(verb: str, arguments: list[str], modules: list[str]) -> int:
    """Import the modules and run the verb."""
    end_with_launcher()
    try:
        if {"--quiet", "--verbose"} <= set(arguments):
            raise ValueError("--quiet and --verbose exclude each other: leave one of them out")
        with (
            signals_interrupt(),
            exit_when_stuck(lambda: _exit_stopped(verb, arguments)),
            hidden_progress("--quiet" in arguments),
            verbose_progress("--verbose" in arguments),
            offline_mode("--offline" in arguments),
        ):
            if modules:
                from pippin.plugins import import_modules

                import_modules(modules)
            code = _run(verb, [word for word in arguments if word not in SHARED_FLAGS])
        if code == RESUMABLE and verb in ("demo", "study"):  # which catch the signal themselves
            _report_stop(verb, arguments)
        return code
    except KeyboardInterrupt:
        _report_stop(verb, arguments)
        return RESUMABLE
    except Exception as error:
        if is_closed_output(error):
            raise
        failure = explain(error, verb, arguments)
        if failure is None:
            raise
        print_text(f"error: {redact(failure.message)}", error=True)
        return failure.code


def _run(verb: str, arguments: list[str]) -> int:
    """Run the verb; its help ends with examples."""
    help_requested = not set(HELP).isdisjoint(arguments)
    try:
        code: int = importlib.import_module(f"pippin.cli.{verb}").main(arguments)
    except SystemExit as stopped:
        if help_requested and not stopped.code:
            print_text(examples_text(verb))
        raise
    if help_requested and code == 0:
        print_text(examples_text(verb))
    return code


def _report_stop(verb: str, arguments: list[str]) -> None:
    if is_rank0():
        resumable = verb in RESUMABLE_VERBS or (verb == "data" and arguments[:1] != ["check"])
        effect = "resume" if resumable else "start over"
        again = redact(retry_command(verb, arguments))
        print_text(f"stopped; {effect} with: {again}", error=True)


def _exit_stopped(verb: str, arguments: list[str]) -> None:
    """Exit a process whose main thread is stuck in native code."""
    if sys.stderr.isatty():
        sys.stderr.write("\033[?25h")  # show the cursor, which a progress bar hides
    _report_stop(verb, arguments)
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
        "`pippin VERB --help` shows the options of a verb. Every verb takes --quiet, which hides "
        "progress,\n--verbose, which shows more of it, --offline, which downloads nothing, and "
        "--import MODULE,\nwhich first imports a module that registers denoisers, conditioners or "
        "recipes of your own."
    )


if __name__ == "__main__":
    sys.exit(main())
