# SPDX-License-Identifier: Apache-2.0
"""Digest of the source of a declared metric."""

import sys
from functools import partial
from importlib import import_module

import pytest

from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metric_source import functions_of, source_digest


def label(metric, word="a"):
    return word


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write and import a module, each time anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits within a second

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return import_module(name)

    return write


def test_an_edit_of_the_declaring_module_changes_it(write):
    write("tests_declares", "a = 1")
    first = source_digest("tests_declares", ())
    write("tests_declares", "a = 1  # one")
    second = source_digest("tests_declares", ())
    write("tests_declares", "a = 1")
    assert first == source_digest("tests_declares", ()) != second
    assert len(first) == 16 and int(first, 16) >= 0


def test_an_edit_of_the_module_of_a_function_changes_it(write):
    write("tests_declares", "")
    digests = [
        source_digest("tests_declares", [write("tests_computes", text).values])
        for text in ("def values(x): return x", "def values(x): return -x")
    ]
    assert digests[0] != digests[1] != source_digest("tests_declares", ())


def test_functions_without_source_are_never_the_same():
    space = {"__name__": "tests_no_file"}
    exec("def values(x): return x", space)
    digests = {source_digest("tests_no_file", [space["values"]]) for _ in range(3)}
    assert len(digests) == 3


def test_functions_of_a_declaration_are_unwrapped_and_those_of_pippin_left_out():
    inner = MetricKind(name="inner", description="", better="lower")
    kind = MetricKind(
        name="x",
        description="words",
        label=partial(partial(label, word="b")),
        better="lower",
        official=inner,
    )
    assert functions_of(kind) == (label,)
