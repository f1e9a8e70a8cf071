# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM during each kind of work."""

import signal
from pathlib import Path

from fault import LONGER, Fault, lines_of, train

STOPS = [
    *(
        Fault(
            what=f"{name} while latents are cached",
            arguments=train(
                "--folder",
                "{run}-new",
                "--cache.folder",
                "{run}-other",
                "--cache.shard-size",
                "4",
                "--data.views",
                "40",
            ),
            code=75,
            says="stopped; resume with: pippin",
            signal=number,
            when=lambda run: any(Path(f"{run}-other").glob("*/shard-*")),
        )
        for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"))
    ),
    *(
        Fault(
            what=f"{name} while training",
            arguments=train("--folder", "{run}-new", *LONGER),
            code=75,
            says=r"stopped by signal \d+; checkpoint .*; resume with: pippin train .*--resume",
            signal=number,
            when=lambda run: lines_of(Path(f"{run}-new") / "log.jsonl") > 2,
        )
        for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"))
    ),
    *(
        Fault(
            what=f"{name} while sampling",
            arguments=[
                "sample",
                "{run}",
                "--seeds",
                "0:4000",
                "--steps",
                "50",
                "--batch-size",
                "4",
                "--out",
                "{run}/more",
            ],
            code=75,
            says="stopped; resume with: pippin",
            signal=number,
            when=lambda run: any((run / "more").glob("seed-*")),
        )
        for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"))
    ),
    Fault(
        what="SIGTERM while evaluating",
        arguments=["evaluate", "{run}", "--num-samples", "4000", "--sampling.steps", "50"],
        code=75,
        says="stopped; resume with: pippin",
        signal=signal.SIGTERM,
        when=lambda run: any((run / "evaluation" / "samples").glob("seed-*")),
    ),
    Fault(
        what="SIGTERM while a study runs",
        arguments=["demo", "--folder", "{run}/study"],
        code=75,
        says="stopped; resume with: pippin",
        signal=signal.SIGTERM,
        when=lambda run: any((run / "study").glob("runs/*")),
    ),
    Fault(
        what="SIGTERM while an autoencoder is trained",
        arguments=[
            "autoencoder",
            "train",
            "--out",
            "{run}/autoencoder",
            "--train.device",
            "cpu",
            "--data.resolution",
            "16",
            "--train.log-every",
            "4",
        ],
        code=75,
        says="stopped by signal 15; .*; resume with: pippin autoencoder train .*--resume",
        signal=signal.SIGTERM,
        when=lambda run: lines_of(run / "autoencoder" / "run" / "log.jsonl") > 2,
    ),
]
