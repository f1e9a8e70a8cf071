# SPDX-License-Identifier: Apache-2.0
"""What the metrics and controls are, in words of one line: a report is read without the code."""

from dataclasses import dataclass
from typing import Literal

Group = Literal["control", "samples", "loss", "cost", "other"]

HEADINGS: dict[Group, str] = {
    "control": "Control",
    "samples": "Samples",
    "loss": "Held-out loss",
    "cost": "Size of the model",
    "other": "Other numbers",
}
"""Group -> heading of its lines in the table, in the order of the page."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One metric in words."""

    label: str
    text: str
    """One sentence; empty for a metric that is not known here."""
    group: Group
    leads: bool = False
    """Shown without being asked for."""
    target: bool = False
    """Neither more nor less is better, but what is nearest to real pictures' value."""


CONTROLS = {
    "original_size": ("original size", "the original size"),
    "crop_corner": ("crop corner", "the corner of the crop"),
    "flip": ("flip", "mirroring"),
    "jpeg_quality": ("JPEG quality", "the quality of compression"),
    "colour_jitter": ("colour jitter", "a change of colours"),
    "grain": ("grain", "film grain"),
}
"""Control -> how it is called, and how a sentence calls it."""

_EFFECTS = {
    "original_size": (
        "How much sharper the pictures become when a larger original size is asked for; "
        "0 = the request is ignored."
    ),
    "crop_corner": (
        "How far the object moves, in picture sides, when another crop is asked for; "
        "0 = the request is ignored."
    ),
    "jpeg_quality": (
        "How much less compression changes in pictures that were asked for compressed; "
        "0 = the request is ignored."
    ),
    "colour_jitter": (
        "How much darker pictures become when darkened colours are asked for; "
        "0 = the request is ignored."
    ),
    "grain": (
        "How much grainier pictures become when grain is asked for, in levels of 255; "
        "0 = the request is ignored."
    ),
    "flip": "Share of lopsided pictures that are mirrored on request; 0 = it is ignored.",
}

_EXACT = {
    "coverage": Term(
        label="coverage",
        text="Share of real training pictures that have a sample near them: variety; 1 = all.",
        group="samples",
        leads=True,
    ),
    "precision": Term(
        label="precision",
        text="Share of samples that lie near real pictures: realism; 1 = all.",
        group="samples",
    ),
    "recall": Term(
        label="recall",
        text="Share of real pictures inside the region that the samples fill; 1 = all.",
        group="samples",
    ),
    "density": Term(
        label="density",
        text="How tightly samples lie among real pictures; real pictures reach about 1.",
        group="samples",
    ),
    "nearest training distance": Term(
        label="nearest training distance",
        text="Mean distance from a sample to the nearest training picture, in features.",
        group="samples",
    ),
    "near copies": Term(
        label="near copies",
        text=(
            "Share of samples that lie nearer to a training picture than all but 5 % of real "
            "held-out pictures do: far above 0.05 means memorised."
        ),
        group="samples",
    ),
    "best semantic scale": Term(
        label="best semantic scale",
        text="The guidance scale with the smallest KID, found on samples of its own.",
        group="samples",
    ),
    "fitted semantic scale": Term(
        label="fitted semantic scale",
        text="Where a parabola through the KIDs of the search has its smallest value.",
        group="samples",
    ),
    "fitted guidance per 64 px": Term(
        label="fitted guidance per 64 px",
        text=(
            "How far the fitted scale lies above 1, for 64 pixels of side: the same at all "
            "resolutions if the law of scales holds."
        ),
        group="samples",
        leads=True,
    ),
    "CLIP score": Term(
        label="CLIP score",
        text=(
            "Does a picture show its caption? 100 times the cosine of the two in a CLIP; scores "
            "of different CLIPs cannot be compared."
        ),
        group="samples",
        leads=True,
    ),
    "CLIP score shuffled": Term(
        label="CLIP score shuffled",
        text="The same with captions exchanged among the pictures: what any caption reaches.",
        group="samples",
    ),
    "FID": Term(
        label="FID",
        text=(
            "Fréchet distance in features of the published Inception; as papers' where reference "
            "and number of images are theirs."
        ),
        group="samples",
        leads=True,
    ),
    "sFID": Term(
        label="sFID",
        text="The same in features that know where: the first channels of an inner map.",
        group="samples",
    ),
    "IS": Term(
        label="IS",
        text="Inception score: sure and varied classes of ImageNet; knows no reference.",
        group="samples",
    ),
    "held-out loss": Term(
        label="held-out loss",
        text=(
            "Mean squared error of the predicted noise on pictures kept out of training, over a "
            "fixed grid of noise levels; predicting nothing gives 1."
        ),
        group="loss",
        leads=True,
    ),
    "held-out x0 loss": Term(
        label="held-out x0 loss",
        text="The same error, counted in the clean latent instead of the noise.",
        group="loss",
    ),
    "parameters": Term(
        label="parameters", text="Trained numbers in the model.", group="cost", leads=True
    ),
    "MACs": Term(
        label="MACs",
        text="Multiply-accumulates of one forward pass for one image (1 MAC = 2 FLOPs).",
        group="cost",
        leads=True,
    ),
}


def term(metric: str) -> Term:
    """The metric in words; an unknown one keeps its name and has no text."""
    if metric in _EXACT:
        return _EXACT[metric]
    if metric.startswith("zero-shot "):
        inner = metric.removeprefix("zero-shot ")
        text = f"{inner} of samples for another folder's captions, against that folder's pictures."
        return Term(label=metric, text=text, group="samples")
    for beginning, describe in _OF_CONTROL.items():
        if metric.startswith(f"{beginning} "):
            return describe(metric.removeprefix(f"{beginning} "))
    for beginning, text in _FEATURES.items():
        if metric.startswith(beginning):
            subsets = metric.endswith(" subsets")
            note = "The same over random subsets, as papers report it." if subsets else text
            leads = beginning.startswith("KID-") and not subsets
            return Term(label=metric, text=note, group="samples", leads=leads)
    if metric.startswith("LPIPS "):
        same = term(metric.removeprefix("LPIPS "))
        text = f"{same.text} Measured by LPIPS."
        return Term(label=f"{same.label}, LPIPS", text=text, group="control")
    if metric.startswith("search "):
        text = "What the best scale was chosen by; not to be reported as quality."
        return Term(label=metric, text=text, group="samples")
    if metric.endswith((" at best scale", " at scale 1")):
        inner, _, scale = metric.partition(" at ")
        text = f"{inner} at {scale} of guidance, on the half of the reference kept for it."
        return Term(label=metric, text=text, group="samples")
    if metric.startswith("accuracy "):
        return _accuracy(metric)
    if metric.startswith("caption R@"):
        text = "Share of samples whose own caption is among the nearest so many of all captions."
        return Term(label=metric, text=text, group="other", leads=True)
    if " at log-SNR " in metric:
        text = "Squared error at one noise level; a high log-SNR is little noise."
        return Term(label=metric, text=text, group="loss")
    return Term(label=metric, text="", group="other", leads=True)


_STATED = {
    "colour": "the colours",
    "shape": "the shapes, the right way round,",
    "size": "the sizes",
    "place": "the places",
    "count": "the number of objects",
    "relation": "the relation of the two objects",
    "background": "the background",
    "all": "all",
}
"""Attribute of a scene -> how a sentence calls it."""


def _accuracy(metric: str) -> Term:
    """``accuracy colour short shuffled`` and the like."""
    _, attribute, *rest = metric.split(" ")
    shuffled, kinds = "shuffled" in rest, [one for one in rest if one != "shuffled"]
    what = _STATED.get(attribute, attribute)
    text = f"Share of samples that show {what} that their caption or class states"
    text += f", for {kinds[0]} captions" if kinds else ""
    text += ", with captions exchanged among the samples: the floor." if shuffled else "."
    return Term(label=metric, text=text, group="samples", leads=not shuffled and not kinds)


def names() -> tuple[str, ...]:
    """Metrics that are called alike in every study."""
    kinds = [f"{kind} {control}" for kind in _OF_CONTROL for control in CONTROLS]
    return (*_EXACT, "KID-efflite0", "FD-efflite0", *kinds)


def control_name(control: str) -> str:
    """How a page calls a control; "original_size at 24" is a point of that control's curve."""
    name, at, value = control.partition(" at ")
    return (CONTROLS[name][0] if name in CONTROLS else name) + at + value


def _spoken(control: str) -> str:
    name, at, value = control.partition(" at ")
    return (CONTROLS[name][1] if name in CONTROLS else name) + at + value


def _drift(control: str) -> Term:
    return Term(
        label=f"drift ({control_name(control)})",
        text=(
            f"How different two pictures of one seed and class look when {_spoken(control)} is "
            "all that is asked to change, after undoing that change itself; 0 = identical."
        ),
        group="control",
    )


def _excess(control: str) -> Term:
    return Term(
        label=f"excess drift ({control_name(control)})",
        text=(
            f"How much else changes in a picture when {_spoken(control)} is all that is asked to "
            "change, beyond what changes in real pictures; 0 = nothing."
        ),
        group="control",
    )


def _effect(control: str) -> Term:
    known = f"How far {control} is obeyed; 0 = the request is ignored."
    label = f"effect ({control_name(control)})"
    text = _EFFECTS.get(control.partition(" at ")[0], known)
    return Term(label=label, text=text, group="control", target=True)


def _asymmetric(control: str) -> Term:
    return Term(
        label=f"lopsided pictures ({control_name(control)})",
        text="Share of pictures that differ enough from their mirror image to test mirroring on.",
        group="control",
    )


def _matched(control: str) -> Term:
    return Term(
        label=f"matched drift ({control_name(control)})",
        text=(
            f"Drift when {_spoken(control)} is obeyed half as much as real pictures show, by the "
            "scale of control guidance that it takes: models are compared at equal effect."
        ),
        group="control",
        leads=True,
    )


_OF_CONTROL = {
    "matched drift": _matched,
    "excess drift": _excess,
    "drift": _drift,
    "effect": _effect,
    "asymmetric images": _asymmetric,
}

_FEATURES = {
    "KID-inception": (
        "Distance between samples and reference in features of Inception; 0 = as one more set of "
        "the reference's pictures."
    ),
    "KID-": (
        "Distance between samples and training pictures, in features of another network than "
        "papers take; 0 = as one more set of training pictures. Not comparable with published "
        "KID."
    ),
    "FD-inception": (
        "Fréchet distance in features of an Inception that is not the published one: not FID."
    ),
    "sFD-": "Fréchet distance in spatial features of an Inception that is not the published one.",
    "IS-": "Inception score by an Inception that is not the published one.",
    "FD-": (
        "Fréchet distance in the same features; large with few samples even for real pictures. "
        "Not FID."
    ),
}
"""Beginning of a metric's name -> its text."""
