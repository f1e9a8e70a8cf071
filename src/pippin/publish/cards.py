# SPDX-License-Identifier: Apache-2.0
"""README files of published folders, with the header that the hub reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pippin.runs.trained import Trained


def pipeline_card(trained: Trained, call: str, notes: Sequence[str]) -> str:
    """Card of a pipeline.

    Args:
        trained: the model.
        call: source text that loads it and draws.
        notes: what a user must know.
    """
    header = {"library_name": "diffusers", "tags": ["pippin"]}
    return "\n".join(
        (
            _header(header),
            "# Pipeline of diffusers\n",
            f"{facts(trained)}\n",
            f"```python\n{call}```\n",
            _list(notes),
        )
    )


def space_card(trained: Trained, title: str, gradio_version: str, python_version: str) -> str:
    """Card of a Space, whose header says how it starts.

    Args:
        trained: the model.
        title: title of the Space.
        gradio_version, python_version: versions that the Space installs.
    """
    header = {
        "title": title,
        "emoji": "\N{GREEN APPLE}",
        "colorFrom": "green",
        "colorTo": "indigo",
        "sdk": "gradio",
        "sdk_version": gradio_version,
        "python_version": python_version,
        "app_file": "app.py",
        "pinned": False,
        "short_description": "Draw images of a latent diffusion model",
    }
    return "\n".join(
        (
            _header(header),
            f"# {title}\n",
            f"{facts(trained)}\n",
            "`app.py` opens pippin's playground for the model in `model/`. The folder `pippin/` "
            "is a copy of pippin's code (Apache-2.0, see `LICENSE-pippin`). Add a `license` to "
            "the header above for weights and images.\n",
        )
    )


def facts(trained: Trained) -> str:
    """Sentences about the weights."""
    recipe = trained.recipe
    sentences = [
        f"Weights: {trained.description}.",
        f"Denoiser {recipe.denoiser.kind}, {recipe.data.resolution} pixels, schedule "
        f"{recipe.diffusion.schedule}, prediction {recipe.diffusion.prediction}.",
        f"SHA-256 of the weights in float32: `{trained.sha256}`.",
    ]
    return " ".join(sentences)


def _header(values: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n"


def _list(notes: Sequence[str]) -> str:
    return "".join(f"- {note}\n" for note in notes)
