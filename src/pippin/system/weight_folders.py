# SPDX-License-Identifier: Apache-2.0
"""The file of weights in a folder of diffusers or transformers, whatever it is called there.

Both libraries write ``STEM.safetensors``, or an index of several files; older versions
``STEM.bin``.
A variant such as fp16 stands in the name: ``STEM.fp16.safetensors``.
"""

import re
from dataclasses import dataclass
from pathlib import Path

DIFFUSERS = "diffusion_pytorch_model"
TRANSFORMERS = "model"
INDEX = re.compile(r"\.(safetensors|bin)\.index(\.[\w-]+)?\.json$")
"""Ends the name of an index of several files; a variant may stand before ``.json``."""
SHARD = re.compile(r"-\d{5}-of-\d{5}")


@dataclass(frozen=True, kw_only=True)
class FolderWeights:
    """A folder's weights."""

    path: Path
    """The file, or the index of several."""
    variant: str | None = None
    """fp16, ...; None = the folder's weights have no other name."""

    @property
    def safetensors(self) -> bool:
        """Whether they are in safetensors; otherwise in files of ``torch.save``."""
        return ".safetensors" in self.path.name


def find_weights(folder: Path, stem: str = DIFFUSERS, *, pickled: bool = True) -> FolderWeights:
    """The weights of a folder: those without a variant, safetensors before others.

    Args:
        folder: of a model.
        stem: how their names start.
        pickled: whether files of ``torch.save`` are read.

    Raises:
        ValueError: none, or several variants; what is there is named.
    """
    kinds = ("safetensors", "bin") if pickled else ("safetensors",)
    found = [
        FolderWeights(path=path, variant=variant)
        for kind in kinds
        for path in sorted(folder.glob(f"{stem}*"))
        if path.is_file() and (variant := _variant(path.name, stem, kind)) is not None
    ]
    plain = [one for one in found if not one.variant]
    if plain:
        return FolderWeights(path=plain[0].path)
    variants = sorted({str(one.variant) for one in found})
    if len(variants) == 1:
        return found[0]
    if variants:
        raise ValueError(
            f"{folder} holds several variants of its weights and none without: "
            f"{', '.join(variants)}; take one to a folder of its own, with the config.json"
        )
    endings = " or ".join(f"{stem}.{kind}" for kind in kinds)
    raise ValueError(
        f"{folder} holds no {endings}, as one file or several with their index; its files: "
        f"{file_names(folder)}"
    )


def _variant(name: str, stem: str, kind: str) -> str | None:
    """The variant in a name, "" where there is none; None where it is no such file or index."""
    rest = name.removeprefix(stem)
    index = INDEX.search(rest)
    if not rest.startswith("."):
        return None
    if index and index[1] == kind:
        before = rest[: index.start()].lstrip(".")
        return before or (index[2] or "").lstrip(".")
    if rest.endswith(f".{kind}") and not SHARD.search(rest):
        return rest.removesuffix(kind).strip(".")
    return None


def file_names(folder: Path) -> str:
    """What is in a folder, for messages."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "none"
