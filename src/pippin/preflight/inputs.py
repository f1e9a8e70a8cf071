# SPDX-License-Identifier: Apache-2.0
"""Checks of what a training reads: encoders, initial weights, the first images."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pippin.conditioning.config import TextSemantic
from pippin.data.config import ImagesConfig
from pippin.data.folder.image_table import has_table
from pippin.data.folder.listing import Entry, InvalidSourceError
from pippin.data.importing.config import ShardsConfig
from pippin.data.importing.import_sources import find_shards
from pippin.data.streaming.shard_source import refuse_other_content
from pippin.encoders.config import SHIPPED_PREFIX
from pippin.encoders.text_widths import stated_encoder
from pippin.evaluation.features.dinov2_source import stated_width
from pippin.evaluation.runs.named_models import REPA_SOURCE
from pippin.images.files import UnreadableImageError, inspect_image
from pippin.model import PROJECTOR
from pippin.preflight.start import Start
from pippin.recipes.checks import check_resolution
from pippin.recipes.recipe import has_known_latents
from pippin.runs.checkpoint_folders import list_checkpoints
from pippin.runs.data.check_data import listing_refusals, missing_kinds
from pippin.runs.exports import WEIGHTS_FILE
from pippin.runs.folder import STUDY_RUN_PREFIX, RunFolder
from pippin.runs.hub_source import is_hub_source
from pippin.runs.text_inputs import check_encoder
from pippin.runs.trained import trained_recipe
from pippin.system.redaction import is_url, split_sources, strip_url_secrets
from pippin.system.weight_files import stored_shapes
from pippin.training.repa.config import NO_IMAGES

PROJECTOR_OUTPUTS = (f"{PROJECTOR}mlp.4.weight", f"{PROJECTOR}conv.weight")
"""Last layers of REPA's projectors in a checkpoint."""
FIRST_IMAGES = 32
"""Number of images that are opened, evenly spread over the names of a folder."""


def check_autoencoder(start: Start) -> Iterator[str]:
    """Load the autoencoder, and compare its factor with the resolution."""
    factor = start.autoencoder.factor
    if not has_known_latents(start.located):  # otherwise the settings' checks know it
        check_resolution(start.located, factor)
    yield from ()


def check_text_encoder(start: Start) -> Iterator[str]:
    """Compare the widths that the text encoders' files state with the model's."""
    rule = start.recipe.conditioning.semantic
    if not isinstance(rule, TextSemantic):
        return
    stated = stated_encoder(start.located.text)
    check_encoder(stated, rule)
    if stated.max_tokens is not None and rule.num_tokens > stated.max_tokens:
        yield (
            f"conditioning.semantic.num_tokens is {rule.num_tokens}; text.source "
            f"{', '.join(start.recipe.text.source)} reads at most {stated.max_tokens} tokens: "
            f"type --conditioning.semantic.num-tokens {stated.max_tokens}"
        )


def check_repa_encoder(start: Start) -> Iterator[str]:
    """Compare REPA's encoder with what training needs of it, and refuse images without pixels."""
    repa, data = start.located.train.repa, start.located.data
    if not repa.enabled:
        return
    in_shards = start.shards is not None
    if in_shards or (isinstance(data, ImagesConfig) and has_table(Path(data.path))):
        yield NO_IMAGES
    if repa.source is None:
        return
    width, trained = stated_width(repa.source, REPA_SOURCE), _trained_width(start)
    if trained is not None and trained != width:
        yield (
            f"train.repa.source {repa.source} has {width} features, and this run was trained with "
            f"{trained}: give the model that it began with, --train.repa.source FOLDER, or start "
            "another run with another --folder"
        )


def _trained_width(start: Start) -> int | None:
    """Number of features that the projector of a resumed run projects to; None = unknown."""
    if start.run is None or not start.resumes:
        return None
    for checkpoint in list_checkpoints(start.run.checkpoints)[:1]:
        with suppress(OSError, ValueError):  # sharded, or damaged: the resumption says so
            for name, shape in stored_shapes(checkpoint / WEIGHTS_FILE).items():
                if name in PROJECTOR_OUTPUTS:
                    return shape[0]
    return None


def check_initial_weights(start: Start) -> Iterator[str]:
    """Refuse an ``init.run`` that names no trained run."""
    source = start.located.init.run
    if source is None or source.startswith(STUDY_RUN_PREFIX) or start.resumes:
        return
    try:
        trained_recipe(source)
    except (ValueError, OSError) as error:
        yield f"init.run: {error}"
        return
    if source.startswith(SHIPPED_PREFIX) or is_hub_source(source):
        return
    folder = Path(source)
    if not (folder / WEIGHTS_FILE).is_file() and not RunFolder(folder).has_checkpoints:
        yield f"init.run: {source} has no checkpoint yet; train it to at least one first"


def check_captions(start: Start) -> Iterator[str]:
    """Compare kinds of captions with columns, and refuse unusual folders; reads no image."""
    listing, data = start.listing, start.located.data
    if listing is None or not isinstance(data, ImagesConfig):
        if start.is_text and start.shards is None:
            missing = missing_kinds(start.recipe, start.source.captions(0))
            yield from () if missing is None else (missing,)
        return
    for refusal in () if start.resumes else listing_refusals(start.recipe, data, listing):
        raise InvalidSourceError(refusal)


def check_first_images(start: Start) -> Iterator[str]:
    """Refuse a folder of whose first images none can be used, and shards that are not there."""
    if start.shards is not None:
        yield from _check_shards(start, start.shards)
    listing, data = start.listing, start.located.data
    if listing is None or not isinstance(data, ImagesConfig) or not listing.entries:
        return
    step = max(1, len(listing.entries) // FIRST_IMAGES)
    entries = listing.entries[::step][:FIRST_IMAGES]
    faults = [_fault(entry, data.min_side) for entry in entries]
    if all(faults):
        shown = "".join(
            f"\n  {entry.name}: {fault}" for entry, fault in zip(entries[:3], faults, strict=False)
        )
        yield (
            f"none of {len(entries)} images of {data.path} that were opened can be used:{shown}\n"
            f"`pippin data check {data.path}` lists all; smaller images than --data.min-side "
            f"{data.min_side} are skipped"
        )


def _check_shards(start: Start, shards: ShardsConfig) -> Iterator[str]:
    """Refuse missing shards, and a folder for their table that has other files."""
    if isinstance(start.located.data, ImagesConfig):
        refuse_other_content(Path(start.located.data.path))
    if any(map(is_url, split_sources(shards.source))):  # thousands of files, asked one by one
        return
    if not find_shards(shards):
        yield f"--shards.source {shards.source} holds no shard"


def _fault(entry: Entry, min_side: int) -> str:
    """Reason why an image is skipped; empty if it is not."""
    try:
        size = inspect_image(entry.path).size
    except UnreadableImageError as error:
        return f"{error.reason}: {error.detail}"
    if min(size) < min_side:
        return f"too small: {size[0]} x {size[1]} pixels (height x width)"
    return ""


def describe_images(start: Start) -> str:
    """Number of training images, for the resolved plan."""
    if start.shards is not None:
        return f"those of the shards of {strip_url_secrets(start.shards.source)}, unread yet"
    with suppress(ValueError, OSError):
        about = "about " if start.listing is not None else ""
        return f"{about}{start.num_images:,} training images"
    return "unknown images"
