# SPDX-License-Identifier: Apache-2.0
"""Small models of every denoiser without zero weights, and their gradients of one step."""

import torch

from pippin.conditioning.config import ConditioningConfig
from pippin.control import Control, Corner, Size
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.pixart.config import pixart
from pippin.denoisers.unet.config import unet
from pippin.model import build_model
from pippin.training.blocks import checkpoint_blocks
from pippin.types import Conditions, Masking, stack_controls

KINDS = {
    "dit": dit("tiny", cross_attention=True),
    "mdtv2": mdtv2("tiny", (4, 4)),
    "pixart": pixart("tiny"),
    "mmdit": mmdit("tiny"),
    "unet": unet("tiny"),
}


def model_of(kind, every=0, denoiser=None, **conditioning):
    rule = "modulation" if kind in ("mdtv2", "ddt", "lightningdit") else "attention"
    model = build_model(
        ConditioningConfig(rules={"label": rule}, **conditioning),
        denoiser or KINDS[kind],
        num_classes=3,
        latent_channels=4,
        seed=0,
    )
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))
    checkpoint_blocks(model.denoiser.blocks, every)
    return model


def gradients(model, kind):
    """Output and gradients of one step, and the number of runs of each block."""
    draws = torch.Generator().manual_seed(2)
    whole = Control(
        original_size=Size(64, 64), crop_corner=Corner(0, 0), crop_size=Size(64, 64), flip=False
    )
    conditions = Conditions(label=torch.arange(3), control=stack_controls([whole] * 3))
    masking = Masking(order=torch.rand(3, 16, generator=draws), ratio_position=0.5)
    runs = [0] * len(model.denoiser.blocks)

    def count(place):
        def hook(*_):
            runs[place] += 1

        return hook

    hooks = [
        next(block.children()).register_forward_pre_hook(count(place))
        for place, block in enumerate(model.denoiser.blocks)
    ]
    x = torch.randn(3, 4, 8, 8, generator=draws)
    given = masking if kind == "mdtv2" else None
    output = model(x, torch.tensor([1.0, 500, 999]), model.prepare(conditions), given)
    parts = [output.mean] if output.aux is None else [output.mean, output.aux.mean]
    torch.stack([part.square().mean() for part in parts]).sum().backward()
    for hook in hooks:
        hook.remove()
    return output.mean.detach(), [p.grad for p in model.parameters()], runs
