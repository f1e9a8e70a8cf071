# SPDX-License-Identifier: Apache-2.0
"""Traces of small models by torch.compile: graphs without a break, and the number of compilations.

A program of its own, whose package is imported without the checks of signatures: torch would trace
those too. Graphs run as captured, so numbers are those of eager code, bit for bit. A break in a
graph is an error.

    python tests/compiled_graphs.py                     # everything, in several minutes
    python tests/compiled_graphs.py "blocks:dit of text" solver:heun
"""

import json
import sys
import warnings
from functools import partialmethod
from unittest.mock import patch

import torch
import torch._dynamo

from pippin.conditioning.config import ConditioningConfig, ControlConfig, TextSemantic
from pippin.control import Control, Corner, Size
from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.mdtv2.config import MDTv2Config
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.denoisers.pixart.config import PixArtConfig
from pippin.denoisers.unet.config import UNetConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.diffusion.rescale import build_schedule
from pippin.model import build_model
from pippin.objective.batch_loss import BatchLoss
from pippin.objective.draws import draw_step
from pippin.objective.losses import Objective
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.sampling.guidance import guided
from pippin.sampling.sampler import Sampler
from pippin.sampling.solvers import SOLVERS
from pippin.training.blocks import compile_blocks
from pippin.types import Batch, Conditions, Prediction, TextFeatures, stack_controls

ROWS, CLASSES, CHANNELS, TOKENS, FEATURES = 4, 3, 4, 5, 12
SMALL = {"depth": 1, "width": 16, "num_heads": 2}
MMDIT = SMALL | {"depth": 2}
"""Its last block differs."""
MDT = SMALL | {"depth": 3, "decoder_depth": 1, "grid": (4, 4)}
UNET = {
    "channels": 8,
    "channel_multiples": (1, 2),
    "blocks_per_level": 1,
    "attention_factors": (2,),
    "token_width": 16,
    "num_heads": 2,
    "norm_groups": 2,
}
NO_CONTROL = ControlConfig(high=(), low=())
TEXT = ConditioningConfig(
    semantic=TextSemantic(token_features=FEATURES, num_tokens=TOKENS),
    rules={"text": "attention"},
    control=NO_CONTROL,
)
BY_ATTENTION = ConditioningConfig(rules={"label": "attention"}, control=NO_CONTROL)
BY_MODULATION = ConditioningConfig(rules={"label": "modulation"})
CASES = {
    "dit of classes": (DiTConfig(**SMALL, learn_variance=True), BY_MODULATION),
    "dit of text": (DiTConfig(**SMALL, cross_attention=True, qk_norm=True), TEXT),
    "mdtv2 of classes": (MDTv2Config(**MDT, learn_variance=True), BY_MODULATION),
    "mdtv2 of text": (MDTv2Config(**MDT, cross_attention=True), TEXT),
    "pixart of classes": (PixArtConfig(**SMALL, qk_norm=True), BY_ATTENTION),
    "pixart of text": (PixArtConfig(**SMALL, learn_variance=True), TEXT),
    "mmdit of classes": (MMDiTConfig(**MMDIT), BY_ATTENTION),
    "mmdit of text": (MMDiTConfig(**MMDIT), TEXT),
    "unet of classes": (UNetConfig(**UNET), BY_ATTENTION),
    "unet of text": (UNetConfig(**UNET), TEXT),
}
SQUARE = (8, 8)
BUCKETS = (SQUARE, (6, 10), (10, 6), (4, 16), (12, 8))
"""Sides of latents. MDTv2 has one grid, of which each step masks another share."""


class Graphs(list):
    """Backend that runs a graph as it is, and keeps it."""

    def __call__(self, graph, _):
        self.append(graph)
        return graph.forward


def model_of(name):
    denoiser, conditioning = CASES[name]
    return build_model(
        conditioning, denoiser, num_classes=CLASSES, latent_channels=CHANNELS, seed=0
    )


def batch_of(conditioning, sides, rows=ROWS, step=0):
    """A batch; captions are padded to other lengths at each step."""
    draws = torch.Generator().manual_seed(step)
    whole = Control(
        original_size=Size(64, 64), crop_corner=Corner(0, 0), crop_size=Size(64, 64), flip=False
    )
    text = None
    if isinstance(conditioning.semantic, TextSemantic):
        lengths = torch.randint(1, TOKENS + 1, (rows, 1), generator=draws)
        text = TextFeatures(
            tokens=torch.randn(rows, TOKENS, FEATURES, generator=draws),
            mask=torch.arange(TOKENS) < lengths,
        )
    return Batch(
        latents=torch.randn(rows, CHANNELS, *sides, generator=draws),
        conditions=Conditions(
            label=torch.arange(rows) % CLASSES, text=text, control=stack_controls([whole] * rows)
        ),
        index=torch.arange(rows),
    )


def step_of(name, model, sides, step=0):
    """A batch and its draws."""
    batch = batch_of(CASES[name][1], sides, step=step)
    shape = tuple(batch.latents.shape)
    draws = draw_step(
        DiffusionConfig(),
        CASES[name][1],
        shape,
        num_shuffled=model.denoiser.num_maskable(shape),
        seed=0,
        step=step,
    )
    return batch, draws


def trace_loss(name):
    """Conditions, noise, denoiser and loss in one graph."""
    graphs, model = Graphs(), model_of(name)
    loss = BatchLoss(model, Objective(DiffusionConfig()), "fp32")
    compiled = torch.compile(loss, backend=graphs, fullgraph=True, dynamic=False)
    batch, draws = step_of(name, model, SQUARE)
    return {
        "equal": torch.equal(compiled(batch, draws), loss(batch, draws)),
        "graphs": len(graphs),
    }


def trace_blocks(name):
    """Number of graphs after each step of a run whose blocks are compiled as pippin does, which
    shows each bucket twice."""
    (denoiser, _), model, graphs = CASES[name], model_of(name), Graphs()
    sides = (SQUARE,) * 4 if isinstance(denoiser, MDTv2Config) else BUCKETS + BUCKETS
    with patch.object(torch.nn.Module, "compile", partialmethod(compiled_whole, graphs)):
        compile_blocks(denoiser, model.denoiser.blocks, num_shapes=len(set(sides)))
    loss, counts = BatchLoss(model, Objective(DiffusionConfig()), "fp32"), []
    for step, side in enumerate(sides):
        loss(*step_of(name, model, side, step)).backward()
        counts.append(len(graphs))
    static = denoiser.dynamic_shapes is False
    return {"counts": counts, "shapes": len(BUCKETS) if static else 2}


_compile = torch.nn.Module.compile


def compiled_whole(module, graphs, **options):
    _compile(module, backend=graphs, fullgraph=True, **options)


def trace_solver(name):
    """Two steps of a solver with both scales of guidance, of a model that costs nothing."""
    schedule = build_schedule(DiffusionConfig())
    config = SamplingConfig(
        solver=name, steps=4, guidance=GuidanceConfig(semantic_scale=3.0, control_scale=2.0)
    )
    sampler = Sampler(torch.nn.Identity(), schedule, "v", config)
    calls = {(True, True): 1.0, (True, False): 0.5, (False, False): 0.2}

    def terms(keys):
        def predict(x, t):
            waves = (x * t[:, None, None, None] / 1000).sin()
            return {key: Prediction(mean=calls[key] * waves, variance=waves.cos()) for key in keys}

        return predict

    denoise = sampler._denoise(guided(terms, config.guidance, schedule))
    noise = torch.randn(2, CHANNELS, 8, 8)

    def step(x):
        return SOLVERS[name](denoise, x, sampler._grid[1:4], lambda _: noise)

    graphs, x = Graphs(), torch.randn(2, CHANNELS, 8, 8)
    compiled = torch.compile(step, backend=graphs, fullgraph=True)
    return {"equal": torch.equal(compiled(x), step(x)), "graphs": len(graphs)}


def trace_inductor(name):
    """Output and gradients of the blocks that Inductor compiled, which needs a compiler of C++:
    largest differences from eager code, over the largest number."""
    (denoiser, _), results = CASES[name], []
    for compiled in (False, True):
        model = model_of(name)
        wake(model)
        if compiled:
            compile_blocks(denoiser, model.denoiser.blocks, num_shapes=1)
        loss = BatchLoss(model, Objective(DiffusionConfig()), "fp32")
        value = loss(*step_of(name, model, SQUARE))
        value.backward()
        grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        results.append((value.detach()[None], torch.cat(grads)))
    pairs = zip(*results, strict=True)
    return {"errors": [((a - b).abs().max() / a.abs().max()).item() for a, b in pairs]}


def wake(model):
    """No weight is zero, so that all have gradients."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))


TRACES = {
    "loss": (trace_loss, CASES),
    "blocks": (trace_blocks, CASES),
    "solver": (trace_solver, SOLVERS),
    "inductor": (trace_inductor, CASES),
}


def fault(trace, result):
    """Description of what a result should not be; None = as expected."""
    if trace == "blocks":
        counts = result["counts"]
        settled = counts[result["shapes"] - 1 :]
        once = set(settled) == {counts[-1]} and counts[-1] <= result["shapes"] * counts[0]
        return None if once else f"compiled again: {counts}"
    if trace == "inductor":
        return None if max(result["errors"]) < 1e-4 else f"other numbers: {result}"
    return None if result == {"equal": True, "graphs": 1} else f"not one equal graph: {result}"


def main(entries):
    """Trace each ``trace:name``, by default all, and print faults by entry as JSON."""
    warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor", UserWarning)
    torch.set_num_threads(1)
    faults = {}
    for entry in entries or [f"{trace}:{name}" for trace in TRACES for name in TRACES[trace][1]]:
        trace, _, name = entry.partition(":")
        torch._dynamo.reset()
        torch.manual_seed(0)
        with torch._dynamo.config.patch(recompile_limit=8, fail_on_recompile_limit_hit=True):
            try:
                faults[entry] = fault(trace, TRACES[trace][0](name))
            except Exception as error:
                faults[entry] = f"{type(error).__name__}: {error}"
        sys.stdout.write(f"{entry}: {faults[entry] or 'passed'}\n")
        sys.stdout.flush()
    sys.stdout.write(json.dumps(faults) + "\n")
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
