# SPDX-License-Identifier: Apache-2.0
"""Benchmark a custom conditioner: control as an additional attention token.

    python examples/controlbench.py controlbench/tokens          # minutes on two cores
    python examples/controlbench.py controlbench/tokens --scale cpu

The same command resumes after a stop. The report includes the paper's two conditionings.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from pippin.conditioning.conditioner import Conditioner, Prepared
from pippin.nn.initialise import Linear
from pippin.reports.report import render_report
from pippin.studies.execution import execute
from pippin.studies.runner import run_study
from pippin.studies.shipped.controlbench import controlbench_study
from pippin.types import Conditions, Keep


class ControlToken(Conditioner):
    """Control as a token next to those of the class, without modulation."""

    def __init__(self, config, *, token_width, modulation_width, **sizes):
        super().__init__(
            config, token_width=token_width, modulation_width=modulation_width, **sizes
        )
        self.control_token = Linear(modulation_width, token_width)
        self.num_tokens += 1

    def prepare(self, conditions: Conditions, keep: Keep) -> Prepared:
        prepared = super().prepare(conditions, keep)
        vector = torch.stack([group for _, group in prepared.control]).sum(0)  # (B, D)
        token = self.control_token(vector)[:, None]  # (B, 1, token width)
        return replace(prepared, tokens=torch.cat([prepared.tokens, token], 1), control=())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", choices=("demo", "cpu", "gpu-hour"), default="demo")
    parser.add_argument("--correlation", type=float, default=1.0)
    args = parser.parse_args()
    study = controlbench_study(
        {"control-token": ControlToken}, scale=args.scale, correlation=args.correlation
    )
    run_study(study, args.folder, execute, print)
    print(f"report: {render_report(args.folder)}")


if __name__ == "__main__":
    main()
