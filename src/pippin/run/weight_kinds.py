# SPDX-License-Identifier: Apache-2.0
"""Kinds of weights: check the kind of an exported model, and describe it in messages."""

from pippin.config import UNKNOWN_WEIGHTS


def check_weight_kind(source: str, available: str, requested: str | None) -> None:
    """Refuse to use an exported model's weights as weights of another kind.

    Args:
        source: the export, as the user named it.
        available: kind of its weights; an unknown kind may be any.
        requested: kind that the user requests; None = any.

    Raises:
        ValueError: naming both kinds.
    """
    if requested not in (None, available) and available != UNKNOWN_WEIGHTS:
        raise ValueError(
            f"{source} holds {available} weights only; asked for {requested} weights. Ask for "
            f"{available}: --weights {available}, or --init.weights {available} for a run that "
            "starts there"
        )


def describe_weights(weights: str, average: str | None, images_seen: int) -> str:
    """Describe weights in a message: ``raw weights at 64 images``.

    Args:
        weights: their name, see :data:`pippin.config.WEIGHTS`.
        average: name of the average, where it is known.
        images_seen: 0 = unknown.
    """
    kind = "weights of unknown kind" if weights == UNKNOWN_WEIGHTS else f"{weights} weights"
    kind += f" ({average})" if average is not None else ""
    return f"{kind} at {images_seen} images" if images_seen else f"{kind}, images seen: unknown"
