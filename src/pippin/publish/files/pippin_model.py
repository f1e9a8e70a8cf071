# SPDX-License-Identifier: Apache-2.0
"""Component ``model`` of a pipeline: a model that pippin trained, with its encoders.

It needs an installed pippin, whose own code builds and samples the model, so that images are those
of ``pippin sample``. The weights beside this file are safetensors.
"""

from typing import Any

import torch

try:
    from pippin.config import ConfigError
    from pippin.sampling.config import SamplingConfig
    from pippin.sampling.load import load_run
    from pippin.sampling.sample import draw
except ImportError as error:  # diffusers would name an unrelated package of an index
    raise ImportError(
        "this pipeline needs pippin, which is in no package index: in a clone of its sources, "
        "type: pip install '.[text]'"
    ) from error


class PippinModel(torch.nn.Module):
    """Trained model and autoencoder, on one device.

    Args:
        run: the loaded model.
        precision: of its evaluations, fp32 or bf16; the weights stay fp32.
    """

    def __init__(self, run: Any, precision: str | None = None) -> None:
        super().__init__()
        self.run, self.precision = run, precision
        self.denoiser, self.autoencoder = run.model, run.components.autoencoder

    @classmethod
    def from_pretrained(
        cls, folder: str, torch_dtype: torch.dtype | None = None, **_: Any
    ) -> "PippinModel":
        """Load the model of a folder; the signature is that of diffusers.

        Raises:
            ValueError: a damaged folder, or a type that is neither float32 nor bfloat16.
        """
        precisions = {None: None, torch.float32: None, torch.bfloat16: "bf16"}
        if torch_dtype not in precisions:
            raise ValueError(
                f"pippin samples in float32 or bfloat16; got torch_dtype={torch_dtype}: leave it "
                "out, or give torch.bfloat16"
            )
        return cls(load_run(folder), precisions[torch_dtype])

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return torch.float32

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.denoiser.parameters()).device

    @property
    def kind(self) -> str:
        """Kind of the semantic condition: text, label, or none."""
        conditioning = self.run.recipe.conditioning
        return str(conditioning.semantic.kind) if conditioning.rules else "none"

    def prompt(self, value: Any) -> Any:
        """Prompt or class of an image as the model reads it: text, or a class id.

        Raises:
            ValueError: no such class.
        """
        if self.run.components.text_rule is not None:
            return str(value or "")
        return self.run.label_id(str(value)) if isinstance(value, str) else int(value or 0)

    def images(
        self, prompts: list[Any], seeds: list[int], changes: dict[str, Any]
    ) -> torch.Tensor:
        """Draw uint8 images (batch, 3, height, width) on the CPU.

        Args:
            prompts: text, class names or class ids, one for each seed.
            seeds: seeds of the initial noise, as ``pippin sample --seeds``.
            changes: changed settings of ``sampling``, as nested dictionaries.

        Raises:
            ValueError: a class or setting that the model does not have.
        """
        own = {} if self.precision is None else {"precision": self.precision}
        values = _merged(self.run.recipe.sampling.to_dict(), own | changes)
        try:
            config = SamplingConfig.from_dict(values)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return draw(self.run, [self.prompt(prompt) for prompt in prompts], seeds, config)


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries with changes."""
    result = dict(values)
    for name, change in changes.items():
        nested = isinstance(change, dict) and isinstance(result.get(name), dict)
        result[name] = _merged(result[name], change) if nested else change
    return result
