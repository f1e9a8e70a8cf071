# SPDX-License-Identifier: Apache-2.0
"""Sessions of the small run, and ``pippin play`` as a process."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from pippin.app.play_model import open_model
from pippin.app.session import PlaySession


@pytest.fixture(scope="module")
def model(finished_run):
    return open_model(str(finished_run))


@pytest.fixture(scope="module")
def session(model):
    return PlaySession([model])


@pytest.fixture(scope="module")
def pair(model):
    """Two equal models side by side."""
    return PlaySession([model, model])


@pytest.fixture
def form(session):
    """Values of the page: four images of a class in two steps."""
    return {
        "prompt": session.class_names[1],
        "first_seed": 3,
        "count": 5,
        "solver": "dpm++",
        "steps": 2,
        "semantic_scale": 1.5,
        "control_scale": 1.0,
        "crop_size": 0.8,
        "crop_top": 1.0,
        "original_size": 64,
    }


PROGRAM = """
import signal, socket, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
connect, lookup = socket.socket.connect, socket.getaddrinfo
def recorded_connect(own, address):
    print("reached:", address[0] if isinstance(address, tuple) else "local", file=sys.stderr)
    return connect(own, address)
def recorded_lookup(host, *rest, **named):
    print("reached:", host, file=sys.stderr)
    return lookup(host, *rest, **named)
socket.socket.connect, socket.getaddrinfo = recorded_connect, recorded_lookup
from pippin.cli.main import main
sys.exit(main(["play", *sys.argv[1:]]))
"""
"""Runs ``pippin play`` and writes every host that it reaches or looks up to standard error."""


@contextmanager
def running_page(folder, *arguments):
    """URL of a page in a process of its own; Ctrl-C ends it with exit code 0."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    log = folder / "log.txt"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
        try:
            line = process.stdout.readline()
            url = re.search(r"http://\S+/", line)
            assert url, line + log.read_text()
            yield url[0]
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=120)
            process.stdout.close()
    assert code == 0, log.read_text()


@pytest.fixture(scope="module")
def pair_page(finished_run, tmp_path_factory):
    """(URL, log) of a page with the small run twice."""
    folder = tmp_path_factory.mktemp("pair")
    with running_page(folder, finished_run, finished_run) as url:
        yield url, folder / "log.txt"


@pytest.fixture(scope="module")
def text_page(tmp_path_factory):
    """URL of a page with the shipped text model."""
    with running_page(tmp_path_factory.mktemp("text")) as url:
        yield url
