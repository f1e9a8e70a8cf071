# SPDX-License-Identifier: Apache-2.0
"""Folder of a Space: the playground for one model, with all that it needs.

No package index has pippin, so the folder holds a copy of its code beside ``app.py``, and
``requirements.txt`` lists the packages that pippin declares.
"""

import platform
import re
import shutil
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from pippin.publish.card import CARD, CardForm, render_card
from pippin.publish.facts import CardFacts, public_notes
from pippin.publish.model_folder import MODEL_FOLDER, folder_facts, write_inner_model
from pippin.runs.exports import writing_export
from pippin.system.files import sync_tree, write_text
from pippin.system.installation import PACKAGE, distribution_name, package_clone

GRADIO = "6.31.0"
"""Version of gradio for the header where none is installed here."""
LARGE_FILES = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
"""``.gitattributes``: the hub refuses large files that git holds itself."""
SKIPPED = ("__pycache__", "*.pyc", "models")
"""Parts of the package that are not copied: a Space has a model of its own."""
CPU_INDEX = (
    "# For a Space without a GPU; without it, pip installs the larger build with CUDA.\n"
    "# --extra-index-url https://download.pytorch.org/whl/cpu\n"
)
LICENSE = "pippin is under the Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
MARKER = re.compile(r"""\s*;\s*extra\s*==\s*['"]([\w-]+)['"]\s*$""")


def write_space(facts: CardFacts, out: Path) -> list[str]:
    """Write the folder of a Space.

    Args:
        facts: of the model, with the type of the weights on disk.
        out: new, empty, or left by an interrupted export of the same weights.

    Returns:
        notes for the user.

    Raises:
        ValueError: an encoder is not there, the packages of pippin are unknown, or another folder.
        OSError: disk full or not writable; the same call resumes.
    """
    packages = space_requirements(("ui", "text") if facts.reads_text else ("ui",))
    with writing_export(out, folder_facts(facts.trained, "space", facts.dtype)):
        facts, notes = write_inner_model(facts, out)
        ignored = shutil.ignore_patterns(*SKIPPED)
        shutil.copytree(PACKAGE, out / "pippin", ignore=ignored, dirs_exist_ok=True)
        sync_tree(out / "pippin")
        write_text(out / "LICENSE-pippin", _license())
        write_text(out / ".gitattributes", LARGE_FILES)
        lines = "".join(f"{package}\n" for package in packages)
        write_text(out / "requirements.txt", CPU_INDEX + lines)
        app = files("pippin.publish.files").joinpath("app.py").read_text(encoding="utf-8")
        write_text(out / "app.py", app)
        write_text(out / CARD, render_card(facts, _form(out.resolve().name)))
    public = "whoever opens a public Space draws from this model, without a password"
    return [*notes, public, *public_notes(facts, f"{MODEL_FOLDER}/")]


def _form(title: str) -> CardForm:
    """Title, header and use of a Space; the header says how it starts."""
    header = {
        "title": title,
        "emoji": "\N{GREEN APPLE}",
        "colorFrom": "green",
        "colorTo": "indigo",
        "sdk": "gradio",
        "sdk_version": _gradio(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "app_file": "app.py",
        "pinned": False,
        "short_description": "Draw images of a latent diffusion model",
    }
    use = (
        f"`app.py` opens pippin's playground for the model in `{MODEL_FOLDER}/`. The folder "
        "`pippin/` is a copy of pippin's code (Apache-2.0, see `LICENSE-pippin`).",
    )
    return CardForm(title=title, header=header, is_model=False, use=use)


def space_requirements(extras: tuple[str, ...]) -> list[str]:
    """Packages that pippin declares: always needed ones, and those of some extras.

    Raises:
        ValueError: pippin is neither installed nor in a clone.
    """
    project = _project()
    if project is not None:
        optional = project["optional-dependencies"]
        return [*project["dependencies"], *(name for extra in extras for name in optional[extra])]
    try:
        declared = requires(distribution_name()) or []
    except PackageNotFoundError as error:
        raise ValueError(
            "the packages that pippin needs are unknown, since it is not installed: in a clone of "
            "its sources, type: pip install '.[ui]'"
        ) from error
    packages = []
    for line in declared:
        match = MARKER.search(line)
        if match is None or match[1] in extras:
            packages.append(MARKER.sub("", line))
    return packages


def _project() -> dict[str, Any] | None:
    """``[project]`` of the clone that the package is in; None for an installed package."""
    clone = package_clone()
    if clone is None:
        return None
    settings = (clone / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(settings)["project"]
    return project


def _license() -> str:
    clone = package_clone()
    return LICENSE if clone is None else (clone / "LICENSE").read_text(encoding="utf-8")


def _gradio() -> str:
    try:
        return version("gradio")
    except PackageNotFoundError:
        return GRADIO
