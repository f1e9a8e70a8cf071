# SPDX-License-Identifier: Apache-2.0
"""Exit of a process; one of several ranks skips the interpreter's cleanup."""

import os
import subprocess
import sys

import pytest

CODE = """
import atexit
from pippin.distributed.ranks import exit_rank
atexit.register(print, "cleared up")
print("done", end=" ")
exit_rank(75)
"""


@pytest.mark.parametrize(("count", "said"), [("1", "done cleared up\n"), ("2", "done ")])
def test_what_was_said_and_the_code_are_kept(count, said):
    environment = os.environ | {"WORLD_SIZE": count}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (75, said)
