# SPDX-License-Identifier: Apache-2.0
"""Programs of examples/ as modules."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from pippin.cli.imports import take_imports
from pippin.recipes.table import RECIPES


def load_example(name: str) -> ModuleType:
    """Import ``examples/NAME.py``."""
    path = Path(__file__).parents[1] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_example", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def imported_examples(words: Sequence[str]) -> Iterator[list[str]]:
    """The words without ``--import NAME``; inside, RECIPES has the recipes of ``examples/NAME.py``
    too."""
    before = {*RECIPES}
    modules, others = take_imports(words)
    for name in modules:
        load_example(name)
    try:
        yield others
    finally:
        for name in {*RECIPES} - before:
            del RECIPES[name]
