# SPDX-License-Identifier: Apache-2.0
"""What a verb says, and how it exits, when something goes wrong that is no bug of ours.

Exit codes: 1 for what the input could not know (no memory, no room on the disk, a model that
diverged), 2 for input that is wrong.
"""

import errno
from typing import NamedTuple

from pippin.system.children import killed_worker

FAILED, BAD_INPUT = 1, 2
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of a file system that is full or broken."""
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
LEVERS = {
    "train": "--train.micro-batch-size 1 or --train.gradient-checkpointing 1, which change "
    "rounding only, --train.precision bf16, torchrun with --train.parallel fsdp, a "
    "smaller --train.batch-size or --denoiser.width, or another --train.device",
    "sample": "--batch-size or --precision bf16",
    "evaluate": "--batch-size, or --sampling.batch-size of a run",
    "reference": "--batch-size",
    "data": "--batch-size of recaption, or --data.resolution",
    "autoencoder": "--train.batch-size or --data.resolution",
}
"""Verb -> what lowers its need of memory."""


class Failure(NamedTuple):
    """One message, and the exit code that goes with it."""

    message: str
    code: int


def explain(error: Exception, verb: str) -> Failure | None:
    """The message for a user; None for an error that only its traceback explains."""
    if killed := killed_worker(error):
        resume = " with --resume True" if verb in ("train", "autoencoder") else ""
        return Failure(f"{killed}; the same command goes on{resume}", FAILED)
    if _out_of_memory(error):
        first = next(iter(str(error).splitlines()), "") or type(error).__name__
        levers = LEVERS.get(verb, "a smaller batch size or model in its recipe")
        return Failure(f"not enough memory ({first}); it takes less with {levers}", FAILED)
    if isinstance(error, FloatingPointError):
        return Failure(str(error), FAILED)
    if type(error).__name__ == "SafetensorError":  # named, so that help needs no safetensors
        text = f"a safetensors file cannot be read: {error}; it is damaged, or no such file"
        return Failure(text, BAD_INPUT)
    if isinstance(error, OSError):
        return _of_file_system(error)
    if isinstance(error, ValueError):  # ConfigError and our other messages are ValueErrors
        return Failure(str(error), BAD_INPUT)
    return None


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY)


def _of_file_system(error: OSError) -> Failure:
    where = f"{error.filename}: " if error.filename else ""
    what = f"{where}{error.strerror or error}"
    if error.errno in NO_ROOM:
        advice = "make room or choose another folder; what was finished before is whole"
        return Failure(f"{what}; {advice}", FAILED)
    if isinstance(error, FileExistsError | NotADirectoryError):
        return Failure(f"{what}; a folder is needed where a file stands", BAD_INPUT)
    return Failure(what, BAD_INPUT)
