# SPDX-License-Identifier: Apache-2.0
"""Damaged files on the disk."""

import shutil
from pathlib import Path

from fault import (
    RESUME,
    SAMPLE,
    Fault,
    change,
    cut,
    flip,
    in_checkpoint,
    mistake,
    shard,
    train,
    written,
)


def broken_autoencoder(folder: Path) -> None:
    import pippin

    weights = Path(pippin.__file__).parent / "encoders" / "weights" / "openmoji-f4"
    shutil.copytree(weights, folder)
    cut(folder / "diffusion_pytorch_model.safetensors")


def link_lock(run: Path) -> None:
    """Replace the run's lock by a link to a file."""
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").symlink_to("config.json")


DAMAGE = [
    mistake(
        "lock of the run is a link",
        RESUME,
        r"\.lock is a link or a special file; a lock must be a regular file",
        prepare=link_lock,
    ),
    *(
        Fault(
            what=f"{name} of the last checkpoint {text}",
            arguments=RESUME,
            code=0,
            says=rf"skipped checkpoint: .*{name}.*resuming .* at 64 images",
            prepare=in_checkpoint(spoil, name),
            untouched=False,
        )
        for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")
        for spoil, text in ((cut, "cut"), (flip, "with a flipped bit"))
    ),
    Fault(
        what="both checkpoints cut",
        arguments=SAMPLE,
        code=2,
        says="no usable checkpoint: restore one.*skipped: .*skipped: ",
        prepare=lambda run: [cut(p) for p in run.glob("checkpoints/*/model.safetensors")] and None,
    ),
    mistake(
        "both checkpoints cut, and resumed",
        RESUME,
        "no checkpoint in .* is intact.*To start over from image 0, .*: mv ",
        prepare=lambda run: [cut(p) for p in run.glob("checkpoints/*/model.safetensors")] and None,
    ),
    mistake(
        "checkpoint of a newer version",
        RESUME,
        "newer pippin: checkpoint format 9.*upgrade",
        prepare=in_checkpoint(lambda p: change(p, '"format": 1', '"format": 9'), "state.json"),
    ),
    *(
        Fault(
            what=f"cache shard {text}",
            arguments=train("--folder", "{run}-new"),
            code=0,
            says=r"latent cache: .*shard-00000.safetensors.*made again",
            prepare=lambda run, spoil=spoil: spoil(shard(run)),
            untouched=False,
        )
        for spoil, text in ((cut, "cut"), (flip, "with a flipped bit"), (Path.unlink, "deleted"))
    ),
    Fault(
        what="manifest of the cache cut",
        arguments=train("--folder", "{run}-new"),
        code=0,
        says=r"latent cache: .*damaged manifest.json",
        prepare=lambda run: cut(shard(run).with_name("manifest.json")),
        untouched=False,
    ),
    Fault(
        what="one digit of the cache's manifest",
        arguments=train("--folder", "{run}-new"),
        code=0,
        says=r"latent cache: .*damaged manifest.json",
        prepare=lambda run: change(
            shard(run).with_name("manifest.json"), '"num_pictures": 6', '"num_pictures": 5'
        ),
        untouched=False,
    ),
    mistake(
        "manifest of the cache of a newer version",
        train("--folder", "{run}-new"),
        "newer pippin: latent cache format 9.*upgrade",
        prepare=lambda run: change(
            shard(run).with_name("manifest.json"), '"format": 1', '"format": 9'
        ),
    ),
    mistake(
        "one digit of config.json of the run",
        SAMPLE,
        "config.json is damaged: its content does not match its checksum",
        prepare=lambda run: change(run / "config.json", '"resolution": 32', '"resolution": 64'),
    ),
    mistake(
        "config.json of the run cut",
        SAMPLE,
        "config.json is not JSON",
        prepare=lambda run: cut(run / "config.json"),
    ),
    mistake(
        "config.json of the run deleted",
        RESUME,
        r"holds checkpoints but no config\.json",
        prepare=lambda run: (run / "config.json").unlink(),
    ),
    mistake(
        "manifest of samples cut",
        SAMPLE,
        "manifest.json is damaged",
        prepare=lambda run: cut(run / "samples" / "manifest.json"),
    ),
    mistake(
        "one digit of the manifest of samples",
        SAMPLE,
        "manifest.json is damaged",
        prepare=lambda run: change(run / "samples" / "manifest.json", '"seed": 1', '"seed": 9'),
    ),
    Fault(
        what="sampled image cut",
        arguments=SAMPLE,
        code=0,
        says="8 images in",
        prepare=lambda run: cut(next((run / "samples").glob("seed-*"))),
        untouched=False,
    ),
    Fault(
        what="results.jsonl with a torn line",
        arguments=["report", "{run}"],
        code=0,
        says="report.html",
        prepare=written("results.jsonl", b'{"name": "KID", "val'),
    ),
    mistake(
        "study.json cut",
        ["report", "{run}/study"],
        "study.json is not JSON",
        prepare=written("study/study.json", b'{"name":'),
    ),
    mistake(
        "autoencoder's weights cut",
        train("--folder", "{run}-new", "--autoencoder.source", "{run}/autoencoder"),
        "damaged",
        prepare=lambda run: broken_autoencoder(run / "autoencoder"),
    ),
]
