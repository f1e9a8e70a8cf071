# SPDX-License-Identifier: Apache-2.0
"""Definition of faults and helpers to provoke them."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SMALL = [
    *("--data.resolution", "32", "--data.views", "1", "--data.max-pictures", "64"),
    *("--denoiser.depth", "2", "--denoiser.width", "16", "--denoiser.num-heads", "2"),
    *("--denoiser.patch-size", "4", "--train.batch-size", "16", "--train.device", "cpu"),
    *("--train.images", "128", "--train.checkpoint-every", "64", "--train.validate-every", "0"),
    *("--train.preview-every", "0", "--sampling.steps", "2", "--evaluation.num-samples", "12"),
    *("--evaluation.input-size", "32", "--evaluation.drift-pairs", "3"),
]
RECIPE = "openmoji/mmdit-disentangled"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault and the expected reaction. ``{run}`` in arguments is a trained run's folder."""

    what: str
    arguments: list[str]
    code: int
    says: str
    """Regular expression that the messages must match."""
    prepare: Callable[[Path], subprocess.Popen[bytes] | None] = lambda run: None
    """Causes the damage in a copy of the run; a process that it starts is ended afterwards."""
    room: int | None = None
    """Free bytes on the disk."""
    file_limit: int | None = None
    """Maximum file size in bytes: replaces ``room`` if no disk can be mounted."""
    again: list[str] | None = None
    """Arguments that succeed once there is space ..."""
    complete: Callable[[Path], bool] = lambda run: True
    """... after which this must be true."""
    signal: int | None = None
    """Signal sent to the process ..."""
    when: Callable[[Path], bool] = lambda run: True
    """... as soon as this is true."""
    quick: bool = False
    """Needs neither a run nor torch: part of the test suite."""
    untouched: bool = True
    """Whether existing files must stay unchanged."""


def train(*arguments: str) -> list[str]:
    """Arguments that train the small recipe."""
    return ["train", RECIPE, *SMALL, "--cache.folder", "{run}-caches", *arguments]


RESUME = train("--folder", "{run}", "--resume", "True")
LONGER = ["--train.images", "1000000", "--train.log-every", "16"]
SAMPLE = ["sample", "{run}", "--seeds", "0:8"]


def newest(run: Path) -> Path:
    """Newest checkpoint."""
    return max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))


def cut(path: Path) -> None:
    """Truncate a file to half its length."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def change(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def in_checkpoint(spoil: Callable[[Path], None], name: str) -> Callable[[Path], None]:
    """Damage a file of the newest checkpoint."""
    return lambda run: spoil(newest(run) / name)


def shard(run: Path) -> Path:
    """First shard of the run's cache."""
    return next(Path(f"{run}-caches").glob("*/shard-*"))


def locked(folder: str) -> Callable[[Path], subprocess.Popen[bytes]]:
    """Hold the lock of a folder of the run in another process."""
    code = (
        "import sys, time, pathlib; from pippin.system.lock import folder_lock\n"
        "with folder_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )

    def hold(run: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", code, str(run / folder)]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        holder.stdout.readline()
        return holder

    return hold


def mistake(what: str, arguments: list[str], says: str, **more: object) -> Fault:
    """Fault of wrong input: exit code 2."""
    return Fault(what=what, arguments=arguments, code=2, says=says, **more)  # type: ignore[arg-type]


def written(name: str, text: bytes) -> Callable[[Path], None]:
    """Write a file into the run folder."""

    def write(run: Path) -> None:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(text)

    return write


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
