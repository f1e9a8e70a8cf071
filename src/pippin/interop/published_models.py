# SPDX-License-Identifier: Apache-2.0
"""Published weights as pippin models, with the calling convention of the published classes."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pippin.conditioning.conditioner import Prepared, keep_all
from pippin.conditioning.config import LabelSemantic
from pippin.denoisers.ddt.published import PUBLISHED as DDT
from pippin.denoisers.denoiser import DecoupledDenoiser
from pippin.denoisers.dit.published import PUBLISHED as DIT
from pippin.denoisers.jit.published import PUBLISHED as JIT
from pippin.denoisers.mdtv2.published import PUBLISHED as MDTV2
from pippin.denoisers.mmdit.published import PUBLISHED as MMDIT
from pippin.denoisers.pixart.published import PUBLISHED as PIXART
from pippin.denoisers.unet.published import PUBLISHED as UNET
from pippin.denoisers.weights.arguments import Arguments, ModelSpec
from pippin.denoisers.weights.formats import FixedPositions, PublishedFormat
from pippin.interop.load_model import LoadedModel, load_model
from pippin.interop.separate_guidance import Interval, guide, guide_velocity
from pippin.nn.positions import sincos_2d
from pippin.sampling.guidance import power_cosine
from pippin.types import NUM_TIMES, Conditions, Masking, Prediction, TextFeatures

SOURCES: dict[str, PublishedFormat] = {
    **DIT,
    **MDTV2,
    **PIXART,
    **MMDIT,
    **UNET,
    **JIT,
    **DDT,
}
"""Published classes by name."""


def configure(source: str, settings: Mapping[str, Any]) -> ModelSpec:
    """Pippin's description of a published model.

    Raises:
        ValueError: an unknown source or argument, or an unsupported value; it is named.
    """
    if source not in SOURCES:
        raise ValueError(f"no source {source!r}; there are: {', '.join(SOURCES)}")
    arguments = Arguments(source, settings)
    spec = SOURCES[source].read(arguments)
    arguments.check_all_used()
    return spec


NULL_CLASS = "conditioner.label_vector.weight, its null row"


def load_reference(
    source: str, state_dict: Mapping[str, Tensor], **constructor_arguments: Any
) -> "Reference":
    """Load a published model's weights into a pippin model.

    Args:
        source: dit, sit, lightningdit, mdtv2, pixart, pixart_ms, mmdit_sd3, ldm_unet, jit or ddt.
        state_dict: tensors under the published names.
        constructor_arguments: arguments of the published class; others have its defaults.

    Raises:
        ValueError: an unknown source or argument, an unsupported value, or weights that do not
            fit; the message names it.
    """
    spec = configure(source, constructor_arguments)
    _check_side(stored_side(source, state_dict, spec), spec)
    state, null_class = _with_null_class(state_dict, spec)
    published = SOURCES[source]
    if published.prepare is not None:
        state = dict(published.prepare(spec, state))
    loaded = load_model(source, spec, published.table, state, may_lack=published.zero_filled)
    if published.fixed_positions is not None and "pos_embed" in state:
        side = _patches_a_side(state["pos_embed"])
        _check_positions(state["pos_embed"], side, published.fixed_positions(spec.denoiser, side))
    zero_filled = (*loaded.zero_filled, *null_class)
    return Reference(**vars(replace(loaded, zero_filled=zero_filled)))


def stored_side(source: str, state_dict: Mapping[str, Tensor], spec: ModelSpec) -> int | None:
    """Published ``input_size`` that the weights were built for; None if unknown."""
    if not SOURCES[source].stores_side or "pos_embed" not in state_dict:
        return None
    return _patches_a_side(state_dict["pos_embed"]) * spec.denoiser.side_multiple


class Reference(LoadedModel):
    """Converted model with the published calling convention."""

    def __call__(
        self,
        x: Tensor,
        t: Tensor | None = None,
        *,
        timestep: Tensor | None = None,
        timesteps: Tensor | None = None,
        y: Tensor | None = None,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        img_hw: Tensor | None = None,
        aspect_ratio: Tensor | None = None,
        enable_mask: bool = False,
        mask_noise: Tensor | None = None,
        mask_ratio_draw: Tensor | float | None = None,
        s: Tensor | None = None,
    ) -> Tensor:
        """Output of the published ``forward``, including learned variance channels.

        Args:
            x: (N, C, H, W).
            t, timestep, timesteps: (N,), under the name and in the unit of the published class.
            y: class ids (dit, sit, lightningdit, mdtv2, jit, ddt; the null class is num_classes),
                caption features (pixart) or the pooled vector (mmdit_sd3).
            context: tokens (mmdit_sd3, ldm_unet).
            mask: mask of caption tokens (pixart), non-zero for tokens that are attended to.
            img_hw, aspect_ratio: image shape (pixart_ms).
            enable_mask, mask_noise, mask_ratio_draw: MDT's masked pass and its random numbers.
            s: state of ddt's encoder from :meth:`state`; times and classes then have no effect.

        Raises:
            ValueError: an input that the model needs is missing.
        """
        if s is not None:
            return self._sign * self._decoupled().decode(x, s)
        time = next((v for v in (t, timestep, timesteps) if v is not None), None)
        if time is None:
            raise ValueError("the times are missing; give them as t, timestep or timesteps")
        times = self._times(torch.as_tensor(time).float().expand(len(x)))
        prepared = self._prepare(len(x), y, context, mask, img_hw, aspect_ratio)
        if not enable_mask:
            return self._sign * _concatenated(self.model(x, times, prepared))
        if mask_noise is None or mask_ratio_draw is None:
            raise ValueError("enable_mask=True needs mask_noise and mask_ratio_draw")
        masking = Masking(order=mask_noise, ratio_position=float(mask_ratio_draw))
        prediction = self.model(x, times, prepared, masking.to(x.device))
        assert prediction.aux is not None
        return _concatenated(prediction.aux)

    def state(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """State that ddt's encoder passes to its decoder, (N, tokens, width).

        Raises:
            ValueError: a source without an encoder.
        """
        denoiser = self._decoupled()
        times = self._times(torch.as_tensor(t).float().expand(len(x)))
        prepared = self._prepare(len(x), y, None, None, None, None)
        return denoiser.encode(x, prepared.at(times))

    def _decoupled(self) -> DecoupledDenoiser:
        denoiser = self.model.denoiser.decoupled()
        if denoiser is None:
            raise ValueError(f"{self.source} has no encoder with a state; ddt has one")
        return denoiser

    def guided(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        cfg_scale: Tensor | float = 1.0,
        cfg_interval: bool | Interval = False,
        cfg_interval_start: Tensor | float = 0.0,
        *,
        y_guided: Tensor | None = None,
        t_eps: Tensor | float = 0.05,
    ) -> Tensor:
        """Published guided call: halves of the batch are conditional and unconditional.

        The first half of ``x`` is used for both. Only the first three channels are guided; MDT's
        scale grows with time from 1 (Gao et al. 2023, power-cosine with exponent 4).

        ddt and jit guide all channels of all rows, for the classes ``y_guided``; jit returns
        velocities (data - noise).

        Args:
            cfg_interval, cfg_interval_start: of lightningdit: no guidance where the first row's
                time is below the start. Of jit: ``cfg_interval`` is (low, high), outside which a
                row is not guided.
            y_guided: class ids of jit and ddt, without the null class.
            t_eps: of jit: smallest divisor of a velocity.

        Raises:
            ValueError: a source whose published class has no such call, or no interval; or an
                input is missing.
        """
        guided = SOURCES[self.source].guided
        if guided in ("separate", "velocity"):
            classes = _required("y_guided", y_guided)
            interval = None if isinstance(cfg_interval, bool) else cfg_interval
            return self._guided_for_classes(x, t, classes, cfg_scale, interval, float(t_eps))
        y = _required("y", y)
        self._check_halves(bool(cfg_interval))
        half = x[: len(x) // 2]
        out = self(torch.cat([half, half]), t, y=y)
        scale = torch.as_tensor(cfg_scale, dtype=out.dtype, device=out.device)
        if guided == "power-cosine":
            grown = power_cosine(scale, torch.as_tensor(t)[: len(half)], power=4)
            scale = grown.to(out)[:, None, None, None]
        kept, rest = out[:, :3], out[:, 3:]
        conditional, unconditional = kept.chunk(2)
        mixed = unconditional + scale * (conditional - unconditional)
        if cfg_interval and bool(torch.as_tensor(t)[0] < cfg_interval_start):
            mixed = conditional
        return torch.cat([torch.cat([mixed, mixed]), rest], dim=1)

    def _guided_for_classes(
        self,
        x: Tensor,
        t: Tensor,
        classes: Tensor,
        scale: Tensor | float,
        interval: Interval | None,
        t_eps: float,
    ) -> Tensor:
        """Guided call of ddt and jit, for all rows and channels."""
        null, times = self.spec.num_classes, torch.as_tensor(t).float().expand(len(x))

        def predict(y: Tensor) -> Tensor:
            return self(x, times, y=y)

        if SOURCES[self.source].guided == "separate":
            return guide(predict, classes, null, scale)
        return guide_velocity(predict, x, times, classes, null, scale, interval, t_eps)

    def _check_halves(self, with_interval: bool) -> None:
        """Refuse a source without a guided call of halves, and an interval that it lacks."""
        guided = SOURCES[self.source].guided
        if guided is None:
            having = " and ".join(name for name, source in SOURCES.items() if source.guided)
            raise ValueError(f"{self.source} has no guided call; {having} have one")
        if with_interval and guided != "interval":
            having = " and ".join(
                name for name, source in SOURCES.items() if source.guided == "interval"
            )
            raise ValueError(f"the guided call of {self.source} has no cfg_interval; {having} has")

    def _times(self, published: Tensor) -> Tensor:
        """Times in [0, 1000]."""
        return NUM_TIMES * (1 - published) if SOURCES[self.source].data_time else published

    @property
    def _sign(self) -> int:
        """-1 for a published velocity towards data."""
        flow = self.spec.diffusion.prediction == "flow"
        return -1 if flow and SOURCES[self.source].data_time else 1

    def _prepare(
        self,
        batch: int,
        y: Tensor | None,
        context: Tensor | None,
        mask: Tensor | None,
        img_hw: Tensor | None,
        aspect_ratio: Tensor | None,
    ) -> Prepared:
        """Conditions from the published inputs."""
        keep, published = keep_all(batch), SOURCES[self.source]
        if isinstance(self.spec.conditioning.semantic, LabelSemantic):
            label = torch.as_tensor(_required("y", y)).cpu()
            keep.semantic.copy_(label != self.spec.num_classes)
            label = label.where(keep.semantic, torch.zeros_like(label))
            return self.model.prepare(Conditions(label=label, control={}), keep)
        if published.tokens == "y":
            tokens = _required("y", y).squeeze(1)
            flags = None if mask is None else mask.reshape(batch, -1) != 0
            text = TextFeatures(tokens=tokens, mask=flags)
        else:
            tokens = _required("context", context)
            pooled = _required("y", y) if published.pooled else None
            text = TextFeatures(tokens=tokens, pooled=pooled)
        control = {}
        if self.spec.conditioning.image_shape:
            ratio = _required("aspect_ratio", aspect_ratio).reshape(-1, 1)
            control = {
                "original_size": _required("img_hw", img_hw),
                "crop_size": torch.cat([ratio, torch.ones_like(ratio)], dim=1),
            }
        return self.model.prepare(Conditions(text=text, control=control), keep)


def _required(name: str, value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError(f"this model needs the input {name}")
    return value


def _concatenated(prediction: Prediction) -> Tensor:
    parts = [prediction.mean, prediction.variance]
    return torch.cat([part for part in parts if part is not None], dim=1)


def _with_null_class(
    state: Mapping[str, Tensor], spec: ModelSpec
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Class table with a null row; a table trained without label dropout gets a row of zeros."""
    tensors, name = dict(state), "y_embedder.embedding_table.weight"
    if name not in tensors or len(tensors[name]) != spec.num_classes:
        return tensors, ()
    tensors[name] = torch.cat([tensors[name], torch.zeros_like(tensors[name][:1])])
    return tensors, (NULL_CLASS,)


def _patches_a_side(positions: Tensor) -> int:
    return math.isqrt(positions.shape[-2])


def _check_side(stored: int | None, spec: ModelSpec) -> None:
    """Refuse weights of another latent side than in the arguments: they would be trained and
    sampled at a resolution that they were not trained for."""
    if stored not in (None, spec.latent_side):
        raise ValueError(
            f"pos_embed is for latents of {stored} x {stored}, and input_size "
            f"is {spec.latent_side}: give input_size={stored}"
        )


def _check_positions(stored: Tensor, side: int, expected: FixedPositions) -> None:
    """Refuse weights whose fixed position table differs from the computed one."""
    step, hint = expected.step, expected.hint
    table = sincos_2d(side, side, stored.shape[-1], row_step=step, column_step=step)
    stored_table = stored.reshape(table.shape).float().cpu()
    if not torch.allclose(stored_table, table, atol=_rounding(stored)):
        raise ValueError(
            f"pos_embed is not the sine-cosine table of its grid{hint}, which pippin computes: "
            "these weights are not supported"
        )


def _rounding(stored: Tensor) -> float:
    """Largest rounding error of numbers up to 1 in the stored type, which remains after a cast to
    a wider type."""
    values = stored.float()
    for dtype in (torch.float8_e5m2, torch.float8_e4m3fn, torch.bfloat16, torch.float16):
        if torch.equal(values.to(dtype).float(), values):
            return torch.finfo(dtype).eps / 2
    return 1e-4
