# SPDX-License-Identifier: Apache-2.0
"""A pipe that is closed early, as by ``head``: no message, and the exit code of other programs."""

import os
import subprocess
import sys

import pytest
from forked_python import TIMEOUT, ForkedPython

from pippin.cli import main
from pippin.cli.failures import is_closed_output

HELP = "train openmoji/mmdit-disentangled --help"  # of tyro
TABLE = "plan openmoji/mmdit-disentangled"  # of rich


@pytest.fixture
def unread():
    """A pipe for output, closed before the first line."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as output:
        yield output


@pytest.mark.parametrize("arguments", ["--help", "study list", HELP])
def test_output_that_nobody_reads_is_silent(arguments, unread):
    command = [sys.executable, "-m", "pippin", *arguments.split()]
    ended = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_table_that_nobody_reads_is_silent(unread, tmp_path):
    """In a fork, for the table needs torch."""
    command = [sys.executable, "-m", "pippin", *TABLE.split()]
    with (tmp_path / "errors").open("w") as errors:
        process = ForkedPython(command, env=os.environ, stdout=unread, stderr=errors)
        try:
            code = process.wait(TIMEOUT)
        finally:
            process.kill()
    assert (code, (tmp_path / "errors").read_text()) == (141, "")


def test_other_broken_pipes_are_not_hidden(monkeypatch, capsys):
    """Such as one to a worker process, while the output is read."""

    def fail(arguments):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("pippin.cli.report.main", fail)
    assert main.main(["report", "x"]) == 2
    assert "error: Broken pipe" in capsys.readouterr().err
    assert not is_closed_output(SystemExit(1))
