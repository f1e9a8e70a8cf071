# SPDX-License-Identifier: Apache-2.0
"""Folders of Spaces."""

import runpy
import sys

import pytest
import yaml

from pippin.cli.main import main
from pippin.publish.space import space_requirements


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    out = tmp_path_factory.mktemp("spaces") / "apples"
    assert main(["export", "pippin/openmoji-mmdit-entangled", str(out), "--to", "space"]) == 0
    return out


def test_a_space_says_how_it_starts(space):
    _, header, text = (space / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    values = yaml.safe_load(header)
    assert values["title"] == "apples" and values["sdk"] == "gradio"
    assert (space / values["app_file"]).is_file() and len(values["short_description"]) <= 60
    assert "sha256 of the trained weights" in text and "license" in values


def test_a_space_holds_a_copy_of_the_code_without_shipped_models(space):
    assert (space / "pippin/app/page.css").is_file() and (space / "pippin/__main__.py").is_file()
    assert not (space / "pippin/models").exists() and not list(space.rglob("__pycache__"))
    assert (space / "model/model.safetensors").is_file()
    lines = (space / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("torch>=") for line in lines)
    assert any(line.startswith("gradio>=") for line in lines)
    assert not any("pippin" in line or "transformers" in line for line in lines)


def test_the_program_opens_the_playground_on_all_addresses(space, monkeypatch):
    started = []
    monkeypatch.setattr(runpy, "run_module", lambda name, run_name: started.append([*sys.argv]))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["app.py"])
    runpy.run_path(str(space / "app.py"), run_name="__main__")
    address = ["--address", "0.0.0.0", "--port", "7860"]
    assert started == [["pippin", "play", str(space / "model"), *address]]
    assert sys.path[0] == str(space)


def test_text_models_need_the_packages_of_text():
    assert any(line.startswith("transformers") for line in space_requirements(("text",)))
    assert not any("extra" in line for line in space_requirements(()))
