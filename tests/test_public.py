# SPDX-License-Identifier: Apache-2.0
"""Public names of the package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pippin


def declared():
    """Name -> module, as type checkers see them."""
    tree = ast.parse(Path(pippin.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {alias.name: node.module for node in block.body for alias in node.names}


@pytest.mark.parametrize("name", pippin.__all__)
def test_every_name_is_what_type_checkers_see(name):
    result = getattr(pippin, name)
    assert result.__module__ == declared()[name] and result.__qualname__ == name
    assert result.__doc__


def test_all_names_are_listed_for_help_and_completion():
    assert pippin.__all__ == sorted(declared())
    assert {*pippin.__all__, "__version__"} <= set(dir(pippin))


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'pippin' has no attribute 'trian'"):
        _ = pippin.trian
    with pytest.raises(ImportError):
        exec("from pippin import trian")


def test_nothing_is_imported_before_its_first_use():
    code = (
        "import sys, pippin, pippin.cli.main\n"
        "assert not {'torch', 'cattrs', 'tyro', 'pippin.config'} & set(sys.modules)\n"
        "pippin.get_recipe\n"
        "assert 'pippin.config' in sys.modules and 'torch' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
