# SPDX-License-Identifier: Apache-2.0
"""torch.compile captures losses, blocks and solvers whole, and compiles none for each shape.

Each denoiser once; ``python tests/compiled_graphs.py`` traces all of them under both
conditionings, the blocks of all too, and compares Inductor's blocks with eager ones.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "compiled_graphs.py"
LOSSES = ("dit of classes", "mdtv2 of text", "pixart of text", "mmdit of text", "unet of classes")
BLOCKS = ("dit of text",)
SOLVERS = ("ddim", "heun", "dpm++", "ddpm")


@pytest.fixture(scope="module")
def faults():
    """Fault of each trace, or None. In this process, the checks of signatures would be traced."""
    traces = {"loss": LOSSES, "blocks": BLOCKS, "solver": SOLVERS}
    entries = [f"{trace}:{name}" for trace, names in traces.items() for name in names]
    command = [sys.executable, str(SCRIPT), *entries]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_one_graph_of_equal_numbers(name, faults):
    """Conditions, noise, denoiser and loss."""
    assert faults[f"loss:{name}"] is None


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_compiled_for_the_first_two_shapes_alone(name, faults):
    """The first two of five buckets."""
    assert faults[f"blocks:{name}"] is None


@pytest.mark.parametrize("name", SOLVERS)
def test_a_guided_step_of_a_solver_is_one_graph_of_equal_numbers(name, faults):
    assert faults[f"solver:{name}"] is None
