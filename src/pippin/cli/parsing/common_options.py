# SPDX-License-Identifier: Apache-2.0
"""Options that ``--help`` lists, in groups; ``--help-all`` lists all.

A command lacks some of them, such as ``data.path`` for embedded images: its help skips those.
"""

import inspect
import re
import shutil
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from pippin.cli.parsing.option_table import Option, option_table

Groups = Mapping[str, tuple[str, ...]]
"""Title of a group -> names of its options."""

RECIPE_OPTIONS: Groups = {
    "data": (
        "data.path",
        "data.resolution",
        "data.aspect-ratios",
        "data.views",
        "text.source",
        "cache.folder",
    ),
    "model": (
        "denoiser.depth",
        "denoiser.width",
        "denoiser.patch-size",
        "autoencoder.source",
        "conditioning.control.high",
        "conditioning.control.low",
        "conditioning.control.low-gate.kind",
        "init.run",
    ),
    "training": (
        "train.images",
        "train.batch-size",
        "train.learning-rate",
        "train.warmup-images",
        "train.grad-clip",
        "train.checkpoint-every",
        "train.preview-every",
        "train.validate-every",
        "seed",
    ),
    "sampling": (
        "sampling.solver",
        "sampling.steps",
        "sampling.guidance.semantic-scale",
        "sampling.guidance.control-scale",
    ),
    "evaluation": ("evaluation.parts", "evaluation.num-samples", "evaluation.features"),
    "machine": (
        "train.device",
        "train.precision",
        "train.micro-batch-size",
        "train.gradient-checkpointing",
        "train.compile",
        "train.parallel",
        "train.workers",
        "train.tracker",
    ),
}
"""Options of a recipe, for every verb that takes one."""

SAMPLE_OPTIONS: Groups = {
    "images": ("prompts", "prompts-file", "labels", "seeds", "size", "out"),
    "sampling": (
        "solver",
        "steps",
        "guidance.semantic-scale",
        "guidance.control-scale",
        "guidance.rescale",
        "guide",
        "guide-checkpoint",
        "guidance.guide-scale",
        "negative-prompt",
        "weights",
        "checkpoint",
    ),
    "control": (
        "control.original-size",
        "control.crop-corner",
        "control.crop-size",
        "control.flip",
    ),
    "machine": ("batch-size", "precision", "data.path", "autoencoder"),
}

EVALUATE_OPTIONS: Groups = {
    "evaluation": (
        "preset",
        "parts",
        "num-samples",
        "reference",
        "features",
        "inception",
        "dinov2",
        "clip",
        "seed",
    ),
    "sampling": (
        "sampling.solver",
        "sampling.steps",
        "sampling.guidance.semantic-scale",
        "sampling.guidance.control-scale",
        "sampling.weights",
        "checkpoint",
    ),
    "data": ("data.path", "data.resolution", "autoencoder", "out"),
    "machine": ("device", "batch-size", "sampling.batch-size", "sampling.precision"),
}

MEANINGS = {
    "cache.folder": "Folder of latent caches",
    "depth": "Number of blocks",
    "width": "Number of features per token",
    "patch-size": "Side of a patch in latent pixels",
    "kind": "Gate over time",
    "num-samples": "Number of images that are sampled for the measures",
    "original-size": "Height and width of the original image that the model is told",
    "crop-corner": "Top and left of the crop that the model is told",
    "flip": "Whether the model is told that the image is mirrored",
    "device": "auto: cuda if available, otherwise cpu",
    "batch-size": "Images per forward pass",
    "precision": "bf16: autocast of the forward pass",
}
"""Meaning of options whose field has no docstring, by name or by its last part."""


NAME_WIDTH, MAX_WIDTH = 34, 110
"""Columns of option names, and of the whole text."""
MAX_DEFAULT = 40
NOTE = (
    "--help-all lists all {count} options. A boolean option needs no value: --x is --x True, "
    "--no-x is --x False."
)


def common_help(kind: Any, prog: str, default: Any, groups: Groups) -> str:
    """Usage, the command's own options, the common ones in groups, and how to list all."""
    table = option_table(kind, default)
    listed = {name for names in groups.values() for name in names}
    own = [name for name in table if _is_own(kind, table[name]) and name not in listed]
    width = min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)
    sections = {"general": tuple(own), **groups}
    lines = [f"usage: {prog} [options]", "", inspect.cleandoc(kind.__doc__ or "")]
    for title, names in sections.items():
        options = [table[name] for name in names if name in table]
        if options:
            lines += ["", f"{title}:", *_section(options, width)]
    return "\n".join([*lines, "", *textwrap.wrap(NOTE.format(count=len(table)), width)])


def _is_own(kind: Any, option: Option) -> bool:
    return option.owner in kind.__mro__ and not option.positional


def _section(options: Sequence[Option], width: int) -> Iterator[str]:
    for option in options:
        head = f"  --{option.name} {_values(option)}".rstrip()
        text = textwrap.wrap(_meaning(option), max(20, width - NAME_WIDTH))
        if len(head) >= NAME_WIDTH:
            yield head
        else:
            first = text.pop(0) if text else ""
            yield f"{head:<{NAME_WIDTH}}{first}".rstrip()
        yield from (" " * NAME_WIDTH + line for line in text)


def _meaning(option: Option) -> str:
    """First sentence of the option's docstring, and its default."""
    last = option.name.rpartition(".")[2]
    text = option.meaning or MEANINGS.get(option.name) or MEANINGS.get(last, "")
    sentence = re.split(r"(?<=[^.]\.)\s", text, maxsplit=1)[0].rstrip(".")
    if option.default is MISSING:
        return f"{sentence} (required)".strip()
    return f"{sentence} (default: {_shown(option.default)})".strip()


def _shown(value: Any) -> str:
    words = value if isinstance(value, tuple | list) else [value]
    text = " ".join(map(str, words)) or "none"
    return text if len(text) <= MAX_DEFAULT else f"{text[: MAX_DEFAULT - 3]}..."


def _values(option: Option) -> str:
    """``sd|flow``, ``N``, ``X``, ``PATH`` or ``TEXT``; nothing for a plain boolean."""
    if option.boolean:
        return "" if option.words == ("True", "False") else f"[{'|'.join(option.words)}]"
    return "|".join(option.words) or _placeholder(option.kind)


def _placeholder(hint: Any) -> str:
    inner = [kind for kind in typing.get_args(hint) if kind not in (type(None), ...)]
    if typing.get_origin(hint) in (tuple, list):
        words = dict.fromkeys(map(_placeholder, inner))
        return " ".join([*words, "..."])
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, inner))
    if inner:
        return "|".join(dict.fromkeys(map(_placeholder, inner)))
    return {int: "N", float: "X", Path: "PATH"}.get(hint, "TEXT")
