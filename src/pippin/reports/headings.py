# SPDX-License-Identifier: Apache-2.0
"""Headings of the groups of metrics in reports.

Labels and explanations of metrics come from their declarations
(:mod:`pippin.evaluation.metrics.declared`).
"""

from pippin.evaluation.metric import Group

HEADINGS: dict[Group, str] = {
    "control": "Control",
    "samples": "Samples",
    "loss": "Held-out loss",
    "cost": "Size of the model",
    "other": "Other numbers",
}
"""Group of metrics -> heading of its lines in the table, in the order of the page."""
