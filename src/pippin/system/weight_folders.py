# SPDX-License-Identifier: Apache-2.0
"""Locate the weight file in a folder of diffusers or transformers.

Both libraries write ``STEM.safetensors``, or an index of several files; older versions write
``STEM.bin``. A variant such as fp16 is part of the name: ``STEM.fp16.safetensors``.
"""

import re
from dataclasses import dataclass
from pathlib import Path

DIFFUSERS = "diffusion_pytorch_model"
TRANSFORMERS = "model"
INDEX = re.compile(r"\.(safetensors|bin)\.index(\.[\w-]+)?\.json$")
"""Suffix of an index of several files; a variant may precede ``.json``."""
SHARD = re.compile(r"-\d{5}-of-\d{5}")


@dataclass(frozen=True, kw_only=True)
class FolderWeights:
    """Weights of a folder."""

    path: Path
    """The weight file, or the index of several."""
    variant: str | None = None
    """fp16, ...; None = no variant."""

    @property
    def safetensors(self) -> bool:
        """Whether the format is safetensors; otherwise ``torch.save``."""
        return ".safetensors" in self.path.name


def find_weights(folder: Path, stem: str = DIFFUSERS, *, pickled: bool = True) -> FolderWeights:
    """Find the weights of a folder, preferring no variant, then safetensors.

    Args:
        folder: a model's folder.
        stem: start of the file names.
        pickled: whether to accept files of ``torch.save``.

    Raises:
        ValueError: no weights, or several variants; the message lists the files.
    """
    kinds = ("safetensors", "bin") if pickled else ("safetensors",)
    candidates = [
        FolderWeights(path=path, variant=variant)
        for kind in kinds
        for path in sorted(folder.glob(f"{stem}*"))
        if path.is_file() and (variant := _variant(path.name, stem, kind)) is not None
    ]
    plain = [candidate for candidate in candidates if not candidate.variant]
    if plain:
        return FolderWeights(path=plain[0].path)
    variants = sorted({str(candidate.variant) for candidate in candidates})
    if len(variants) == 1:
        return candidates[0]
    if variants:
        raise ValueError(
            f"{folder} holds several variants of its weights and no default: "
            f"{', '.join(variants)}; copy one to its own folder, with the config.json"
        )
    endings = " or ".join(f"{stem}.{kind}" for kind in kinds)
    raise ValueError(
        f"{folder} holds no {endings}, as one file or as shards with an index; its files: "
        f"{file_names(folder)}"
    )


def _variant(name: str, stem: str, kind: str) -> str | None:
    """Variant in a name, "" if none; None if the name is not a weight file or index."""
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
    """Content of a folder, for messages."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "none"
