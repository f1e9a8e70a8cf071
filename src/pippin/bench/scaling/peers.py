# SPDX-License-Identifier: Apache-2.0
"""Training steps of other implementations of DiT, from the same weights as pippin's.

The networks are the published DiT in plain torch (:mod:`pippin.bench.scaling.published_dit`) and
diffusers' class. Their steps do what the published scripts do: random times and noise, noising,
mean squared error of the noise, backward pass, AdamW, and an exponential moving average updated
parameter by parameter. fast-DiT's changes to the published loop are latents from a cache, mixed
precision and gradient checkpointing. Here all start from latents and have one precision, so that
only its checkpointing remains.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pippin.bench.against import TOLERANCE, to_diffusers_model
from pippin.bench.scaling.config import PeerName
from pippin.bench.scaling.declarations import PIPPIN
from pippin.bench.scaling.published_dit import PublishedDiT
from pippin.bench.scaling.training_step import (
    CHANNELS,
    DIFFUSION,
    NUM_CLASSES,
    TrainingCase,
    training_step,
)
from pippin.bench.scaling.turns import Call
from pippin.diffusion.rescale import build_schedule
from pippin.interop.published_models import load_reference
from pippin.model import LatentDenoiser
from pippin.system.device import autocast
from pippin.types import Conditions

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t, t, labels) -> predicted noise."""
EMA_DECAY, LEARNING_RATE = 0.9999, 1e-4
MAX_NORM = 1.0
PEER_NOTE = (
    "published-dit: the published DiT and its loop in plain torch. fast-dit: the same with "
    "gradient checkpointing. diffusers: DiTTransformer2DModel, which embeds time and class in "
    "every block, with clipped gradients. All start from equal weights, train on latents in "
    "memory at one precision, and take turns. pippin's step also draws reproducible random "
    "numbers, clips, and skips steps that are not finite"
)


def peer_steps(case: TrainingCase, peers: Sequence[PeerName], *, check: bool) -> dict[str, Call]:
    """Steps of pippin and of its peers by name.

    Args:
        case: with a DiT and class labels.
        peers: implementations to compare with.
        check: refuse networks whose outputs differ.

    Raises:
        ValueError: outputs that differ by more than rounding.
    """
    published = _published(case)
    arguments = _arguments(case)
    state = published.state_dict()
    loaded = load_reference("dit", {k: v.clone() for k, v in state.items()}, **arguments)
    model = loaded.model.to(case.device)
    networks = {peer: _network(peer, case, published, model) for peer in peers}
    if check:
        for peer, network in networks.items():
            _check_equal(peer, case, model, network)
    steps: dict[str, Call] = {PIPPIN: training_step(case, model=model)}
    for peer, network in networks.items():
        clip = MAX_NORM if peer == "diffusers" else None
        steps[peer] = PlainLoop(network, _predict(network), case, clip=clip).step
    return steps


class PlainLoop:
    """Training loop without a framework, one step at a time.

    Args:
        network: on its device.
        predict: its forward pass.
        case: batch and precision.
        clip: largest gradient norm; None = no clipping.
    """

    def __init__(
        self, network: nn.Module, predict: Predict, case: TrainingCase, *, clip: float | None
    ) -> None:
        self.network, self.predict, self.case, self.clip = network, predict, case, clip
        trained = [value for value in network.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
        self.average = copy.deepcopy(network).requires_grad_(False)
        t = torch.arange(1000)
        schedule = build_schedule(DIFFUSION)
        self.alpha = schedule.alpha(t.float()).float().to(case.device)
        self.sigma = schedule.sigma(t.float()).float().to(case.device)
        batch = case.batch()
        assert batch.conditions.label is not None
        self.latents, self.labels = batch.latents, batch.conditions.label.to(case.device)

    def step(self) -> None:
        """Take one step."""
        t = torch.randint(0, 1000, (len(self.latents),), device=self.latents.device)
        noise = torch.randn_like(self.latents)
        alpha, sigma = self.alpha[t, None, None, None], self.sigma[t, None, None, None]
        with autocast(self.case.device, self.case.precision):
            predicted = self.predict(alpha * self.latents + sigma * noise, t, self.labels)
        loss = (predicted.float() - noise).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        loss.item()  # as loops that log the loss do
        self._update_average()

    @torch.no_grad()
    def _update_average(self) -> None:
        averages = dict(self.average.named_parameters())
        for name, value in self.network.named_parameters():
            averages[name].mul_(EMA_DECAY).add_(value, alpha=1 - EMA_DECAY)


def _arguments(case: TrainingCase) -> dict[str, Any]:
    """Constructor arguments of the published class."""
    denoiser: Any = case.denoiser  # a DiT, whose settings the published class has too
    return {
        "input_size": case.side,
        "patch_size": denoiser.patch_size,
        "in_channels": CHANNELS,
        "hidden_size": denoiser.width,
        "depth": denoiser.depth,
        "num_heads": denoiser.num_heads,
        "mlp_ratio": denoiser.mlp_ratio,
        "num_classes": NUM_CLASSES,
        "learn_sigma": denoiser.learn_variance,
    }


def _published(case: TrainingCase, *, recompute: bool = False) -> PublishedDiT:
    """Published network with random weights in all layers: zero-initialised ones would hide the
    rest from the comparison of outputs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PublishedDiT(**_arguments(case), recompute=recompute)
    return network.to(case.device)


def _network(
    peer: PeerName, case: TrainingCase, published: PublishedDiT, model: LatentDenoiser
) -> nn.Module:
    """Network of a peer with the weights of the published one."""
    if peer == "diffusers":
        # diffusers drops labels in training mode and would thus draw once in every block
        converted = to_diffusers_model(model.cpu(), case.denoiser, case.conditioning, case.side)
        model.to(case.device)
        return converted.to(case.device).eval()
    network = copy.deepcopy(published)
    network.recompute = peer == "fast-dit"
    return network.train()


def _predict(network: nn.Module) -> Predict:
    if isinstance(network, PublishedDiT):
        return network
    return lambda x_t, t, labels: network(x_t, timestep=t, class_labels=labels).sample


@torch.no_grad()
def _check_equal(
    peer: PeerName, case: TrainingCase, model: LatentDenoiser, network: nn.Module
) -> None:
    """Refuse to time networks with different outputs.

    Raises:
        ValueError: the outputs differ by more than rounding.
    """
    batch = case.batch()
    labels = batch.conditions.label
    assert labels is not None
    t = torch.linspace(1, 999, len(labels)).round().to(case.device)
    prepared = model.prepare(Conditions(label=labels, control={}))
    output = model(batch.latents, t, prepared).mean
    training = network.training
    reference = _predict(network.eval())(batch.latents, t, labels.to(case.device))
    network.train(training)
    error = ((output - reference).abs().max() / reference.abs().max()).item()
    if not error <= TOLERANCE:
        raise ValueError(
            f"the outputs of pippin and of {peer} differ by {error:.1e} of the largest; allowed "
            f"are {TOLERANCE}: their speeds are not comparable. Leave it out of --scaling.peers"
        )
