# SPDX-License-Identifier: Apache-2.0
"""Messages and exit codes for errors that are not bugs of pippin.

Exit codes: 1 for failures at run time (out of memory, a full disk, a diverged model), 2 for wrong
input.
"""

import errno
from collections.abc import Sequence
from typing import NamedTuple

from pippin.cli.commands import retry_command
from pippin.system.worker_processes import worker_failure_message

FAILED, BAD_INPUT = 1, 2
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of a full or broken file system."""
MEMORY_ERRORS = ("out of memory", "not enough memory", "can't allocate memory")
MEMORY_ADVICE = {
    "train": "--train.micro-batch-size 1 or --train.gradient-checkpointing 1, which change "
    "rounding only, --train.precision bf16, torchrun with --train.parallel fsdp, a "
    "smaller --train.batch-size or --denoiser.width, or another --train.device",
    "sample": "--batch-size or --precision bf16",
    "evaluate": "--batch-size, or --sampling.batch-size of a run",
    "reference": "--batch-size",
    "data": "--batch-size of recaption, or --data.resolution",
    "autoencoder": "--train.batch-size or --data.resolution",
}
"""Verb -> options that reduce its memory."""
FOLDER_OPTIONS = {
    **dict.fromkeys(("demo", "train", "study"), "--folder"),
    **dict.fromkeys(("data", "export", "convert", "reference"), "folder"),
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
    if _out_of_memory(error):
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


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in MEMORY_ERRORS)


def _of_file_system(error: OSError, option: str) -> Failure:
    where = f"{error.filename}: " if error.filename else ""
    description = f"{where}{error.strerror or error}"
    if error.errno in DISK_ERRORS:
        advice = f"free some space or choose another {option}; finished work is intact"
        return Failure(f"{description}; {advice}", FAILED)
    if isinstance(error, FileExistsError | NotADirectoryError):
        return Failure(f"{description}; a folder is needed, but a file exists there", BAD_INPUT)
    return Failure(description, BAD_INPUT)
