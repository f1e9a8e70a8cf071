# SPDX-License-Identifier: Apache-2.0
"""Pipeline of a class-conditional DiT, which pippin exported; it needs torch and diffusers only.

diffusers' own ``DiTPipeline`` draws other images from these weights: its time features divide by
half - 1 where the network was trained with half, and its null class is always 1000.
"""

from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor


class PippinDiTPipeline(DiffusionPipeline):
    """Class-conditional DiT with classifier-free guidance.

    Args:
        transformer: ``DiTTransformer2DModel``.
        vae: ``AutoencoderKL``, ``AutoencoderDC`` or ``AutoencoderTiny``.
        scheduler: any scheduler of the trained process.
        id2label: class id -> name.
        steps, guidance_scale: defaults of a call.
    """

    model_cpu_offload_seq = "transformer->vae"

    def __init__(
        self,
        transformer: Any,
        vae: Any,
        scheduler: Any,
        id2label: dict[Any, str] | None = None,
        steps: int = 50,
        guidance_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, vae=vae, scheduler=scheduler)
        self.register_to_config(id2label=id2label, steps=steps, guidance_scale=guidance_scale)
        for block in transformer.transformer_blocks:
            block.norm1.emb.time_proj.downscale_freq_shift = 0

    @property
    def labels(self) -> dict[str, int]:
        """Name of a class -> its id."""
        names = self.config.id2label or {}
        return {name: int(number) for number, name in names.items()}

    def class_ids(self, labels: "int | str | list[int | str]") -> torch.Tensor:
        """Ids of classes that are given by name or id.

        Raises:
            ValueError: no such class.
        """
        count, ids = self.transformer.config.num_embeds_ada_norm, []
        for label in labels if isinstance(labels, (list, tuple)) else [labels]:
            number = self.labels.get(label) if isinstance(label, str) else int(label)
            if number is None or not 0 <= number < count:
                names = ", ".join(self.labels) or "no names are known"
                raise ValueError(f"no class {label!r}: give 0 to {count - 1}, or a name: {names}")
            ids.append(number)
        return torch.tensor(ids, device=self._execution_device)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: "int | str | list[int | str]",
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: "torch.Generator | list[torch.Generator] | None" = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Draw one image for each class.

        Args:
            class_labels: ids or names.
            num_inference_steps: steps of the scheduler; None = as exported.
            guidance_scale: 1 = no guidance; None = as exported.
            generator: generator of the initial noise.
            latents: initial noise (batch, channels, height, width) in place of the generator's.
            output_type: pil, np or pt (values in [0, 1]), or latent.
            return_dict: give ``ImagePipelineOutput``, otherwise a tuple.
        """
        steps = self.config.steps if num_inference_steps is None else num_inference_steps
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        ids = self.class_ids(class_labels)
        x = self._initial_noise(len(ids), generator, latents)
        for t in self.progress_bar(self._timesteps(steps)):
            mean = self._predict(self.scheduler_input(x, t), t, ids, scale)
            x = self.scheduler.step(mean, t, x).prev_sample
        images = x if output_type == "latent" else self._decode(x, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def scheduler_input(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """State as the network reads it: flow matching does not scale it."""
        has_scale = hasattr(self.scheduler, "scale_model_input")
        return self.scheduler.scale_model_input(x, t) if has_scale else x

    def _initial_noise(
        self, count: int, generator: Any, latents: torch.Tensor | None
    ) -> torch.Tensor:
        config, device = self.transformer.config, self._execution_device
        shape = (count, config.in_channels, config.sample_size, config.sample_size)
        if latents is None:
            latents = randn_tensor(
                shape, generator=generator, device=device, dtype=self.transformer.dtype
            )
        elif len(latents) != count:
            raise ValueError(f"{count} classes, and latents of {len(latents)} images: give equal")
        noise = latents.to(device, self.transformer.dtype)
        return noise * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def _timesteps(self, steps: int) -> torch.Tensor:
        """Times of the scheduler; flow matching takes equal steps of sigma from 1 to 1 / steps."""
        device = self._execution_device
        if type(self.scheduler).__name__.startswith("FlowMatch"):
            sigmas = np.linspace(1.0, 1.0 / steps, steps)
            self.scheduler.set_timesteps(sigmas=sigmas, device=device)
        else:
            self.scheduler.set_timesteps(steps, device=device)
        return self.scheduler.timesteps

    def _predict(
        self, x: torch.Tensor, t: torch.Tensor, ids: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Guided prediction without the channels of a learned variance."""
        channels = x.shape[1]
        if scale == 1:
            return self._forward(x, t, ids)[:, :channels]
        null = torch.full_like(ids, self.transformer.config.num_embeds_ada_norm)
        both = self._forward(torch.cat([x, x]), t, torch.cat([ids, null]))[:, :channels]
        conditional, unconditional = both.chunk(2)
        return unconditional + scale * (conditional - unconditional)

    def _forward(self, x: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        times = t.to(x.device).reshape(1).expand(len(x))
        output: torch.Tensor = self.transformer(x, timestep=times, class_labels=ids).sample
        return output

    def _decode(self, latents: torch.Tensor, output_type: str) -> Any:
        config = self.vae.config
        raw = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        pixels = self.vae.decode(raw.to(self.vae.dtype)).sample
        images = (pixels / 2 + 0.5).clamp(0, 1)
        if output_type == "pt":
            return images
        array = images.cpu().permute(0, 2, 3, 1).float().numpy()
        return self.numpy_to_pil(array) if output_type == "pil" else array
