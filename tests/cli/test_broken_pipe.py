# SPDX-License-Identifier: Apache-2.0
"""A pipe that is closed early, as by ``head``: no message, and the exit code of other programs."""

import os
import subprocess
import sys

import pytest

from pippin.cli import main
from pippin.cli.failures import is_closed_output

HELP = "train openmoji/mmdit-disentangled --help"  # of tyro
TABLE = "plan openmoji/mmdit-disentangled"  # of rich


@pytest.mark.parametrize("arguments", ["--help", "study list", HELP, TABLE])
def test_output_that_nobody_reads_is_silent(arguments):
    read, write = os.pipe()
    os.close(read)  # before the first line
    command = [sys.executable, "-m", "pippin", *arguments.split()]
    try:
        ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_other_broken_pipes_are_not_hidden(monkeypatch, capsys):
    """Such as one to a worker process, while the output is read."""

    def fail(arguments):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("pippin.cli.report.main", fail)
    assert main.main(["report", "x"]) == 2
    assert "error: Broken pipe" in capsys.readouterr().err
    assert not is_closed_output(SystemExit(1))
