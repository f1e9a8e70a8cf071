# SPDX-License-Identifier: Apache-2.0
"""Options that ``--help`` lists, in groups; ``--help-all`` lists all.

A command lacks some of them, such as ``data.path`` for embedded images: its help skips those.
"""

from collections.abc import Mapping

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
        "negative-prompt",
        "weights",
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
