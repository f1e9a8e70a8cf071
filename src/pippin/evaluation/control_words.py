# SPDX-License-Identifier: Apache-2.0
"""Names of control fields in labels and sentences, as :mod:`pippin.control` declares them."""

from pippin.control import CONTROL_FIELDS


def control_label(control: str) -> str:
    """Label of a control; a control without words keeps its name."""
    declared = CONTROL_FIELDS.get(control)
    return declared.label or control if declared else control


def control_in_sentence(control: str) -> str:
    """Name of a control within a sentence."""
    declared = CONTROL_FIELDS.get(control)
    return declared.phrase or control if declared else control
