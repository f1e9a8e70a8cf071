# SPDX-License-Identifier: Apache-2.0
"""Trained weights, wherever they lie: a run folder, an exported folder, a shipped model.

An exported folder holds ``config.json`` (the recipe) and ``model.safetensors``, whose metadata say
how many images the weights have seen and from which weights their run started. Models inside the
package are exported folders with a name that starts with ``pippin/``.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.encoders.statistics import LatentStatistics
from pippin.model import LatentDenoiser
from pippin.recipes.latents import known_patches_a_side
from pippin.recipes.recipe import Recipe
from pippin.run.folder import RunFolder
from pippin.run.latents import LATENTS, stored_latents
from pippin.system.tensors import save_tensors
from pippin.training.checkpoint import load_state, load_weights, newest_good

SHIPPED_PREFIX = "pippin/"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Weights with what is known of them."""

    source: str
    """As the user named it."""
    recipe: Recipe
    tensors: dict[str, Tensor]
    """By parameter name, fp32."""
    weights: str
    images_seen: int
    lineage: tuple[dict[str, Any], ...]
    """What the run itself started from, oldest first; see :meth:`as_parent`."""
    latents: LatentStatistics | None = None
    """What normalised the latents they were trained on; None = the autoencoder's own numbers."""
    passed_over: tuple[str, ...] = ()
    """Why newer checkpoints of the run could not be used."""

    @cached_property
    def sha256(self) -> str:
        """Over names and values, independent of files."""
        digest = hashlib.sha256()
        for name, value in sorted(self.tensors.items()):
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def as_parent(self) -> tuple[dict[str, Any], ...]:
        """The lineage of a run that starts here: one entry for each ancestor, oldest first, with
        what is needed to count image tokens; ``images_seen`` 0 = not known."""
        side = known_patches_a_side(self.recipe)
        own = {
            "source": self.source,
            "weights": self.weights,
            "images_seen": self.images_seen,
            "resolution": self.recipe.data.resolution,
            "tokens_per_image": None if side is None else side**2,
            "sha256": self.sha256,
        }
        return (*self.lineage, own)

    def check_fit(self, model: LatentDenoiser) -> None:
        """Refuse a model that has other tensors.

        Raises:
            ValueError: names or shapes differ; the message lists the first few.
        """
        wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
        given = {name: tuple(t.shape) for name, t in self.tensors.items()}
        odd = sorted(name for name in {*wanted, *given} if wanted.get(name) != given.get(name))
        if odd:
            lines = "".join(
                f"\n  {name}: {_shape(given.get(name))} in the weights, "
                f"{_shape(wanted.get(name))} in the model"
                for name in odd[:5]
            )
            raise ValueError(
                f"the weights of {self.source} do not fit this model; tensors that differ: "
                f"{len(odd)}{lines}\nuse the denoiser, conditioning and classes of their recipe"
            )

    def load_into(self, model: LatentDenoiser) -> None:
        """Set all weights of a model.

        Raises:
            ValueError: as :meth:`check_fit`.
        """
        self.check_fit(model)
        model.load_state_dict(self.tensors)


def shipped_models() -> list[str]:
    """Names of the models inside the package."""
    folders = files("pippin") / "models"
    if not folders.is_dir():
        return []
    return sorted(
        SHIPPED_PREFIX + folder.name
        for folder in folders.iterdir()
        if (folder / WEIGHTS_FILE).is_file()
    )


def trained_recipe(source: str) -> Recipe:
    """The recipe that trained weights were made by.

    Raises:
        ValueError: nothing of that name.
    """
    return RunFolder(_folder(source)).recipe()


def open_trained(source: str, weights: str = "ema") -> Trained:
    """The weights of a run's newest good checkpoint, or of an exported or shipped model.

    Args:
        source: a run folder, an exported folder, or a name that starts with ``pippin/``.
        weights: ema, raw, or the name of a further average, see ``train.ema_extra``; an exported
            model has the kind that it was exported with.

    Raises:
        ValueError: nothing of that name, no usable checkpoint, damaged weights, or not the kind
            asked for.
    """
    folder = _folder(source)
    recipe = RunFolder(folder).recipe()
    if (folder / WEIGHTS_FILE).is_file():
        return _exported(source, folder, recipe, weights)
    path, problems = newest_good(RunFolder(folder).checkpoints)
    if path is None:
        if not problems:
            raise ValueError(f"{source} has no checkpoint yet; train it to at least one first")
        reasons = "".join(f"\n  passed over: {problem}" for problem in problems)
        raise ValueError(
            f"{source} has no usable checkpoint: put one back, or train in another folder{reasons}"
        )
    state = load_state(path)
    return Trained(
        source=source,
        recipe=recipe,
        tensors=load_weights(path, weights, verified=True),
        weights=weights,
        images_seen=state["images_seen"],
        lineage=tuple(state.get("lineage", ())),
        latents=stored_latents(state, path),
        passed_over=tuple(problems),
    )


def export(trained: Trained, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write an exported folder; see the module's head.

    Args:
        trained: what to write.
        folder: new or empty.
        dtype: of the weights on disk; loading casts them to fp32.

    Raises:
        ValueError: the folder has files already.
        OSError: disk full or not writable.
    """
    refuse_full(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "weights": trained.weights,
        "images_seen": trained.images_seen,
        "lineage": list(trained.lineage),
    }
    if trained.latents is not None:
        facts[LATENTS] = trained.latents.to_dict()
    tensors = {name: value.to(dtype) for name, value in trained.tensors.items()}
    save_tensors(
        folder / WEIGHTS_FILE, tensors, metadata={"format": "pt", "pippin": json.dumps(facts)}
    )
    trained.recipe.save(folder / "config.json")


def refuse_full(folder: Path) -> None:
    """Refuse to write where something lies.

    Raises:
        ValueError: the folder has files already, or is a file.
    """
    if folder.is_file() or (folder.exists() and any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty; choose another folder")


def _exported(source: str, folder: Path, recipe: Recipe, weights: str) -> Trained:
    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, framework="pt") as file:
            facts: Mapping[str, Any] = json.loads((file.metadata() or {})["pippin"])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged or was not exported by pippin: {error}") from error
    if facts["weights"] != weights:
        raise ValueError(
            f"{source} holds {facts['weights']} weights only; asked for {weights} weights"
        )
    return Trained(
        source=source,
        recipe=recipe,
        tensors=tensors,
        weights=weights,
        images_seen=facts["images_seen"],
        lineage=tuple(facts["lineage"]),
        latents=stored_latents(facts, path),
    )


def _folder(source: str) -> Path:
    if not source.startswith(SHIPPED_PREFIX):
        return Path(source)
    if source not in shipped_models():
        names = ", ".join(shipped_models()) or "none"
        raise ValueError(f"no model {source!r} is shipped; there are: {names}")
    place = files("pippin") / "models" / source.removeprefix(SHIPPED_PREFIX)
    with as_file(place) as folder:
        return folder


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))
