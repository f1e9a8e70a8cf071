# SPDX-License-Identifier: Apache-2.0
"""LPIPS from a local backbone, against its formula written out."""

import lpips
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn.functional import normalize

from pippin.config import ConfigError
from pippin.evaluation.features.lpips_distance import Lpips

TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Layers of torchvision's features whose outputs are compared: the last rectified of a stage."""
BUILD = {"alex": torchvision.models.alexnet, "vgg": torchvision.models.vgg16}


@pytest.fixture(scope="module", params=["alex", "vgg"])
def backbone(request, tmp_path_factory):
    torch.manual_seed(0)
    features = BUILD[request.param](weights=None).features.eval()
    tensors = {f"features.{name}": value for name, value in features.state_dict().items()}
    path = tmp_path_factory.mktemp("lpips") / f"{request.param}.safetensors"
    save_file(tensors, path)
    return request.param, features, path


def by_formula(network, features, first, second):
    """Unit length over channels at each place, squared differences, learned weights, mean over
    places, sum over stages (section 3.1 and its code)."""
    heads = lpips.LPIPS(net=network, pnet_rand=True, verbose=False).lins
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    hidden = [(x / 127.5 - 1 - shift) / scale for x in (first, second)]
    total, stage = 0.0, 0
    for number, layer in enumerate(features):
        hidden = [layer(x) for x in hidden]
        if number in TAPS[network]:
            a, b = (normalize(x, dim=1, eps=1e-10) for x in hidden)
            weights = heads[stage].model[-1].weight  # (1, C, 1, 1)
            total = total + ((a - b).square() * weights).sum(1).mean((1, 2))
            stage += 1
    return total


def test_it_is_the_formula_with_the_weights_of_the_file(backbone):
    network, features, path = backbone
    draws = torch.Generator().manual_seed(1)
    first, second = torch.randint(0, 256, (2, 3, 3, 64, 64), generator=draws).to(torch.uint8)
    distance = Lpips(path, batch_size=2)
    assert distance.name == f"LPIPS-{network}"
    with torch.no_grad():
        expected = by_formula(network, features, first, second)
    torch.testing.assert_close(distance(first, second), expected, rtol=1e-4, atol=1e-6)
    assert distance(first, first).abs().max() == 0


def test_what_is_no_backbone_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(ConfigError, match=r"no file .*absent.pth; give torchvision's alexnet"):
        Lpips(tmp_path / "absent.pth")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="holds no readable weights"):
        Lpips(broken)
    other = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(8, 3, 3, 3)}, other)
    with pytest.raises(ConfigError, match="neither AlexNet nor VGG16"):
        Lpips(other)
    save_file({"features.0.weight": torch.full((64, 3, 3, 3), torch.nan)}, other)
    with pytest.raises(ConfigError, match=r"features\.0\.weight \(1728 NaN of 1728 numbers\)"):
        Lpips(other)
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3, dtype=torch.int8)}, other)
    with pytest.raises(ConfigError, match=r"quantised as int8: features\.0\.weight"):
        Lpips(other)
    half = tmp_path / "half.safetensors"
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, half)
    with pytest.raises(ConfigError, match=r"lacks features.0.bias"):
        Lpips(half)
