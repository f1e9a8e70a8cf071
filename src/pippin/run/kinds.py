# SPDX-License-Identifier: Apache-2.0
"""Kinds of weights: which an exported model has, and how a kind is called in messages."""

from pippin.config import UNKNOWN_WEIGHTS


def check_kind(source: str, held: str, asked: str | None) -> None:
    """Refuse to take an exported model's weights for others.

    Args:
        source: the export, as the user named it.
        held: the kind that it has. One that is not known may be any.
        asked: the kind that is wanted; None = any.

    Raises:
        ValueError: naming both.
    """
    if asked not in (None, held) and held != UNKNOWN_WEIGHTS:
        raise ValueError(
            f"{source} holds {held} weights only; asked for {asked} weights. Ask for {held}: "
            f"--weights {held}, or --init.weights {held} for a run that starts there"
        )


def weights_in_words(weights: str, average: str | None, images_seen: int) -> str:
    """Which weights, and at how many images: ``raw weights at 64 images``.

    Args:
        weights: their name, see :data:`pippin.config.WEIGHTS`.
        average: which average, where that is known.
        images_seen: 0 = not known.
    """
    kind = "weights of unknown kind" if weights == UNKNOWN_WEIGHTS else f"{weights} weights"
    kind += f" ({average})" if average is not None else ""
    return f"{kind} at {images_seen} images" if images_seen else f"{kind}, images seen: not known"
