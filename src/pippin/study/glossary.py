# SPDX-License-Identifier: Apache-2.0
"""Labels and one-line descriptions of metrics and controls for reports."""

from pippin.study.terms import EXACT, Group, Term

HEADINGS: dict[Group, str] = {
    "control": "Control",
    "samples": "Samples",
    "loss": "Held-out loss",
    "cost": "Size of the model",
    "other": "Other numbers",
}
"""Group of metrics -> heading of its lines in the table, in the order of the page."""


CONTROLS = {
    "original_size": ("original size", "the original size"),
    "crop_corner": ("crop corner", "the corner of the crop"),
    "flip": ("flip", "mirroring"),
    "jpeg_quality": ("JPEG quality", "the quality of compression"),
    "colour_jitter": ("colour jitter", "a change of colours"),
    "grain": ("grain", "film grain"),
}
"""Control -> its label, and its name within a sentence."""

_EFFECTS = {
    "original_size": (
        "How much sharper images become when a larger original size is requested; "
        "0 = the control has no effect."
    ),
    "crop_corner": (
        "How far the object moves, in image sides, when another crop is requested; "
        "0 = the control has no effect."
    ),
    "jpeg_quality": (
        "How much less compression changes images that were requested as compressed; "
        "0 = the control has no effect."
    ),
    "colour_jitter": (
        "How much darker images become when darkened colours are requested; "
        "0 = the control has no effect."
    ),
    "grain": (
        "How much grainier images become when grain is requested, in levels of 255; "
        "0 = the control has no effect."
    ),
    "flip": "Share of asymmetric images that are mirrored on request; 0 = no effect.",
}


PROFILE = "control profile "


def term(metric: str) -> Term:
    """Label and description of a metric; an unknown metric keeps its name and has no text."""
    if metric in EXACT:
        return EXACT[metric]
    if metric.startswith("zero-shot "):
        inner = metric.removeprefix("zero-shot ")
        text = f"{inner} of samples for another folder's captions, against that folder's images."
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
        text = "Criterion by which the best scale or request was chosen; not a quality metric."
        return Term(label=metric, text=text, group="samples")
    if metric.endswith(" at best request"):
        inner = metric.removesuffix(" at best request")
        if not term(inner).text:
            return _unknown(metric)
        text = f"{inner} at the best requested original size, on the half kept for it."
        return Term(label=metric, text=text, group="samples")
    if metric.endswith((" at best scale", " at scale 1")):
        inner, _, scale = metric.partition(" at ")
        text = f"{inner} at {scale} of guidance, on the half of the reference kept for it."
        return Term(label=metric, text=text, group="samples")
    if metric.startswith("accuracy "):
        return _accuracy(metric)
    if metric.startswith("caption R@"):
        text = "Share of samples whose own caption is among the nearest k of all captions."
        return Term(label=metric, text=text, group="other", leads=True)
    if " at log-SNR " in metric:
        text = "Squared error at one noise level; a high log-SNR is little noise."
        return Term(label=metric, text=text, group="loss")
    return _unknown(metric)


def _unknown(metric: str) -> Term:
    """A metric without description: of a custom execution, or misspelt."""
    return Term(label=metric, text="", group="other", leads=True)


def _profile(rest: str) -> Term:
    """Description of a point of a control profile, or of its centre."""
    control, _, where = rest.partition(" ")
    if where != "centre" and not where.startswith("at log-SNR "):
        return _unknown(f"{PROFILE}{rest}")
    label = f"control profile ({control_name(control)}), {where}"
    if where == "centre":
        return Term(
            label=label,
            text=(
                "Mean log-SNR at which knowing the control lowers the denoising error: low while "
                "the layout forms, high where only detail is left."
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
"""Attribute of a scene -> its name within a sentence."""
_CAPTION_KINDS = {"short", "medium", "long", "class"}
"""Kinds of captions; "class" for samples of class labels."""


def _accuracy(metric: str) -> Term:
    """``accuracy colour short shuffled`` and the like."""
    _, attribute, *rest = metric.split(" ")
    shuffled, caption_kinds = "shuffled" in rest, [word for word in rest if word != "shuffled"]
    if (
        attribute not in _STATED
        or not {*caption_kinds} <= _CAPTION_KINDS
        or len(caption_kinds) > 1
    ):
        return _unknown(metric)
    stated = _STATED[attribute]
    text = f"Share of samples that show {stated} that their caption or class states"
    text += f", for {caption_kinds[0]} captions" if caption_kinds else ""
    text += ", with shuffled captions: the chance level." if shuffled else "."
    return Term(label=metric, text=text, group="samples", leads=not shuffled and not caption_kinds)


def names() -> tuple[str, ...]:
    """Names of metrics that are the same in every study."""
    caption_kinds = [f"{kind} {control}" for kind in _OF_CONTROL for control in CONTROLS]
    return (*EXACT, "KID-efflite0", "FD-efflite0", *caption_kinds)


def control_name(control: str) -> str:
    """The label of a control on a page; "original_size at 24" is a point of its curve."""
    name, at, value = control.partition(" at ")
    return (CONTROLS[name][0] if name in CONTROLS else name) + at + value


def _in_sentence(control: str) -> str:
    name, at, value = control.partition(" at ")
    return (CONTROLS[name][1] if name in CONTROLS else name) + at + value


def _drift(control: str) -> Term:
    return Term(
        label=f"drift ({control_name(control)})",
        text=(
            "Perceptual distance between two images of one seed and class when only "
            f"{_in_sentence(control)} changes, after undoing that change itself; 0 = identical."
        ),
        group="control",
    )


def _excess(control: str) -> Term:
    return Term(
        label=f"excess drift ({control_name(control)})",
        text=(
            f"How much else changes in an image when only {_in_sentence(control)} changes, beyond "
            "what changes in real images; 0 = nothing."
        ),
        group="control",
    )


def _effect(control: str) -> Term:
    default = f"The response to {control}; 0 = the control has no effect."
    label = f"effect ({control_name(control)})"
    text = _EFFECTS.get(control.partition(" at ")[0], default)
    return Term(label=label, text=text, group="control", target=True)


def _asymmetric(control: str) -> Term:
    return Term(
        label=f"asymmetric images ({control_name(control)})",
        text="Share of images that differ enough from their mirror image to test mirroring on.",
        group="control",
    )


def _matched(control: str) -> Term:
    return Term(
        label=f"matched drift ({control_name(control)})",
        text=(
            f"Drift when {_in_sentence(control)} has a set share (default: half) of its effect on "
            "real images, reached by scaling control guidance: models are compared at equal "
            "effect."
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
        "Distance between samples and reference in Inception features; 0 = as close as a second "
        "set of reference images."
    ),
    "KID-": (
        "Distance between samples and training images, in features of another network than "
        "Inception; 0 = as close as a second set of training images. Not comparable with "
        "published KID."
    ),
    "FD-inception": (
        "Fréchet distance in features of an Inception that is not the published one: not FID."
    ),
    "sFD-": "Fréchet distance in spatial features of an Inception that is not the published one.",
    "IS-": "Inception score by an Inception that is not the published one.",
    "FD-": (
        "Fréchet distance in the same features; large with few samples even for real images. "
        "Not FID."
    ),
}
"""Prefix of a metric's name -> its text."""
