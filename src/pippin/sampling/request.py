# SPDX-License-Identifier: Apache-2.0
"""Conditions of a batch of samples, built from a user's request."""

from collections.abc import Collection, Sequence
from dataclasses import fields

import torch

from pippin.control import AUGMENTATION_FIELDS, Control, Corner, Size
from pippin.sampling.config import ControlRequest
from pippin.types import Conditions, ControlBatch, TextFeatures, stack_controls


def request_conditions(
    labels: Sequence[int] | None,
    request: ControlRequest,
    control_names: Collection[str],
    *,
    num_classes: int,
    count: int | None = None,
    controls: Sequence[Control] | None = None,
    text: TextFeatures | None = None,
    negative_text: TextFeatures | None = None,
) -> Conditions:
    """Build the conditions, one row per sample.

    Args:
        labels: class ids in [0, num_classes), one per sample; None for a model without classes.
        request: the control values of every sample, in pixels of an imagined source image.
        control_names: the fields of :class:`pippin.control.Control` that the model reads.
        num_classes: number of classes of the model.
        count: number of samples; needed only without labels.
        controls: one per sample, where the request leaves them to the data.
        text, negative_text: for a text model, one row per sample.

    Raises:
        ValueError: a label that does not exist, an unknown control name, or a control value
            other than the default that the model has no input for.
    """
    if labels is None and count is None:
        raise ValueError("without labels, count must give the number of samples")
    if labels is not None and count not in (None, len(labels)):
        raise ValueError(f"count={count}, but there are {len(labels)} labels; leave count out")
    rows = len(labels) if labels is not None else (count or 0)
    return Conditions(
        label=None if labels is None else _checked_labels(labels, num_classes),
        text=text,
        negative_text=negative_text,
        control=_control_batch(request, control_names, rows, controls),
    )


def _checked_labels(labels: Sequence[int], num_classes: int) -> torch.Tensor:
    unknown = sorted({label for label in labels if not 0 <= label < num_classes})
    if unknown:
        raise ValueError(f"unknown labels {unknown}; the model knows 0 to {num_classes - 1}")
    return torch.tensor(list(labels), dtype=torch.long)


def _control_batch(
    request: ControlRequest,
    names: Collection[str],
    rows: int,
    controls: Sequence[Control] | None,
) -> ControlBatch:
    if (request.ask == "fixed") != (controls is None) or len(controls or ()) not in (0, rows):
        raise ValueError(
            f"sampling.control.ask {request.ask}: controls must "
            + ("be left out" if request.ask == "fixed" else f"be given, one for each of {rows}")
        )
    stacked = stack_controls(controls or [fixed_control(request)])
    unknown = sorted(set(names) - set(stacked))
    if unknown:
        raise ValueError(f"unknown controls {unknown}; there are: {', '.join(stacked)}")
    if request.ask == "fixed":
        _check_effect(request, names)
    return {
        name: value.expand(rows, -1).clone() for name, value in stacked.items() if name in names
    }


def fixed_control(request: ControlRequest) -> Control:
    """The control of a request with ``ask`` fixed."""
    return Control(
        **{name: getattr(request, name) for name in AUGMENTATION_FIELDS},
        original_size=Size(*request.original_size),
        crop_corner=Corner(*request.crop_corner),
        crop_size=Size(*(request.crop_size or request.original_size)),
        flip=request.flip,
    )


def _check_effect(request: ControlRequest, names: Collection[str]) -> None:
    """Refuse a requested value that no input of the model carries."""
    default, unused = ControlRequest(), []
    for field in (entry.name for entry in fields(Control)):
        carriers = {field}
        if field == "original_size" and request.crop_size is None:
            carriers.add("crop_size")
        if getattr(request, field) != getattr(default, field) and not carriers & set(names):
            unused.append(f"{field}={getattr(request, field)}")
    whole_image = request.crop_size is None and {"crop_corner", "crop_size"} <= set(names)
    if whole_image and request.crop_corner != (0, 0):
        raise ValueError(
            f"sampling.control.crop_corner {request.crop_corner} leaves no room for a crop_size "
            "that is the whole image; give sampling.control.crop_size too"
        )
    if unused:
        raise ValueError(
            f"the model is not conditioned on {', '.join(unused)}; leave it at its default "
            f"(the model takes: {', '.join(sorted(names)) or 'no control'})"
        )
