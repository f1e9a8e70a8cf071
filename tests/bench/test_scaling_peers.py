# SPDX-License-Identifier: Apache-2.0
"""Peers of the scaling curves compute what pippin computes, or are not timed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from pippin.bench.scaling import peers
from pippin.bench.scaling.config import PEERS, ScalingConfig
from pippin.bench.scaling.peers import EMA_DECAY, PlainLoop, peer_steps
from pippin.bench.scaling.published_dit import PublishedDiT
from pippin.bench.scaling.training_curves import base_case

GOLDEN = Path(__file__).parents[1] / "golden" / "dit.safetensors"
CASE = base_case(
    ScalingConfig(
        depth=2,
        width=32,
        head_width=16,
        image_tokens=16,
        batch_size=3,
        precision="fp32",
        device="cpu",
    )
)


def golden():
    """Weights, inputs, output and constructor arguments of the published network."""
    with safe_open(GOLDEN, framework="pt") as file:
        facts = json.loads(file.metadata()["golden"])
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    weights = {
        key.removeprefix("weights."): value
        for key, value in tensors.items()
        if key.startswith("weights.")
    }
    return weights, tensors, facts["constructor_arguments"]


def test_the_plain_network_gives_the_published_outputs():
    weights, tensors, arguments = golden()
    arguments.pop("class_dropout_prob", None)
    network = PublishedDiT(**arguments).eval()
    positions = weights["pos_embed"] - network.pos_embed  # computed, and loaded here
    assert positions.abs().max() < 1e-6
    network.load_state_dict(weights)
    with torch.no_grad():
        output = network(*(tensors[f"inputs.{name}"] for name in ("x", "t", "y")))
    assert (output - tensors["outputs.sample"]).abs().max() < 1e-5


def test_checkpointing_changes_no_gradient():
    gradients = []
    for recompute in (False, True):
        network = peers._published(CASE, recompute=recompute).eval()
        x = torch.ones(2, 4, 8, 8)
        network(x, torch.tensor([3.0, 500.0]), torch.tensor([0, 1])).square().sum().backward()
        gradients.append(network.blocks[0].attn.qkv.weight.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_all_peers_have_pippins_outputs_and_take_steps():
    steps = peer_steps(CASE, PEERS, check=True)
    assert list(steps) == ["pippin", *PEERS]
    for step in steps.values():
        step()
    loops = [steps[peer].__self__ for peer in PEERS]
    assert [loop.clip for loop in loops] == [None, None, 1.0]
    assert [getattr(loop.network, "recompute", None) for loop in loops] == [False, True, None]


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_with_other_outputs_is_not_timed(peer, monkeypatch):
    network = peers._network

    def perturbed(*arguments):
        changed = network(*arguments)
        with torch.no_grad():
            list(changed.parameters())[-1].add_(1e-2)
        return changed

    monkeypatch.setattr(peers, "_network", perturbed)
    with pytest.raises(ValueError, match=f"of pippin and of {peer} differ by"):
        peer_steps(CASE, (peer,), check=True)


def test_the_plain_loop_learns_and_averages_every_parameter():
    torch.manual_seed(0)
    network = peers._published(CASE)
    loop = PlainLoop(network, network, CASE, clip=None)
    before = {name: value.clone() for name, value in network.named_parameters()}
    loop.step()
    averages = dict(loop.average.named_parameters())
    for name, value in network.named_parameters():
        moved = value - before[name]
        assert moved.abs().max() > 0 or name == "pos_embed", name
        expected = before[name] + (1 - EMA_DECAY) * moved
        torch.testing.assert_close(averages[name], expected, rtol=0, atol=1e-6)
