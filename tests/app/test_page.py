# SPDX-License-Identifier: Apache-2.0
"""The page over HTTP: drawing, errors, hosts, and no connection to another machine.

Needs the extra ``ui``, which the development environment leaves out: ``pip install '.[ui]'``.
"""

import importlib.util
import json
import re
import urllib.error
import urllib.request

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is missing: pip install '.[ui]'"
)


@pytest.fixture(scope="module")
def page(pair_page):
    return pair_page[0]


def fetch(page, path, data=None, **headers):
    request = urllib.request.Request(f"{page}{path}", data, headers)
    with urllib.request.urlopen(request, timeout=300) as answer:
        return answer.read().decode()


def inputs_of(page, name):
    """Labels and default values of an event's inputs."""
    config = json.loads(fetch(page, "config"))
    parts = {part["id"]: part["props"] for part in config["components"]}
    (event,) = (one for one in config["dependencies"] if one["api_name"] == name)
    return {parts[i].get("label"): parts[i].get("value") for i in event["inputs"]}


def call(page, name, **changes):
    """Outputs (status, gallery, command, program) of each update."""
    values = inputs_of(page, name)
    assert set(changes) <= set(values)
    body = json.dumps({"data": list((values | changes).values())}).encode()
    headers = {"Content-Type": "application/json"}
    started = json.loads(fetch(page, f"gradio_api/call/{name}", body, **headers))
    stream = fetch(page, f"gradio_api/call/{name}/{started['event_id']}")
    events = re.findall(r"^event: (\w+)\ndata: (.*)$", stream, re.M)
    assert events[-1][0] == "complete", stream
    return [json.loads(data) for kind, data in events if kind == "generating"]


SMALL = {"images": 5, "steps": 2, "original size": 64, "class": "flags"}


def test_images_appear_batch_by_batch(page):
    outputs = call(page, "images", **SMALL)
    counts = [gallery.count("<img ") for _, gallery, *_ in outputs]
    assert counts[:5] == [0, 4, 8, 9, 10]  # two models, five images each
    assert "--labels flags --seeds 0:5" in outputs[0][2] and "draw(run" in outputs[0][3]


def test_sweep_and_grid_have_their_commands(page):
    outputs = call(page, "sweep", **SMALL | {"control": "flip"})
    assert outputs[-1][1].count("<img ") == 4
    outputs = call(page, "grid", **SMALL | {"lambda": "1, 2", "beta": "1"})
    assert outputs[-1][1].count("<img ") == 4 and "lambda 2" in outputs[-1][1]
    assert outputs[-1][2].count("pippin sample") == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class": "<img src=x onerror=alert(1)>"}, "&lt;img src=x"),
        ({"class": "x" * 100_000}, "100,000 characters"),
        ({"class": None}, "no class"),
        ({"steps": float("nan")}, "steps must be a whole number"),
        ({"first seed": "NaN"}, "first seed must be a whole number"),
        ({"original size": 10**6}, "original size must be a whole number from 24 to 256"),
    ],
)
def test_errors_are_words(page, changes, words):
    ((status, *_),) = call(page, "images", **SMALL | changes)
    assert "play-problem" in status and words in status and "<img" not in status


def test_no_file_of_the_page_comes_from_another_host(page):
    index = fetch(page, "")
    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"([^\"]+)\"", index)
    assert loaded and not [url for url in loaded if re.match(r"(https?:)?//", url)]
    assert "googleapis" not in fetch(page, "theme.css")


def test_other_host_names_are_refused(page):
    with pytest.raises(urllib.error.HTTPError, match="400"):
        fetch(page, "config", Host="example.org")


def test_files_of_this_machine_are_refused(page, pair_page):
    for path in (pair_page[1], "/etc/hostname", "https://example.org/x.png"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetch(page, f"gradio_api/file={path}")


def test_the_server_reaches_no_other_machine(page, pair_page):
    fetch(page, "config")
    hosts = set(re.findall(r"^reached: (.*)$", pair_page[1].read_text(), re.M))
    assert hosts <= {"127.0.0.1", "local", "localhost"} and hosts
