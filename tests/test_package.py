# SPDX-License-Identifier: Apache-2.0
"""Content of the wheel."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ONE_STEP = [
    *("train", "openmoji/mmdit-disentangled", "--train.images", "4", "--train.batch-size", "4"),
    *("--data.resolution", "16", "--data.views", "1", "--data.max-pictures", "8"),
    *("--denoiser.depth", "1", "--denoiser.width", "16", "--train.device", "cpu"),
    *("--folder", "run"),
]


def succeeded(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    succeeded(command, cwd=ROOT)
    (result,) = folder.glob("pippin-*.whl")
    return result


def test_the_installed_wheel_helps_and_trains(wheel, tmp_path):
    """Runs from a separate folder, so that the sources are not on the path."""
    place = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    succeeded([*pip, "--target", str(place), str(wheel)])
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(place)}}
    shown = succeeded([sys.executable, "-c", "import pippin; print(pippin.__file__)"], **options)
    assert Path(shown.strip()).is_relative_to(place)
    script = [sys.executable, str(place / "bin" / "pippin")]
    assert "train a recipe" in succeeded([*script, "--help"], **options)
    succeeded([*script, *ONE_STEP], **options)
    assert (tmp_path / "run" / "checkpoints" / "4" / "state.json").is_file()


def test_every_imported_package_is_declared():
    """Not only as a dependency of a dependency, which may drop it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {_normal(re.match(r"[\w.-]+", name)[0]) for names in lists for name in names}
    distributions = packages_distributions()
    distributions = {"mlflow": ["mlflow-skinny"], **distributions}  # which may not be installed
    for name in sorted(_imported() - {"pippin", "__future__", *sys.stdlib_module_names}):
        names = {_normal(one) for one in distributions.get(name, [name])}
        assert names & declared, f"{name} of {', '.join(names)}"


def _imported():
    """First parts of all imported modules of the package, inside functions too."""
    names = set()
    for path in (ROOT / "src" / "pippin").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
    return names


def _normal(name):
    """Name of a distribution as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_wheel_carries_weights_tables_and_templates(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for name in (
        "pippin/encoders/weights/openmoji-f4/diffusion_pytorch_model.safetensors",
        "pippin/encoders/weights/openmoji-f4/config.json",
        "pippin/data/tables/openmoji.csv",
        "pippin/data/tables/NOTICE.md",
        "pippin/reports/templates/report.html.jinja",
        "pippin/reports/templates/report.css",
        "pippin/cli/main.py",
        "pippin/py.typed",
        "pippin/models/openmoji-mmdit-entangled/model.safetensors",
        "pippin/models/openmoji-mmdit-disentangled/README.md",
    ):
        assert name in names, name
    assert not [name for name in names if name.startswith(("tests", "scripts"))]
    assert wheel.stat().st_size < 20_000_000
