# SPDX-License-Identifier: Apache-2.0
"""Sections of a model card on samples, data, training, limits and licence, in Markdown."""

from collections.abc import Mapping
from typing import Any

from pippin.encoders.config import SHIPPED_PREFIX
from pippin.publish.facts import CardFacts, data_words, public_name
from pippin.publish.markdown import cell

SAMPLES = "samples.png"
LISTED = 20
"""Maximum number of classes and of grid rows that a model card lists."""


def samples_section(facts: CardFacts) -> list[str]:
    """Grid of samples with its seeds; empty without one."""
    if not facts.samples:
        return []
    texts = [row.get("prompt") or row.get("class") or "" for row in facts.samples]
    seeds = [row["seed"] for row in facts.samples]
    lines = [
        f"![Samples]({SAMPLES})",
        "",
        f"Not selected: seeds {seeds[0]} to {seeds[-1]}, row by row; {facts.samples_sampling}.",
        "",
        "| seed | prompt |" if facts.reads_text else "| seed | class |",
        "| --- | --- |",
    ]
    pairs = list(zip(seeds, texts, strict=True))
    lines += [f"| {seed} | {cell(text)} |" for seed, text in pairs[:LISTED]]
    hidden = len(pairs) - LISTED
    return lines + [f"| ... | {hidden} more |"] * (hidden > 0)


def data_section(facts: CardFacts) -> list[str]:
    """Training images, their licence and classes."""
    what, licence = data_words(facts)
    lines = [f"- Images: {cell(what)}.", f"- Licence of the images: {cell(licence)}."]
    if facts.class_names:
        names = [cell(name) for name in facts.class_names[:LISTED]]
        more = len(facts.class_names) - LISTED
        listed = ", ".join(names) + (f" and {more} more" if more > 0 else "")
        lines.append(f"- Classes ({len(facts.class_names)}): {listed}.")
    inputs = facts.trained.inputs
    if inputs is not None:
        lines.append(f"- Hash of the training images: `{inputs.data.source_hash}`.")
        lines += [
            f"- Changed at {change.images_seen:,} images: {cell(change.what)}."
            for change in inputs.changes
        ]
    return lines


def training_section(facts: CardFacts) -> list[str]:
    """Recipe, weights and what they come from."""
    trained, recipe = facts.trained, facts.trained.recipe
    origin = "not recorded" if facts.is_converted else "none: trained from initial weights"
    rows = [
        ("weights", f"{trained.description}, stored as {facts.dtype}"),
        ("sha256 of the trained weights", trained.sha256),
        ("base model", _lineage(facts) or origin),
        ("autoencoder", public_name(recipe.autoencoder.source)),
        ("text encoders", ", ".join(facts.text_encoders) or "none"),
        ("schedule and prediction", f"{recipe.diffusion.schedule}, {recipe.diffusion.prediction}"),
        ("semantics", _pairs(recipe.conditioning.rules)),
        ("control", ", ".join(_control(facts)) or "none"),
    ]
    if not facts.is_converted:  # else these come from the nearest recipe, not from a training
        rows.insert(0, ("recipe", facts.recipe_name))
        rows.append(("batch size, seed", f"{recipe.train.batch_size}, {recipe.seed}"))
    return ["| | |", "| --- | --- |", *(f"| {name} | {cell(text)} |" for name, text in rows)]


def _control(facts: CardFacts) -> list[str]:
    control = facts.trained.recipe.conditioning.control
    return list(control.fields)


def _pairs(rules: Mapping[Any, Any]) -> str:
    return ", ".join(f"{source} by {path}" for source, path in rules.items()) or "none"


def _lineage(facts: CardFacts) -> str:
    """The weights that it descends from, oldest first."""
    return ", then ".join(
        f"{public_name(str(parent['source']))} ({parent['weights']} weights"
        + (f", {parent['images_seen']:,} images)" if parent["images_seen"] else ")")
        for parent in facts.trained.lineage
    )


def limits_section(facts: CardFacts) -> list[str]:
    """Known limits of the model, and encoders inside or outside the folder."""
    trained, side = facts.trained, facts.trained.recipe.data.resolution
    seen = f"{trained.images_seen:,}" if trained.images_seen else "an unknown number of"
    seed = f"- One training seed, {seen} images: no evidence for one recipe over another."
    lines = [
        f"- It was trained at {side} pixels; other sizes are untested unless measures say so.",
        *[seed] * (not facts.is_converted),
        "- Samples repeat the biases of the training images. Nothing filters prompts or images.",
    ]
    if facts.reads_classes:
        lines.append("- It draws its classes only, and reads no text.")
    if facts.bundled:
        encoders = ", ".join(map(cell, facts.bundled))
        lines.append(f"- The folder includes encoders with terms of their own: {encoders}.")
    outside = [name for name in facts.text_encoders if not name.startswith(SHIPPED_PREFIX)]
    if absent := [name for name in outside if name not in facts.bundled]:
        names = ", ".join(map(cell, absent))
        lines.append(f"- It needs text encoders that the folder does not include: {names}.")
    return lines


def licence_section(facts: CardFacts) -> list[str]:
    """Licence of the weights."""
    licence = facts.licence
    if licence.model is None:
        return [
            "Weights: not stated by the author. Add a `license` to the header of this file before "
            "you share the folder."
        ]
    link = "" if licence.link is None else f", {cell(licence.link)}"
    return [f"Weights: {licence.model}{link}."]
