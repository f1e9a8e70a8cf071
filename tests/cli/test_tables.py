# SPDX-License-Identifier: Apache-2.0
"""Tables are printed whole, however narrow the terminal."""

import pytest
from rich.table import Column, Table

from pippin.cli.plan_study import HEADS, print_rows
from pippin.cli.tables import print_table


@pytest.mark.parametrize("columns", ["20", "400"])
def test_no_cell_is_cut(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    words = "a long folder name", "0123456789" * 10
    table = Table(Column("name"), Column("fingerprint", no_wrap=True))
    table.add_row(*words)
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if words[0] in line]
    assert words[1] in row and len(set(map(len, lines))) == 1


def test_a_plan_of_a_study_is_whole_in_a_log(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    cells = tuple(f"cell number {index}" for index in range(len(HEADS)))
    print_rows([cells])
    text = capsys.readouterr().out
    assert all(name in text for name in (*HEADS, *cells))
