# SPDX-License-Identifier: Apache-2.0
"""Variables of the Makefile: the demo's budget, and the index that torch comes from."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments):
    """Output of make, without the variables of a make that runs the tests."""
    command = ["make", "--no-print-directory", *arguments]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "PIP_CONFIG_FILE": "/dev/null"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout


def dry(target, tmp_path, *variables):
    """Commands that make would run for a target from the start."""
    return make("-n", target, f"VENV={tmp_path}/venv", *variables)


@pytest.mark.parametrize(("given", "budget"), [((), "quick"), (("BUDGET=full",), "full")])
def test_the_demo_passes_its_budget_on(tmp_path, given, budget):
    assert dry("demo", tmp_path, *given).endswith(f"pippin demo --budget {budget}\n")


@pytest.mark.parametrize("target", ["demo", "test"])
def test_only_torch_comes_from_the_given_index(tmp_path, target):
    lines = dry(target, tmp_path, "TORCH_INDEX=https://an.index/cpu").splitlines()
    (indexed,) = [line for line in lines if "--index-url" in line]
    assert indexed.endswith(
        "pip install --quiet --index-url https://an.index/cpu torch torchvision"
    )
    installs = [line for line in lines if "pip install" in line]
    assert installs[0] == indexed  # before pippin, whose requirements it then meets
    assert "--index-url" not in dry(target, tmp_path)


def write_wheel(folder, name):
    """A wheel of an empty package on a simple index of local files."""
    place = folder / name
    place.mkdir(parents=True)
    info = f"{name}-99.0+cpu.dist-info"
    wheel = place / f"{name}-99.0+cpu-py3-none-any.whl"
    files = {
        f"{name}/__init__.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0+cpu\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (place / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')


def test_torch_is_installed_from_a_local_index(tmp_path):
    for name in ("torch", "torchvision"):
        write_wheel(tmp_path / "index", name)
    venv = tmp_path / "venv"
    index = (tmp_path / "index").as_uri()
    make(f"{venv}/.torch", f"VENV={venv}", f"TORCH_INDEX={index}", f"PYTHON={sys.executable}")
    (packages,) = venv.glob("lib/python*/site-packages")
    assert {"torch", "torchvision"} <= {path.name for path in packages.iterdir()}
    assert (venv / ".torch").is_file()
