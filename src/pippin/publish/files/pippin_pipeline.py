# SPDX-License-Identifier: Apache-2.0
"""Pipeline of a model that pippin trained and that no class of diffusers computes."""

from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput


class PippinPipeline(DiffusionPipeline):
    """Text-to-image, class-conditional or unconditional pipeline with pippin's own sampler.

    Args:
        model: the component in the folder ``model``.
    """

    model_cpu_offload_seq = "model"

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.register_modules(model=model)

    @torch.no_grad()
    def __call__(
        self,
        prompt: "str | list[str] | None" = None,
        class_labels: "int | str | list[int | str] | None" = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | None = None,
        seeds: "list[int] | None" = None,
        sampling: dict[str, Any] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Draw images.

        Args:
            prompt: text, for a text model.
            class_labels: class names or ids, for a class-conditional model.
            num_inference_steps, guidance_scale, guidance_rescale: None = as trained.
            negative_prompt: for a text model with guidance.
            height, width: in pixels, together, where the positions of the model allow it.
            num_images_per_prompt: images of each prompt or class.
            generator: draws the seeds if there are none.
            seeds: seed of each image; the image is that of ``pippin sample --seeds``.
            sampling: further settings of pippin's ``sampling``, such as
                ``{"solver": "dpm++", "control": {"flip": True}}``.
            output_type: pil, np or pt (values in [0, 1]).
            return_dict: give ``ImagePipelineOutput``, otherwise a tuple.

        Raises:
            ValueError: another condition than the model reads, or a setting that it lacks.
        """
        prompts = self._prompts(prompt, class_labels, num_images_per_prompt)
        if seeds is None:
            seeds = torch.randint(2**31, (len(prompts),), generator=generator).tolist()
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} images and {len(seeds)} seeds: give equal numbers")
        changes = dict(sampling or {})
        if num_inference_steps is not None:
            changes["steps"] = num_inference_steps
        for name, value in (("semantic_scale", guidance_scale), ("rescale", guidance_rescale)):
            if value is not None:
                changes["guidance"] = {**changes.get("guidance", {}), name: value}
        if negative_prompt is not None:
            changes["negative_prompt"] = negative_prompt
        if (height is None) != (width is None):
            raise ValueError(f"give height and width together; got {height} and {width}")
        if height is not None:
            changes["size"] = f"{height}x{width}"
        images = _output(self.model.images(prompts, seeds, changes), output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _prompts(self, prompt: Any, class_labels: Any, count: int) -> list[Any]:
        """Prompt of each image."""
        names = {"text": "prompt", "label": "class_labels", "none": None}
        expected = names[self.model.kind]
        given = {"prompt": prompt, "class_labels": class_labels}
        if any((value is not None) != (name == expected) for name, value in given.items()):
            raise ValueError(
                f"this model needs {expected or 'neither prompt nor class_labels'}; got "
                f"prompt={prompt!r}, class_labels={class_labels!r}"
            )
        values = given.get(expected or "", 0)
        values = list(values) if isinstance(values, (list, tuple)) else [values]
        return [value for value in values for _ in range(count)]


def _output(images: torch.Tensor, output_type: str) -> Any:
    """Images of uint8 in the requested type."""
    if output_type == "pt":
        return images.float() / 255
    array = images.permute(0, 2, 3, 1).numpy()
    if output_type == "np":
        return array.astype("float32") / 255
    from PIL import Image

    return [Image.fromarray(image) for image in array]
