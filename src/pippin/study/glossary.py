# SPDX-License-Identifier: Apache-2.0
"""What the metrics and controls are, in words of one line: a report is read without the code."""

from pippin.study.terms import EXACT, Group, Term

HEADINGS: dict[Group, str] = {
    "control": "Control",
    "samples": "Samples",
    "loss": "Held-out loss",
    "cost": "Size of the model",
    "other": "Other numbers",
}
"""Group -> heading of its lines in the table, in the order of the page."""


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


PROFILE = "control profile "


def term(metric: str) -> Term:
    """The metric in words; an unknown one keeps its name and has no text."""
    if metric in EXACT:
        return EXACT[metric]
    if metric.startswith("zero-shot "):
        inner = metric.removeprefix("zero-shot ")
        text = f"{inner} of samples for another folder's captions, against that folder's pictures."
        return Term(label=metric, text=text, group="samples")
    if metric.startswith(PROFILE):
        return _profile(metric.removeprefix(PROFILE))
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
        text = "What the best scale or request was chosen by; not to be reported as quality."
        return Term(label=metric, text=text, group="samples")
    if metric.endswith(" at best request"):
        inner = metric.removesuffix(" at best request")
        if not term(inner).text:
            return _unknown(metric)
        text = f"{inner} at the best original size to ask for, on the half kept for it."
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
    return _unknown(metric)


def _unknown(metric: str) -> Term:
    """A metric without words: another execution's, or a misspelt one."""
    return Term(label=metric, text="", group="other", leads=True)


def _profile(rest: str) -> Term:
    """A point of a control profile, or its centre."""
    control, _, where = rest.partition(" ")
    if where != "centre" and not where.startswith("at log-SNR "):
        return _unknown(f"{PROFILE}{rest}")
    label = f"control profile ({control_name(control)}), {where}"
    if where == "centre":
        return Term(
            label=label,
            text=(
                "At which log-SNR knowing the control lowers the denoising error, on average: low "
                "while the layout forms, high where only detail is left."
            ),
            group="control",
            leads=True,
        )
    text = "x0-error that a wrong value of the control adds at one noise level."
    return Term(label=label, text=text, group="control")


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
_KINDS = {"short", "medium", "long", "class"}
"""Of captions, and the class in their place."""


def _accuracy(metric: str) -> Term:
    """``accuracy colour short shuffled`` and the like."""
    _, attribute, *rest = metric.split(" ")
    shuffled, kinds = "shuffled" in rest, [one for one in rest if one != "shuffled"]
    if attribute not in _STATED or not {*kinds} <= _KINDS or len(kinds) > 1:
        return _unknown(metric)
    what = _STATED[attribute]
    text = f"Share of samples that show {what} that their caption or class states"
    text += f", for {kinds[0]} captions" if kinds else ""
    text += ", with captions exchanged among the samples: the floor." if shuffled else "."
    return Term(label=metric, text=text, group="samples", leads=not shuffled and not kinds)


def names() -> tuple[str, ...]:
    """Metrics that are called alike in every study."""
    kinds = [f"{kind} {control}" for kind in _OF_CONTROL for control in CONTROLS]
    return (*EXACT, "KID-efflite0", "FD-efflite0", *kinds)


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
            f"Drift when {_spoken(control)} has a stated share (half unless set) of its effect on "
            "real images, by the scale of control guidance that it takes: models are compared at "
            "equal effect."
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
