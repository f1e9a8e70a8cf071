# SPDX-License-Identifier: Apache-2.0
"""LPIPS (Zhang et al. 2018) with backbone weights from a local file.

The package ``lpips`` contains the distance and its learned weights, version 0.1, and downloads its
backbone, AlexNet or VGG16 trained on ImageNet. Here the backbone is read from torchvision's file.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from pippin.config import ConfigError
from pippin.evaluation.features.weight_file import read_weight_file
from pippin.system.files import file_digest
from pippin.system.installation import pip_command
from pippin.types import Images

NETWORKS: dict[tuple[int, ...], str] = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}
"""Shape of the first layer -> name of the network in ``lpips``."""
FILES = "torchvision's alexnet-owt-7be5be79.pth or vgg16-397923af.pth, or such a .safetensors"
SMALLEST = 64


class Lpips:
    """LPIPS of image pairs; a :class:`pippin.evaluation.features.efflite0.PairDistance`.

    Args:
        path: torchvision's weights of AlexNet or VGG16; the classifier may be missing.
        device: device of the network.
        batch_size: number of pairs per forward pass.

    Raises:
        ConfigError: ``lpips`` is not installed, or the file holds other weights.
    """

    input_size: int | None = None
    """Images keep their own size; those below :data:`SMALLEST` pixels are enlarged to it."""

    def __init__(
        self, path: Path | str, device: torch.device | str = "cpu", batch_size: int = 64
    ) -> None:
        tensors = _read(Path(path))
        self.network = NETWORKS[tuple(tensors["features.0.weight"].shape)]
        self.name = f"LPIPS-{self.network}"
        self.fingerprint = file_digest(Path(path))[:16]
        self._model = _build(self.network, tensors, Path(path)).to(device)
        self._device, self._batch_size = device, batch_size

    def __call__(self, first: Images, second: Images) -> Float[Tensor, " batch"]:
        """Distance of each pair, float32 on the CPU."""
        pairs = zip(first.split(self._batch_size), second.split(self._batch_size), strict=True)
        return torch.cat([self._distance(a, b) for a, b in pairs])

    @torch.inference_mode()
    def _distance(self, first: Images, second: Images) -> Float[Tensor, " batch"]:
        pixels = (_enlarged(x.to(self._device).float() / 127.5 - 1) for x in (first, second))
        distances: Tensor = self._model(*pixels)
        return distances.flatten(1).mean(1).cpu()


def _enlarged(pixels: Tensor) -> Tensor:
    """Pixels enlarged to the smallest side that the networks can halve."""
    if min(pixels.shape[-2:]) >= SMALLEST:
        return pixels
    return interpolate(pixels, size=(SMALLEST, SMALLEST), mode="bilinear", align_corners=False)


def _read(path: Path) -> dict[str, Tensor]:
    tensors = read_weight_file(path, "evaluation.lpips", FILES)
    first = tensors.get("features.0.weight")
    if first is None or tuple(first.shape) not in NETWORKS:
        raise ConfigError(f"evaluation.lpips: {path} is neither AlexNet nor VGG16; give {FILES}")
    return {name: value for name, value in tensors.items() if name.startswith("features.")}


def _build(network: str, tensors: dict[str, Tensor], path: Path) -> Any:
    try:
        import lpips
    except ImportError as error:
        raise ConfigError(
            f"evaluation.lpips needs the package lpips: {pip_command('lpips')}"
        ) from error
    model = lpips.LPIPS(net=network, pnet_rand=True, verbose=False)
    parameters = dict(
        model.net.named_parameters()
    )  # slice2.5.weight: layer 5 of torchvision's features
    source_names = {name: "features." + name.partition(".")[2] for name in parameters}
    missing = sorted(set(source_names.values()) - tensors.keys())
    if missing:
        raise ConfigError(f"evaluation.lpips: {path} lacks {', '.join(missing)}; give {FILES}")
    for name, source in source_names.items():
        parameters[name].data.copy_(tensors[source])
    return model.eval()
