# SPDX-License-Identifier: Apache-2.0
"""A disk that is full while each kind of file is written, with free space afterwards."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from fault import RESUME, SAMPLE, Fault, newest, train

NO_ROOM = "(No space left on device|File too large); free some space"
PAGE = 4096
"""Block size in bytes: the size on disk of a file of one byte."""
RESULTS_LIMIT = 150_000
"""Maximum file size in bytes. Images and parts of an evaluation are smaller; its results, with
earlier ones, are larger: so only these hit the limit."""


def without_newest(run: Path) -> None:
    """Reset a run to its last but one checkpoint, without its log."""
    shutil.rmtree(newest(run))
    (run / "log.jsonl").unlink()


def earlier_results(path: Path) -> None:
    """Write lines of earlier evaluations, almost as large as the limit."""
    line = {"name": "earlier", "subject": "arm", "value": 1.0, "padding": "x" * 1000}
    size = len(json.dumps(line)) + 50
    numbers = range((RESULTS_LIMIT - 2000) // size)
    path.write_text("".join(json.dumps(line | {"fingerprint": str(n)}) + "\n" for n in numbers))


def images_elsewhere(run: Path) -> None:
    """Leave only results.jsonl of an evaluation on the full disk."""
    elsewhere = run.parent.parent / f"elsewhere-{run.name}"
    for name in ("evaluation", "drift", "real"):
        (elsewhere / name).mkdir(parents=True)
        (run / name).symlink_to(elsewhere / name)
    earlier_results(run / "results.jsonl")


def all_results(folder: str) -> Callable[[Path], bool]:
    """Check that results.jsonl holds the earlier lines and new ones, all valid."""

    def complete(run: Path) -> bool:
        lines = (run / folder / "results.jsonl").read_text().splitlines()
        names = [json.loads(line)["name"] for line in lines]
        earlier = [json.loads(line)["fingerprint"] for line in lines if '"earlier"' in line]
        return earlier == [str(n) for n in range(len(earlier))] and len(earlier) < len(names)

    return complete


def sampled(run: Path) -> bool:
    """Whether all samples exist and the manifest is complete."""
    manifest = json.loads((run / "more" / "manifest.json").read_text())
    return manifest["complete"] and len(list((run / "more").glob("seed-*.png"))) == 8


FIRST = train("--folder", "{run}-new")
CACHE = [*FIRST, "--cache.folder", "{run}-other", "--cache.shard-size", "16"]
BESIDE = ("--train.checkpoint-overlap", "True")
MORE = [*SAMPLE, "--out", "{run}/more", "--batch-size", "4"]

FULL = [
    *(
        Fault(
            what=f"while a checkpoint is saved{how}: the previous one stays",
            arguments=[*RESUME, *options],
            code=1,
            says=rf"/(64|128)/\w+\.safetensors: {NO_ROOM}",
            prepare=without_newest,
            room=12 * PAGE,
            file_limit=20_000,
            again=RESUME,
            complete=lambda run: newest(run).name == "128",
        )
        for how, options in (("", ()), (" asynchronously", BESIDE))
    ),
    Fault(
        what="while the first checkpoint is saved",
        arguments=FIRST,
        code=1,
        says=rf"/(64|128)/\w+\.safetensors: {NO_ROOM}",
        room=12 * PAGE,
        file_limit=20_000,
        again=[*FIRST, "--resume", "True"],
        complete=lambda run: newest(Path(f"{run}-new")).name == "128",
    ),
    *(
        Fault(
            what=f"while {what} of a training is written",
            arguments=RESUME,
            code=1,
            says=rf"/({what}|log.jsonl): {NO_ROOM}",  # TensorBoard's thread may be late
            prepare=without_newest,
            room=room,
            file_limit=limit,
            again=RESUME,
            complete=lambda run: newest(run).name == "128",
        )
        for what, room, limit in (("log.jsonl", PAGE, 150), ("tensorboard", 0, 10))
    ),
    Fault(
        what="while a shard of the cache is saved",
        arguments=CACHE,
        code=1,
        says=rf"shard-0000\d\.safetensors: {NO_ROOM}",
        room=24 * PAGE,
        file_limit=20_000,
        again=CACHE,
        complete=lambda run: any(Path(f"{run}-other").glob("*/manifest.json")),
    ),
    Fault(
        what="while images are sampled",
        arguments=MORE,
        code=1,
        says=rf"more/\S+: {NO_ROOM}",
        room=4 * PAGE,
        file_limit=1_000,
        again=MORE,
        complete=sampled,
    ),
    Fault(
        what="while results of a run are written",
        arguments=["evaluate", "{run}"],
        code=1,
        says=rf"results\.jsonl: {NO_ROOM}",
        prepare=images_elsewhere,
        room=PAGE,
        file_limit=RESULTS_LIMIT,
        again=["evaluate", "{run}"],
        complete=all_results("."),
    ),
    Fault(
        what="while results of a folder of images are written",
        arguments=["evaluate", "{run}/samples"],
        code=1,
        says=rf"results\.jsonl: {NO_ROOM}",
        prepare=lambda run: earlier_results(run / "samples" / "results.jsonl"),
        room=PAGE,
        file_limit=RESULTS_LIMIT,
        again=["evaluate", "{run}/samples"],
        complete=all_results("samples"),
    ),
    Fault(
        what="while a model is exported",
        arguments=["export", "{run}", "{run}/exported"],
        code=1,
        says=rf"exported/model\.safetensors: {NO_ROOM}",
        room=4 * PAGE,
        file_limit=10_000,
        again=["export", "{run}", "{run}/exported"],
        complete=lambda run: (
            {path.name for path in (run / "exported").iterdir()}
            == {"config.json", "model.safetensors"}
        ),
    ),
    Fault(
        what="while a report is written",
        arguments=["report", "{run}"],
        code=1,
        says=rf"report\.html: {NO_ROOM}",
        room=0,
        file_limit=1_000,
        again=["report", "{run}"],
        complete=lambda run: "</html>" in (run / "report.html").read_text(),
    ),
]
