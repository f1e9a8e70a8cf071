# SPDX-License-Identifier: Apache-2.0
"""Rules that the Dockerfile keeps; it is parsed, and not built."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECRET = re.compile(r"(?i)(password|passwd|secret|token|api_?key|credential|private_key)")
PIN = re.compile(r"(:[\w.-]*\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})$")


def instructions(text):
    """(name, arguments) of each instruction; comments left out, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]


def base_arguments(steps):
    """ARG instructions before the first FROM: name -> default."""
    names = [name for name, _ in steps]
    before = steps[: names.index("FROM")]
    return dict(value.partition("=")[::2] for name, value in before if name == "ARG")


def faults(text):
    """Broken rules of a Dockerfile, in words."""
    steps = instructions(text)
    bases, stages = base_arguments(steps), set()
    user = None
    for name, value in steps:
        if name == "FROM":
            image, *stage = re.split(r"\s+AS\s+", value)
            argument = re.fullmatch(r"\$\{(\w+)\}", image)
            if image not in stages and not (argument and PIN.search(bases[argument[1]])):
                yield f"base {image} is no argument with a pinned default"
            stages |= set(stage)
            user = None
        elif name == "USER":
            user = value.split(":")[0]
        elif name == "ADD":
            yield "ADD fetches and unpacks: use COPY"
        elif name in ("ARG", "ENV") and SECRET.search(value):
            yield f"{name} {value} stays in the image's history"
        elif name == "COPY" and value.split()[0] in (".", "./"):
            yield "COPY . takes whatever lies in the folder"
        elif name == "RUN" and any(
            re.search(r"pip (install|wheel)(?!.*--no-cache-dir)", command)
            for command in value.split("&&")
        ):
            yield "pip leaves its cache in a layer: --no-cache-dir"
        elif name in ("ENTRYPOINT", "CMD") and not value.startswith("["):
            yield f"{name} by a shell, which passes no signal on"
    if user in (None, "root", "0"):
        yield "the container runs as root"


def test_the_dockerfile_keeps_the_rules():
    assert list(faults((ROOT / "Dockerfile").read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("pattern", "replacement", "said"),
    [
        (r"slim-bookworm|:3\.11\.13-", "", "no argument with a pinned default"),
        (r"USER .*\n", "", "runs as root"),
        (r"USER .*", "USER root", "runs as root"),
        (r"ARG EXTRAS=text", "ARG HF_TOKEN", "history"),
        (r"COPY src ./src", "COPY . .", "whatever lies"),
        (r"COPY src ./src", "ADD src ./src", "use COPY"),
        (r"--no-cache-dir ", "", "cache"),
        (r"(RUN python3 -m venv \S+)", r"\1 && pip install wheel", "cache"),
        (r'CMD \["--help"\]', "CMD --help", "signal"),
    ],
)
def test_a_broken_rule_is_found(pattern, replacement, said):
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    changed = re.sub(pattern, replacement, text)
    assert changed != text
    assert any(said in fault for fault in faults(changed))


def test_cpu_and_cuda_are_chosen_by_build_arguments():
    steps = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    defaults = dict(value.partition("=")[::2] for name, value in steps if name == "ARG")
    assert set(defaults) == {"BASE", "TORCH_INDEX", "EXTRAS"}
    assert defaults["TORCH_INDEX"].endswith("/cpu")


def sent(path, rules):
    """Whether a path reaches the build: the last pattern of .dockerignore that matches decides."""
    kept = True
    parents = [str(parent) for parent in Path(path).parents][:-1]
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        names = {Path(part).name for part in (path, *parents)} if "**/" in rule else set()
        if any(fnmatch(part, pattern) for part in (path, *parents, *names)):
            kept = rule.startswith("!")
    return kept


def test_the_build_sees_sources_only():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    copied = ("pyproject.toml", "README.md", "LICENSE", "src/pippin/cli/main.py")
    assert all(sent(path, rules) for path in copied)
    for path in (
        *(".git/config", ".env", "runs/a/config.json", "caches/k/manifest.json", "key.pem"),
        *("src/.env", "src/pippin/id.key", "src/pippin/__pycache__/x.pyc", ".venv/bin/python"),
    ):
        assert not sent(path, rules), path


def test_each_copied_file_is_sent_and_exists():
    steps = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    sources = [v.split()[:-1] for name, v in steps if name == "COPY" and "--from" not in v]
    for path in [word for words in sources for word in words]:
        assert (ROOT / path).exists(), path
