# SPDX-License-Identifier: Apache-2.0
"""DiT and mmDiT against numbers that the published implementations produced.

The golden files hold randomly drawn weights under the published key names, inputs and outputs on
CPU in fp32. Tolerance 1e-5 absolute on outputs of about unit size.
"""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from pippin.conditioning.conditioner import keep_all
from pippin.conditioning.config import ConditioningConfig, ControlConfig, LabelSemantic
from pippin.denoisers.config import DiTConfig, MMDiTConfig
from pippin.denoisers.mmdit import MMDiT
from pippin.model import build_model
from pippin.nn.fourier import TimeEmbedding
from pippin.types import Conditions, Embedded

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-5

SHARED = {
    r"x_embedder\.proj": "denoiser.patches.linear",
    r"t_embedder\.mlp\.0": "conditioner.time.linear_in",
    r"t_embedder\.mlp\.2": "conditioner.time.linear_out",
    r"y_embedder\.embedding_table": "conditioner.label_vector",
    r"final_layer\.adaLN_modulation\.1": "denoiser.output.modulation.linear",
    r"final_layer\.linear": "denoiser.output.linear",
    r"adaLN_modulation\.1": "modulation.linear",
    r"mlp\.fc1": "mlp.linear_in",
    r"mlp\.fc2": "mlp.linear_out",
}
DIT = SHARED | {
    r"^blocks": "denoiser.blocks",
    r"attn\.qkv": "attention.project_in.qkv",
    r"attn\.proj": "attention.project_out",
}
MMDIT = SHARED | {
    r"^joint_blocks": "denoiser.blocks",
    r"x_block": "image",
    r"context_block": "context",
    r"attn\.qkv": "attention_in.qkv",
    r"attn\.proj": "attention_out",
    r"attn\.ln_q\.weight": "attention_in.norm.query.gain",
    r"attn\.ln_k\.weight": "attention_in.norm.key.gain",
}


def read(name, renames):
    """Inputs, expected output, weights under our names."""
    tensors = {k: v.clone() for k, v in load_file(GOLDEN / f"{name}.safetensors").items()}
    weights = {}
    for key, value in tensors.items():
        if key.startswith("weights."):
            key = key.removeprefix("weights.")
            for pattern, ours in renames.items():
                key = re.sub(pattern, ours, key)
            weights[key] = value.flatten(1) if value.ndim == 4 else value
    inputs = {k.removeprefix("inputs."): v for k, v in tensors.items() if k.startswith("inputs.")}
    return inputs, tensors["outputs.sample"], weights


def test_dit_reproduces_the_published_outputs():
    inputs, expected, weights = read("dit", DIT)
    table = weights.pop("pos_embed")
    model = build_model(
        ConditioningConfig(
            semantic=LabelSemantic(),
            rules={"label": "modulation"},
            control=ControlConfig(high=(), low=()),
        ),
        DiTConfig(depth=3, width=64, num_heads=4, learn_variance=True),
        num_classes=10,
        latent_channels=4,
        seed=None,
    )
    model.load_state_dict(weights)
    keep = keep_all(3)
    keep.semantic[:] = inputs["y"] != 10  # the published null class is row 10
    label = inputs["y"].clamp(max=9)
    prepared = model.prepare(Conditions(label=label, control={}), keep)
    output = model(inputs["x"], inputs["t"].float(), prepared)
    from pippin.nn.positions import sincos_2d

    assert torch.equal(sincos_2d(4, 4, 64), table[0])
    assert output.variance is not None
    torch.testing.assert_close(output.mean, expected[:, :4], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(output.variance, expected[:, 4:], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("name", "config", "side"),
    [
        ("mmdit_sd3", MMDiTConfig(depth=2, width=64, num_heads=4, qk_norm=False), 8),
        ("mmdit_sd3_qknorm", MMDiTConfig(depth=3, width=48, num_heads=3, qk_norm=True), 9),
    ],
)
def test_mmdit_reproduces_the_published_outputs(name, config, side, monkeypatch):
    inputs, expected, weights = read(name, MMDIT)
    table = weights.pop("pos_embed").reshape(side, side, config.width)

    def cropped(rows, columns, width, device):
        top, left = (side - rows) // 2, (side - columns) // 2
        return table[top : top + rows, left : left + columns].reshape(-1, width)

    monkeypatch.setattr("pippin.denoisers.mmdit.sincos_2d", cropped)
    model = MMDiT(config, latent_channels=4)
    body = {k.removeprefix("denoiser."): v for k, v in weights.items() if k.startswith("denoiser")}
    model.load_state_dict(body)
    time = TimeEmbedding(256, config.width)
    prefix = "conditioner.time."
    time.load_state_dict(
        {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    )

    def linear(key, x):
        return F.linear(x, weights[f"{key}.weight"], weights[f"{key}.bias"])

    pooled = linear("y_embedder.mlp.2", F.silu(linear("y_embedder.mlp.0", inputs["y"])))
    embedded = Embedded(
        tokens=linear("context_embedder", inputs["context"]),
        modulation=time(inputs["t"].float()) + pooled,
    )
    output = model(inputs["x"], embedded).mean
    torch.testing.assert_close(output, expected, atol=TOLERANCE, rtol=0)
