# SPDX-License-Identifier: Apache-2.0
"""Contents of wheel and source distribution, and the wheel in a bare environment."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from bare_environment import link_requirements

import pippin

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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
def sdist(tmp_path_factory):
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the source distribution, as ``python -m build`` does."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build("wheel", source, folder)


def build(kind, source, folder):
    succeeded([sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder], cwd=source)
    (result,) = folder.glob({"wheel": "pippin-*.whl", "sdist": "pippin-*.tar.gz"}[kind])
    return result


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """Environment variables of ``python -S`` with the wheel and its requirements alone."""
    folder = tmp_path_factory.mktemp("bare")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    succeeded([*pip, "--no-compile", "--target", folder / "wheel", wheel])
    names = link_requirements(PROJECT["dependencies"], folder / "requirements")
    assert "torch" in names and not names & {"pippin", "pytest", "transformers", "submitit"}
    path = os.pathsep.join(map(str, [folder / "wheel", folder / "requirements"]))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HOME": str(folder)}


SAMPLED = [
    *("sample", "pippin/openmoji-mmdit-disentangled", "--labels", "flags", "--seeds", "0:2"),
    *("--solver", "dpm++", "--steps", "2"),
]


def run_bare(bare, *words, cwd):
    script = Path(bare["PYTHONPATH"].split(os.pathsep)[0], "bin", "pippin")
    return succeeded([sys.executable, "-S", script, *words], cwd=cwd, env=bare)


def test_the_bare_wheel_helps_trains_and_samples_a_shipped_model(bare, tmp_path):
    """Runs from a separate folder, so that the sources are not on the path; two commands in one
    process, since the import of torch takes longer than either."""
    program = "import pippin; print(pippin.__file__)"
    shown = succeeded([sys.executable, "-S", "-c", program], cwd=tmp_path, env=bare)
    assert Path(shown.strip()).is_relative_to(bare["PYTHONPATH"].split(os.pathsep)[0])
    assert "train a recipe" in run_bare(bare, "--help", cwd=tmp_path)
    assert run_bare(bare, "--version", cwd=tmp_path).strip() == f"pippin {pippin.__version__}"
    program = f"from pippin.cli.main import main; print([*map(main, {[ONE_STEP, SAMPLED]})])"
    ended = succeeded([sys.executable, "-S", "-c", program], cwd=tmp_path, env=bare)
    assert ended.splitlines()[-1] == "[0, 0]"
    assert (tmp_path / "run" / "checkpoints" / "4" / "state.json").is_file()
    assert len([*tmp_path.rglob("seed-*.png")]) == 2


def test_the_source_distribution_builds_and_tests(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "mkdocs.yml"),
        *("src/pippin/cli/main.py", "tests/test_package.py", "examples/own_study.py"),
        *("Dockerfile", ".dockerignore", "CONTRIBUTING.md"),
    ):
        assert name in names, name
    outside = (".git/", "runs/", "caches/", "dist/", ".venv/")
    assert not [name for name in names if name.startswith(outside) or "__pycache__" in name]


def test_the_metadata_is_complete(wheel):
    """The fields that an index shows, and those that ``twine check --strict`` reads."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        metadata = message_from_string(archive.read(name).decode("utf-8"))
    assert metadata["Name"] == PROJECT["name"] and metadata["Version"] == pippin.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    assert "# pippin" in metadata.get_payload() and len(metadata.get_payload()) > 1000
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert {*metadata.get_all("Provides-Extra")} == {*PROJECT["optional-dependencies"]}


def test_every_imported_package_is_declared():
    """Not only as a dependency of a dependency, which may drop it."""
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
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
