# SPDX-License-Identifier: Apache-2.0
"""Models that a pipeline of diffusers draws as pippin does, and what keeps the others from it.

A pipeline fixes more than its network: how a prompt is tokenised and padded, what replaces a
dropped caption, and how latents are scaled. Each difference is an obstacle with the name of its
setting.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pippin.conditioning.config import TextSemantic
from pippin.denoisers.weights.arguments import ModelSpec
from pippin.interop.diffusers_config import class_of
from pippin.interop.diffusers_format import Exported
from pippin.publish.text_parts import Component, TextPart, text_parts
from pippin.recipes.recipe import Recipe

ABSENT: Component = (None, None)
DIT_PIPELINE = "DiTPipeline"


@dataclass(frozen=True, kw_only=True)
class Standard:
    """Pipeline class of diffusers, with what its folders hold."""

    encoders: tuple[str, ...] = ()
    """Class of transformers of each text encoder."""
    fixed: dict[str, Any] = field(default_factory=dict)
    """Further entries of ``model_index.json``."""
    obstacles: Callable[[Recipe, TextSemantic, list[TextPart]], Iterator[str]]
    """Settings that the pipeline does not follow."""
    call: Callable[[Recipe], dict[str, str]]
    """Recipe -> arguments, as source text, with which a call draws pippin's images."""
    note: str = ""
    rescales: bool = False
    """Whether a call takes ``guidance_rescale``."""


def find_obstacles(recipe: Recipe, spec: ModelSpec, exported: Exported) -> list[str]:
    """Reasons why no pipeline of diffusers draws a model's images; empty = one does.

    Args:
        recipe: with resolved paths.
        spec: description of the model.
        exported: its denoiser in diffusers' format.

    Raises:
        ValueError: a text encoder is not there.
    """
    name = class_of(spec.denoiser.kind).pipeline
    side = exported.arguments["sample_size"]
    obstacles = list(_different("side of the latents", spec.latent_side, side))
    if name == DIT_PIPELINE:
        return obstacles
    semantic = recipe.conditioning.semantic
    if not isinstance(semantic, TextSemantic):
        return [f"{name} reads text; conditioning.semantic is {semantic.kind}"]
    standard, parts = STANDARDS[name], text_parts(recipe.text)
    kinds = [part.kind for part in parts]
    expected = ["t5" if "T5" in encoder else "clip" for encoder in standard.encoders]
    if kinds != expected:
        encoders = f"{', '.join(expected)}; here are {', '.join(kinds)}"
        return [f"text.source: {name} reads {encoders}"]
    obstacles += _different("conditioning.semantic.null", semantic.null, "empty")
    return [*obstacles, *standard.obstacles(recipe, semantic, parts)]


def _stable_diffusion(
    recipe: Recipe, semantic: TextSemantic, parts: list[TextPart]
) -> Iterator[str]:
    yield from _different("text.layer", recipe.text.layer, "last")
    yield from _different("conditioning.semantic.padding", semantic.padding, "native")
    tokens = parts[0].max_tokens
    yield from _different("conditioning.semantic.num_tokens", semantic.num_tokens, tokens)


def _stable_diffusion_3(
    recipe: Recipe, semantic: TextSemantic, parts: list[TextPart]
) -> Iterator[str]:
    yield from _different("text.combine", recipe.text.combine, "sd3")
    yield from _different("conditioning.semantic.padding", semantic.padding, "native")


def _pixart(recipe: Recipe, semantic: TextSemantic, parts: list[TextPart]) -> Iterator[str]:
    yield from _different("conditioning.semantic.padding", semantic.padding, "mask")
    yield from _different("conditioning.image_shape", recipe.conditioning.image_shape, False)


def _different(name: str, value: Any, expected: Any) -> Iterator[str]:
    if value != expected:
        yield f"{name} {value}: the pipeline has {expected}"


def _steps(recipe: Recipe) -> dict[str, str]:
    sampling = recipe.sampling
    return {
        "num_inference_steps": str(sampling.steps),
        "guidance_scale": str(sampling.guidance.semantic_scale),
    }


def _stable_diffusion_call(recipe: Recipe) -> dict[str, str]:
    """With ``guidance_rescale``, which is that of pippin."""
    rescale = recipe.sampling.guidance.rescale
    return _steps(recipe) | ({"guidance_rescale": str(rescale)} if rescale else {})


def _sd3_call(recipe: Recipe) -> dict[str, str]:
    """Equal steps of sigma down to 1 / steps, and the number of T5's tokens: diffusers has other
    defaults for both."""
    semantic, steps = recipe.conditioning.semantic, recipe.sampling.steps
    assert isinstance(semantic, TextSemantic)
    own = {"sigmas": f"[1 - k / {steps} for k in range({steps})]"}
    own["max_sequence_length"] = f"{semantic.num_tokens} - pipe.tokenizer_max_length"
    return _steps(recipe) | own


def _pixart_call(recipe: Recipe) -> dict[str, str]:
    semantic = recipe.conditioning.semantic
    assert isinstance(semantic, TextSemantic)
    own = {"max_sequence_length": str(semantic.num_tokens), "clean_caption": "False"}
    return _steps(recipe) | own | {"use_resolution_binning": "False"}


STANDARDS = {
    "StableDiffusionPipeline": Standard(
        encoders=("CLIPTextModel",),
        fixed={
            "safety_checker": ABSENT,
            "feature_extractor": ABSENT,
            "image_encoder": ABSENT,
            "requires_safety_checker": False,
        },
        obstacles=_stable_diffusion,
        call=_stable_diffusion_call,
        rescales=True,
    ),
    "StableDiffusion3Pipeline": Standard(
        encoders=("CLIPTextModelWithProjection", "CLIPTextModelWithProjection", "T5EncoderModel"),
        fixed={"image_encoder": ABSENT, "feature_extractor": ABSENT},
        obstacles=_stable_diffusion_3,
        call=_sd3_call,
        note="other numbers of steps need sigmas of their own: equal steps from 1 to 1 / steps",
    ),
    "PixArtAlphaPipeline": Standard(
        encoders=("T5EncoderModel",),
        obstacles=_pixart,
        call=_pixart_call,
        note="PixArtAlphaPipeline lower-cases prompts, which pippin does not",
    ),
}
"""Pipeline classes of diffusers by name."""
