# SPDX-License-Identifier: Apache-2.0
"""Offline mode: its switches, their inheritance, and the flag of every verb."""

import os
import subprocess
import sys

import pytest

import pippin.cli.show
from pippin.cli.main import main
from pippin.system.offline import (
    HUB_SWITCHES,
    LIBRARY_SWITCHES,
    SWITCH,
    active_switch,
    is_offline,
    offline_mode,
    offline_reason,
    online_advice,
)


@pytest.fixture(autouse=True)
def no_switches(monkeypatch):
    for name in (SWITCH, *LIBRARY_SWITCHES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        ({SWITCH: "1"}, SWITCH),
        ({SWITCH: "True"}, SWITCH),
        ({SWITCH: "0"}, None),
        ({SWITCH: ""}, None),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        ({"HF_HUB_OFFLINE": "0"}, None),
        ({SWITCH: "0", "HF_HUB_OFFLINE": "ON"}, "HF_HUB_OFFLINE"),
        ({"TRANSFORMERS_OFFLINE": "yes"}, "TRANSFORMERS_OFFLINE"),
        ({"HF_DATASETS_OFFLINE": "1"}, None),
    ],
)
def test_the_switch_that_is_on(environment, name):
    assert active_switch(environment) == name


def test_an_unknown_value_is_refused(monkeypatch, capsys):
    monkeypatch.setenv(SWITCH, "maybe")
    assert main(["show", "x"]) == 2
    message = capsys.readouterr().err
    for part in ("neither on nor off", "'maybe'", "1 or 0", "export PIPPIN_OFFLINE=1"):
        assert part in message


@pytest.mark.parametrize("name", [None, SWITCH])
def test_the_flag_and_the_variable_turn_off_every_library(monkeypatch, name):
    """Inside a verb and in the processes that it starts; the environment is restored."""
    if name is not None:
        monkeypatch.setenv(name, "1")
    before = dict(os.environ)
    environments, arguments = [], []
    script = f"import os; print([os.environ.get(name) for name in {LIBRARY_SWITCHES}])"

    def show(argv):
        arguments.append(argv)
        environments.append([os.environ.get(switch) for switch in LIBRARY_SWITCHES])
        worker = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        environments.append(eval(worker.stdout))
        return 0

    monkeypatch.setattr(pippin.cli.show, "main", show)
    assert main(["show", "x", *(["--offline"] if name is None else []), "--json"]) == 0
    assert arguments == [["x", "--json"]]
    assert environments == [["1"] * 3] * 2
    assert dict(os.environ) == before


def test_downloads_are_allowed_by_default(monkeypatch):
    monkeypatch.setattr(pippin.cli.show, "main", lambda argv: int(is_offline()))
    assert main(["show", "x"]) == 0


def test_the_libraries_read_the_switches():
    """In a fresh process, where a verb imports them."""
    pytest.importorskip("datasets")
    script = (
        "import sys, pippin.cli.show as show\n"
        "def read(argv):\n"
        "    import huggingface_hub.constants, datasets.config\n"
        "    print(huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)\n"
        "    return 0\n"
        "show.main = read\n"
        "from pippin.cli.main import main\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        "main(['show', 'x', '--offline'])\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.split() == ["True", "True"], result.stderr


@pytest.mark.parametrize("name", [SWITCH, *HUB_SWITCHES])
def test_messages_name_the_users_own_switch(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with offline_mode(False):
        assert is_offline()
        assert f"{name}=1" in offline_reason()
        assert online_advice().endswith(f"unset {name}")
