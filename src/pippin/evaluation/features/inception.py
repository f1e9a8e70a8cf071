# SPDX-License-Identifier: Apache-2.0
"""Inception network of published FID, from a local file of its weights.

It is InceptionV3 as trained in TensorFlow and published on 2015-12-05, not torchvision's. The
network and its TensorFlow 1 resize are those of torch-fidelity (Obukhov et al. 2020, Apache-2.0),
which tests them against the original graph. Three outputs are used:

- ``pool_3``, 2048 pooled features: FID (Heusel et al. 2017), KID, precision and recall;
- the first 7 channels of ``mixed_6/conv``, a 17 x 17 map, as 2023 numbers in the order row,
  column, channel: sFID (Nash et al. 2021, as in the evaluator of Dhariwal & Nichol 2021);
- 1008 logits without the last layer's bias: the Inception score (Salimans et al. 2016), as the
  published code computes it.
"""

import hashlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.config import ConfigError
from pippin.evaluation.features.input_check import check_images
from pippin.evaluation.features.published_files import INCEPTION_SHA256
from pippin.evaluation.features.weight_file import read_weight_file
from pippin.system.files import file_digest
from pippin.system.installation import pip_command
from pippin.types import Images

NAME = "inception"
"""Name of the features if the file is the published one; FID, sFID and IS need these."""
PUBLISHED = INCEPTION_SHA256
"""SHA-256 of the published weights."""
FILE = (
    "weights-inception-2015-12-05-6726825d.pth of torch-fidelity's releases, which is also "
    "pytorch-fid's pt_inception-2015-12-05-6726825d.pth"
)
PREPROCESSING = (
    "TensorFlow 1 bilinear resize to 299 without antialiasing, (x - 128) / 128; pool_3, "
    "mixed_6/conv[..., :7], logits without bias"
)
SPATIAL_CHANNELS = 7
SHAPES = {"fc.weight": (1008, 2048), "Mixed_6d.branch1x1.conv.weight": (192, 768, 1, 1)}
"""Tensor shapes that distinguish the file from other Inception networks."""


class InceptionOutputs(NamedTuple):
    """Outputs of the network, float32, on its device."""

    pooled: Float[Tensor, "batch 2048"]
    spatial: Float[Tensor, "batch 2023"]
    logits: Float[Tensor, "batch 1008"]


class Inception:
    """Inception features; a :class:`pippin.evaluation.features.extraction.FeatureExtractor` with
    two further outputs.

    Images of any size are resized to 299 as TensorFlow 1 did: bilinear, not antialiased, the
    corners not aligned, the aspect ratio not kept.

    Args:
        path: file of weights under torch-fidelity's names: ``.pth`` or ``.safetensors``.
        device: device of the network.

    Raises:
        ConfigError: torch-fidelity is not installed, or the file holds other weights.
    """

    dim = 2048
    input_size = 299

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        tensors = _read(Path(path))
        digest = file_digest(Path(path))
        self.name = NAME if digest == PUBLISHED else f"{NAME}-{digest[:8]}"
        self.fingerprint = hashlib.sha256(f"{PREPROCESSING}, {digest}".encode()).hexdigest()[:16]
        self._device = torch.device(device)
        self._network = _build(tensors, Path(path)).to(self._device)

    def __call__(self, images: Images) -> Float[Tensor, "batch 2048"]:
        """Pooled features."""
        return self.outputs(images).pooled

    @torch.inference_mode()
    def outputs(self, images: Images) -> InceptionOutputs:
        """All outputs in one forward pass.

        Raises:
            ValueError: not uint8 images (batch, 3, height, width).
        """
        check_images(images)
        maps: list[Tensor] = []
        branch = self._network.Mixed_6d.branch1x1  # mixed_6/conv of the graph
        hook = branch.register_forward_hook(lambda _layer, _inputs, output: maps.append(output))
        try:
            pooled, logits = self._network(images.to(self._device))
        finally:
            hook.remove()
        spatial = maps[0][:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1)  # (batch, 17, 17, 7)
        return InceptionOutputs(pooled, spatial.flatten(1), logits)


def _read(path: Path) -> dict[str, Tensor]:
    tensors = read_weight_file(path, "evaluation.inception", FILE)
    shapes = {name: tuple(tensors[name].shape) for name in SHAPES if name in tensors}
    if shapes != SHAPES:
        raise ConfigError(
            f"evaluation.inception: {path} is not the Inception network of FID "
            f"(torchvision's is another network); give {FILE}"
        )
    return tensors


def _build(tensors: dict[str, Tensor], path: Path) -> Any:
    try:
        from torch_fidelity import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ConfigError(
            f"evaluation.inception needs the package torch-fidelity: {pip_command('fid')}"
        ) from error
    # The library unpickles its argument, so it gets tensors that were read without unpickling.
    buffer = io.BytesIO()
    torch.save(dict(tensors), buffer)
    buffer.seek(0)
    try:
        return FeatureExtractorInceptionV3(NAME, ["2048", "logits_unbiased"], buffer)
    except RuntimeError as error:  # missing tensors or other shapes
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"evaluation.inception: {path}: {reason}; give {FILE}") from error
