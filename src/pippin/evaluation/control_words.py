# SPDX-License-Identifier: Apache-2.0
"""Names of control fields in labels and sentences."""

_WORDS = {
    "original_size": ("original size", "the original size"),
    "crop_corner": ("crop corner", "the corner of the crop"),
    "flip": ("flip", "mirroring"),
    "jpeg_quality": ("JPEG quality", "the quality of compression"),
    "colour_jitter": ("colour jitter", "a change of colours"),
    "grain": ("grain", "film grain"),
}
"""Control -> its label, and its name within a sentence."""

PROBED_CONTROLS = tuple(_WORDS)
"""Controls whose drift and effect can be measured, in the order of reports."""


def control_label(control: str) -> str:
    """Label of a control; a control without words keeps its name."""
    return _WORDS[control][0] if control in _WORDS else control


def control_in_sentence(control: str) -> str:
    """Name of a control within a sentence."""
    return _WORDS[control][1] if control in _WORDS else control
