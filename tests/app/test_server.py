# SPDX-License-Identifier: Apache-2.0
"""Address, port and extra of the playground, without gradio."""

import asyncio
import socket

import pytest

from pippin.app import server
from pippin.app.server import RefusedFiles, free_port, is_loopback, require_gradio
from pippin.cli.main import main
from pippin.config import ConfigError


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False)],
)
def test_loopback_addresses(address, local):
    assert is_loopback(address) is local


def test_an_address_is_no_name():
    with pytest.raises(ConfigError, match=r"--address must be a numeric address.*got 'host'"):
        is_loopback("host")


def test_a_port_in_use_is_refused_and_skipped(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} of 127.0.0.1 cannot be used: "):
            free_port("127.0.0.1", port)
        monkeypatch.setattr(server, "FIRST_PORT", port)
        assert port < free_port("127.0.0.1", None) < port + server.NUM_PORTS
    with pytest.raises(ConfigError, match=r"port 70000 of 127.0.0.1 cannot be used"):
        free_port("127.0.0.1", 70000)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ConfigError, match=r"--address 192\.0\.2\.1 is not an address of this"):
        free_port("192.0.2.1", None)  # reserved for documentation


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("/gradio_api/file=https://example.org/x.png", True),
        ("/gradio_api/file=/etc/hostname", True),
        ("/gradio_api/file/etc/hostname", True),
        ("/gradio_api/proxy=https://example.org", True),
        ("/gradio_api/upload", True),
        ("/gradio_api/process_recording", True),
        ("/", False),
        ("/gradio_api/queue/join", False),
        ("/assets/file-upload.js", False),
    ],
)
def test_routes_of_files_are_refused(path, refused):
    passed, answers = [], []

    async def app(scope, receive, send):
        passed.append(scope["path"])

    async def send(message):
        answers.append(message.get("status"))

    asyncio.run(RefusedFiles(app)({"type": "http", "path": path}, None, send))
    assert (passed, answers) == (([], [403, None]) if refused else ([path], []))


def test_without_the_extra_the_command_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(server, "find_spec", lambda _: None)
    with pytest.raises(
        ConfigError, match=r"pippin play needs the package gradio: pip install .*ui"
    ):
        require_gradio()
    assert main(["play"]) == 2
    assert "pip install" in capsys.readouterr().err


def test_a_port_in_use_is_refused_before_a_run_is_opened(monkeypatch, capsys):
    monkeypatch.setattr(server, "find_spec", lambda _: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["play", "no/such/run", "--port", str(port)]) == 2
    message = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1 cannot be used" in message and "no/such/run" not in message
