# SPDX-License-Identifier: Apache-2.0
"""Mistakes at the command line: one clear message, the documented exit code, no traceback.

``scripts/faults`` provokes many more, on a trained run; these are the quick ones of its table.
"""

import errno
import importlib
import re
import runpy
import signal
import sys
from pathlib import Path

import pytest
from forked_python import run_code

from pippin.cli import failures, main
from pippin.cli.failures import explain
from pippin.system.workers.processes import WorkerKilledError

FAULTS = Path(__file__).parents[2] / "scripts" / "faults"


@pytest.fixture(scope="module", autouse=True)
def _table_on_the_path():
    sys.path.insert(0, str(FAULTS))
    yield
    sys.path.remove(str(FAULTS))


def quick_mistakes():
    sys.path.insert(0, str(FAULTS))
    try:
        return [
            fault
            for fault in runpy.run_path(str(FAULTS / "of_input.py"))["MISTAKES"]
            if fault.quick
        ]
    finally:
        sys.path.remove(str(FAULTS))


FRESH = "impossible number"
"""Fault that a Python of its own meets, which has to import what the command needs."""
COMMAND = "import sys; from pippin.cli.main import main; sys.exit(main(sys.argv[1:]))"


TIMEOUT = 300.0
"""Seconds after which a command is killed, as in ``scripts/faults``."""


def call_in_fork(arguments, run, limit, fault):
    """Exit code and messages of a command in a fork, in place of a Python that imports torch."""
    assert limit is None and fault.signal is None
    words = (text.replace("{run}", str(run)) for text in arguments)
    done = run_code(COMMAND, run, *words, timeout=TIMEOUT)
    return done.returncode, " ".join(done.stdout.split())


@pytest.mark.parametrize("fault", quick_mistakes(), ids=lambda fault: fault.what)
def test_a_mistake_is_one_message(fault, tmp_path, monkeypatch):
    import reaction

    if fault.what != FRESH:
        monkeypatch.setattr(reaction, "_call", call_in_fork)
    monkeypatch.setenv("COLUMNS", "400")
    reacted = reaction.provoke_fault(fault, tmp_path)
    assert not reacted.faults, reacted.text
    assert reacted.code == 2


def test_one_mistake_is_met_by_a_python_of_its_own():
    assert FRESH in [fault.what for fault in quick_mistakes()]


def test_every_fault_has_its_row_and_an_exit_code_of_the_documentation():
    documented = (FAULTS.parents[1] / "docs" / "reference" / "faults.md").read_text()
    groups = runpy.run_path(str(FAULTS / "__main__.py"), run_name="faults")["GROUPS"]
    assert set(groups) == {"mistakes", "damage", "full disk", "stops", "two at once"}
    for fault in (fault for group in groups.values() for fault in group):
        assert f"| {fault.code} |" in documented, fault.what


class OutOfMemoryError(RuntimeError):
    """Same name as torch's error."""


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried"), 1, "--train.batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), 1, "--train.batch-size"),
        (RuntimeError("[enforce fail] not enough memory: you"), 1, "--train.batch-size"),
        (MemoryError(), 1, "MemoryError"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            1,
            r"signal Killed: out of memory\? fewer train.workers.*resume with: pippin train",
        ),
        (
            WorkerKilledError("a worker process was killed"),
            1,
            "was killed; resume with: pippin train --resume auto",
        ),
        (FloatingPointError("non-finite latents for seeds [3]"), 1, r"seeds \[3\]"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            1,
            "a/b: No space.*free some space",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, "a/b: Permission denied"),
        (FileExistsError(errno.EEXIST, "File exists", "a"), 2, "a folder is needed"),
        (ValueError("steps must be"), 2, "steps must be"),
    ],
)
def test_failures_name_what_helps(error, code, says):
    failure = explain(error, "train")
    assert failure.code == code
    assert re.search(says, failure.message)


def test_a_damaged_safetensors_file_is_a_message(tmp_path):
    from safetensors import SafetensorError, safe_open

    (tmp_path / "x").write_bytes(b"damaged file")
    with pytest.raises(SafetensorError) as raised:
        safe_open(tmp_path / "x", framework="pt").__enter__()
    assert "is damaged" in explain(raised.value, "sample").message


def test_real_torch_errors_of_memory_are_known():
    import torch

    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50, dtype=torch.uint8)
    assert explain(raised.value, "sample").code == failures.FAILED


def test_a_bug_keeps_its_traceback():
    assert explain(RuntimeError("shapes do not match"), "train") is None
    assert explain(KeyError("x"), "train") is None


@pytest.fixture
def python_sigint():
    """Python's default handler, also if a shell started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_sigint")
@pytest.mark.parametrize(
    ("verb", "number", "effect"),
    [
        ("sample", signal.SIGINT, "resume"),
        ("report", signal.SIGTERM, "start over"),
        ("data check", signal.SIGINT, "start over"),
        ("data prepare", signal.SIGTERM, "resume"),
    ],
)
def test_a_signal_outside_of_training_exits_with_75(monkeypatch, capsys, verb, number, effect):
    module = importlib.import_module(f"pippin.cli.{verb.split()[0]}")
    monkeypatch.setattr(module, "main", lambda arguments: signal.raise_signal(number))
    before = signal.getsignal(signal.SIGTERM)
    assert main.main([*verb.split(), "a b"]) == 75
    assert f"stopped; {effect} with: pippin {verb} 'a b'\n" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before
