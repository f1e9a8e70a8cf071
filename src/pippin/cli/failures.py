# SPDX-License-Identifier: Apache-2.0
"""End of a command: messages, exit codes, closed pipes, the command to type next.

Errors that are not bugs of pippin end with exit code 1 if they come at run time (out of memory, a
full disk, a diverged model), and with 2 for wrong input.

A pipe that is closed early, as in ``pippin study list | head -1``, is no error of the user: pippin
ends without a message, with the exit code that a shell gives other programs.
"""

import errno
import os
import select
import sys
from collections.abc import Sequence
from shlex import join
from typing import Any, NamedTuple, TextIO

from pippin.cli.imports import OPTION
from pippin.distributed.ranks import get_world_size
from pippin.system.main_memory import is_out_of_memory
from pippin.system.workers.processes import worker_failure_message


def whole_command(verb: str, arguments: Sequence[str]) -> str:
    """``pippin VERB ...`` with quoted arguments and what was imported; under torchrun its own
    options are dots."""
    from pippin.plugins import imported_modules

    launcher = ["pippin"] if get_world_size() == 1 else ["torchrun", "...", "-m", "pippin"]
    imports = [word for name in imported_modules() for word in (OPTION, name)]
    return join([*launcher, verb, *arguments, *imports])


def retry_command(verb: str, arguments: Sequence[str]) -> str:
    """Command that continues after a stop at any point, with or without a checkpoint."""
    if verb == "train":
        arguments = [*_without_resume(arguments), "--resume", "auto"]
    elif verb == "autoencoder" and arguments[:1] == ["train"]:
        arguments = [*_without_resume(arguments), "--resume", "True"]
    return whole_command(verb, arguments)


def _without_resume(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    value_follows = False
    for argument in arguments:
        if value_follows and not argument.startswith("-"):
            value_follows = False
            continue
        option = argument.partition("=")[0]
        value_follows = argument == "--resume"
        if option not in ("--resume", "--no-resume"):
            kept.append(argument)
    return kept


BROKEN_PIPE = 141
"""Exit code: 128 and SIGPIPE."""


def is_closed_output(error: BaseException) -> bool:
    """Whether an error comes from writing to standard output or error that nobody reads.

    Pipes between processes of pippin break too, and these errors are not hidden.
    """
    if isinstance(error, SystemExit):  # rich turns the error into this
        return isinstance(error.__context__, BrokenPipeError)
    return isinstance(error, BrokenPipeError) and bool(_unread_streams())


def discard_output() -> None:
    """Send the unread streams to nowhere, so that Python can flush them when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in _unread_streams():
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _unread_streams() -> list[TextIO]:
    return [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]


def _is_unread(stream: Any) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno() if stream else -1, select.POLLOUT)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    except (OSError, ValueError):  # no file, such as a buffer in memory
        return False


FAILED, BAD_INPUT = 1, 2
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of a full or broken file system."""
MEMORY_ADVICE = {
    "train": "--train.micro-batch-size 1 or --train.gradient-checkpointing 1, which change "
    "rounding only, --train.precision bf16, torchrun with --train.parallel fsdp, a "
    "smaller --train.batch-size or --denoiser.width, or another --train.device",
    "sample": "--batch-size or --precision bf16",
    "evaluate": "--batch-size, or --sampling.batch-size of a run",
    "reference": "--batch-size",
    "data": "fewer --processes or --train.workers of prepare, --batch-size of recaption, or "
    "--data.resolution",
    "autoencoder": "--train.batch-size or --data.resolution",
}
"""Verb -> options that reduce its memory."""
FOLDER_OPTIONS = {
    **dict.fromkeys(("demo", "train", "study"), "--folder"),
    **dict.fromkeys(("data", "export", "convert", "reference"), "folder"),
    "fetch": "--to",
}
"""Verb -> its output folder in messages, where that is not --out."""


class Failure(NamedTuple):
    """Message and exit code of a failure."""

    message: str
    code: int


def explain(error: Exception, verb: str, arguments: Sequence[str] = ()) -> Failure | None:
    """Message for the user; None for an error that needs its traceback.

    Args:
        error: the error.
        verb: verb of the command that raised it.
        arguments: the arguments after the verb.
    """
    if killed := worker_failure_message(error):
        return Failure(f"{killed}; resume with: {retry_command(verb, arguments)}", FAILED)
    if is_out_of_memory(error):
        first = next(iter(str(error).splitlines()), "") or type(error).__name__
        advice = MEMORY_ADVICE.get(verb, "a smaller batch size or model in its recipe")
        return Failure(f"not enough memory ({first}); reduce it with {advice}", FAILED)
    if isinstance(error, FloatingPointError):
        return Failure(str(error), FAILED)
    if (
        type(error).__name__ == "SafetensorError"
    ):  # by name, so that help does not import safetensors
        text = f"a safetensors file cannot be read: {error}; it is damaged or missing"
        return Failure(text, BAD_INPUT)
    if isinstance(error, OSError):
        return _of_file_system(error, FOLDER_OPTIONS.get(verb, "--out"))
    if isinstance(error, ValueError):  # ConfigError and other messages of pippin
        return Failure(str(error), BAD_INPUT)
    return None


def _of_file_system(error: OSError, option: str) -> Failure:
    where = f"{error.filename}: " if error.filename else ""
    description = f"{where}{error.strerror or error}"
    if error.errno in DISK_ERRORS:
        advice = f"free some space or choose another {option}; finished work is intact"
        return Failure(f"{description}; {advice}", FAILED)
    if isinstance(error, FileExistsError | NotADirectoryError):
        return Failure(f"{description}; a folder is needed, but a file exists there", BAD_INPUT)
    return Failure(description, BAD_INPUT)
