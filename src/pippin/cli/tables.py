# SPDX-License-Identifier: Apache-2.0
"""Tables in a terminal, a pipe or a log."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def print_table(table: Table) -> None:
    """Print a table with no cell cut off: where the terminal is narrower, lines wrap."""
    console = Console()
    natural = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    Console(width=max(console.width, natural)).print(table)
