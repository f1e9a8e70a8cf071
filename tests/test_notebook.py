# SPDX-License-Identifier: Apache-2.0
"""The notebook of examples/: equal to its source, and executed at toy size."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from forked_python import run_code

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "examples" / "first_comparison.py"
TOY = """
from pathlib import Path

IMAGES = 16
BATCH_SIZE = 8
SOURCE_IMAGES = 32
SAMPLES = 8
STEPS = 2
DEVICE = "cpu"
FOLDER = Path("study")
"""
RUNNER = """
import ast, asyncio, json, sys

def run(code, names):
    "The value that a notebook shows for a cell."
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last else None

async def run_all(cells):
    "Cells run inside the event loop of the kernel."
    names, shown = {"__name__": "__main__"}, []
    for code in cells:
        value = run(code, names)
        html = getattr(value, "_repr_html_", None)
        shown.append([type(value).__name__, html() if html else repr(value)])
    return shown

cells = json.load(open("cells.json"))
json.dump(asyncio.run(run_all(cells)), open("shown.json", "w"))
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "scripts" / "notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cells(script):
    return script.read_cells(SOURCE.read_text(encoding="utf-8"))


def test_each_notebook_equals_its_source(script):
    for name in script.NAMES:
        path = ROOT / "examples" / f"{name}.ipynb"
        kept = path.read_text(encoding="utf-8")
        text = script.notebook_text(path.with_suffix(".py").read_text(encoding="utf-8"), kept)
        assert kept == text, "python scripts/notebook.py renews it"
    assert {f"{name}.ipynb" for name in script.NAMES} == {
        path.name for path in (ROOT / "examples").glob("*.ipynb")
    }


def test_the_file_is_a_notebook_below_a_megabyte():
    path = SOURCE.with_suffix(".ipynb")
    values = json.loads(path.read_text(encoding="utf-8"))
    assert (values["nbformat"], values["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in values["cells"]]
    assert len({*ids}) == len(ids)
    for cell in values["cells"]:
        assert cell["cell_type"] in ("code", "markdown") and cell["source"]
        assert ("outputs" in cell) == (cell["cell_type"] == "code")
    assert path.stat().st_size < 1_000_000


def test_the_kept_outputs_show_the_shipped_model():
    """Without an error or a path of the machine that ran it."""
    values = json.loads(SOURCE.with_suffix(".ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in values["cells"] for output in cell.get("outputs", ())]
    assert {output["output_type"] for output in outputs} <= {"execute_result", "stream"}
    shown = ["".join(o["data"].get("text/html", "")) for o in outputs if "data" in o]
    assert "openmoji/mmdit-disentangled" in shown[0]
    assert [html.count("<img") for html in shown[1:3]] == [4, 9]
    assert "finished" in shown[3] and "KID-efflite0" in shown[4]
    assert shown[5].count("<svg") == 1 and shown[6].count("<img") == 8
    texts = ["".join(o.get("text", o.get("data", {}).get("text/plain", ""))) for o in outputs]
    assert not [text for text in texts if re.search(r"(^|[\s'\"(])/\w", text)]


def test_outputs_are_kept_while_the_cells_are_those_of_the_source(script):
    source = "# %%\nx = 1\n# %% [markdown]\n# a"
    fresh = json.loads(script.notebook_text(source))
    fresh["cells"][0] |= {
        "execution_count": 1,
        "metadata": {"execution": {"iopub.status.busy": "2026-01-01"}},
        "outputs": [
            {"output_type": "stream", "name": "stderr", "text": ["a warning"]},
            {"output_type": "stream", "name": "stdout", "text": ["1"]},
        ],
    }
    fresh["metadata"]["language_info"]["version"] = "3.11"
    kept = json.loads(script.notebook_text(source, json.dumps(fresh)))
    assert kept["cells"][0]["outputs"] == fresh["cells"][0]["outputs"][1:]
    assert kept["cells"][0]["metadata"] == {} and kept["metadata"] == script.METADATA
    changed = json.loads(script.notebook_text(f"{source} b", json.dumps(fresh)))
    assert changed["cells"][0]["outputs"] == [] and changed["cells"][0]["execution_count"] is None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("# %% [raw]\nx", "is no marker"),
        ("# %% [markdown]\nx = 1", "must begin with '# '; got 'x = 1'"),
    ],
)
def test_a_source_of_another_form_is_refused(script, source, said):
    with pytest.raises(ValueError, match=said):
        script.read_cells(source)


def test_cells_are_read_with_tags_and_empty_lines(script):
    source = (
        '# licence\n# %% [markdown]\n# # A\n#\n# b\n\n# %% tags=["parameters"]\n\nx = 1\n\n\ny\n\n'
    )
    assert script.read_cells(source) == [
        script.Cell(kind="markdown", text="# A\n\nb"),
        script.Cell(kind="code", text="x = 1\n\n\ny", tags=("parameters",)),
    ]


def test_all_cells_run_at_toy_size(cells, tmp_path):
    (place,) = [n for n, cell in enumerate(cells) if "parameters" in cell.tags]
    codes = [TOY if n == place else c.text for n, c in enumerate(cells) if c.kind == "code"]
    names = {line.split(" = ")[0] for line in cells[place].text.splitlines()}
    assert names == {line.split(" = ")[0] for line in TOY.splitlines() if " = " in line}
    (tmp_path / "cells.json").write_text(json.dumps(codes))
    done = run_code(RUNNER, tmp_path)
    assert done.returncode == 0, done.stdout
    shown = json.loads((tmp_path / "shown.json").read_text())
    kinds = [kind for kind, _ in shown if kind != "NoneType"]
    assert kinds == [
        *("LoadedRun", "ImageDisplay", "ImageDisplay"),
        *("Summary", "DisplayedSource", "Figure", "ImageDisplay", "PosixPath"),
    ]
    html = dict(zip(kinds, [text for kind, text in shown if kind != "NoneType"], strict=True))
    assert "finished" in html["Summary"] and "failed" not in html["Summary"]
    assert "KID-efflite0" in html["DisplayedSource"] and html["ImageDisplay"].count("<img") == 8
    assert (tmp_path / "study" / "report.html").is_file()
