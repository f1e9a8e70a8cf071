# SPDX-License-Identifier: Apache-2.0
"""Compiled blocks: equal numbers, single and data-parallel, and no constants in the graph."""

from functools import partial

import jaxtyping
import pytest
import torch
import torch._dynamo
from one_batch import SMALL, first_gradients
from processes import run_ranks
from small_models import KINDS, gradients, model_of
from small_trainer import batches, make_trainer
from torch.nn.parallel import DistributedDataParallel

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.dit.config import DiTConfig, dit
from pippin.diffusion.config import DiffusionConfig, MeanFlowConfig
from pippin.distributed import world as world_module
from pippin.distributed.world import World
from pippin.evaluation.metrics.cost import trial_outputs
from pippin.model import build_model
from pippin.training.blocks import MAX_SHAPES, checkpoint_blocks, compile_blocks
from pippin.training.loop import Trainer


@pytest.fixture(autouse=True)
def settings():
    """Restore dynamo's settings after each test. Types are not checked in blocks, where dynamo
    would trace the checks too."""
    jaxtyping.config.update("jaxtyping_disable", True)
    with torch._dynamo.config.patch(optimize_ddp=True, recompile_limit=8):
        yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch._dynamo.reset()


@pytest.mark.parametrize("num_shapes", [1, 9])
def test_a_unet_of_many_kinds_of_blocks_is_compiled_whole(num_shapes, monkeypatch):
    """Also for more buckets than torch compiles a block for by default."""
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _, **options: asked.append(options))
    blocks = model_of("unet").denoiser.blocks
    with torch._dynamo.config.patch(accumulated_recompile_limit=10):
        compile_blocks(KINDS["unet"], blocks, num_shapes=num_shapes)
        config = torch._dynamo.config
        limits = {config.recompile_limit, config.accumulated_recompile_limit}
    assert limits == {len(blocks) * (MAX_SHAPES + num_shapes - 1)}
    assert asked == [{"dynamic": False}] * len(blocks)  # compiling them for real takes minutes


def test_compiled_blocks_give_the_same():
    kind = "dit"
    plain, expected, _ = gradients(model_of(kind), kind)
    model = model_of(kind, 1)
    compile_blocks(KINDS[kind], model.denoiser.blocks)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        output, found, _ = gradients(model, kind)
    torch.testing.assert_close(output, plain, rtol=1e-4, atol=1e-5)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["mdtv2", "rotary"])
def test_no_block_recomputes_its_grid(kind):
    """Offsets between positions and rotations, whose caches dynamo would not see."""
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    if kind == "rotary":
        settings = {"num_classes": 3, "latent_channels": 4, "seed": 0}
        rotary = dit("tiny", rotary=True, norm="rms", mlp="swiglu")
        model = build_model(ConditioningConfig(rules={"label": "modulation"}), rotary, **settings)
    else:
        model = model_of(kind)
    model.denoiser.blocks[0].compile(backend=keep, fullgraph=True)
    trial_outputs(model, (4, 8, 8), training=False)
    called = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    assert any("linear" in name for name in called)
    assert not any("arange" in name for name in called)


@pytest.mark.parametrize("every", [0, 1], ids=["kept", "again"])
def test_a_shared_compiled_block_is_whole_and_gives_the_same(every, tmp_path, monkeypatch):
    """Under DDP, with many small buckets; gradients within 1e-5 of the largest."""
    monkeypatch.setattr(
        world_module,
        "DistributedDataParallel",
        partial(DistributedDataParallel, bucket_cap_mb=1e-4),
    )
    monkeypatch.setattr(torch.distributed, "_DEFAULT_FIRST_BUCKET_BYTES", 100)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    whole = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **options: whole(self, backend=count, **options)
    )
    built = Trainer.__init__

    def build(self, model, *given, **named):
        checkpoint_blocks(model.denoiser.blocks, every)
        compile_blocks(SMALL["dit"], model.denoiser.blocks[:1])
        built(self, model, *given, **named)

    def compiled(world, at):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "__init__", build)
            found = first_gradients(world, at, SMALL["dit"])
        return found | {"graphs": torch.tensor(len(graphs))}

    eager = first_gradients(World(), tmp_path, SMALL["dit"])
    largest = max(grad.abs().max().item() for grad in eager.values())
    shared = run_ranks(2, compiled, tmp_path / "two")
    (alone,) = run_ranks(1, compiled, tmp_path / "one")
    for rank in (alone, *shared):
        assert rank["graphs"] == alone["graphs"] > 0
        for name, grad in eager.items():
            torch.testing.assert_close(rank[name], grad, rtol=0, atol=1e-5 * largest)


def test_the_target_of_meanflow_comes_from_blocks_that_are_not_compiled(tmp_path):
    """Forward-mode derivatives do not go through compiled code; the loss does."""
    flow = DiffusionConfig(schedule="flow", prediction="flow", meanflow=MeanFlowConfig(share=0.25))
    conditioning = ConditioningConfig(rules={"label": "modulation"}, interval=True)
    denoiser, runs, graphs = DiTConfig(depth=2, width=16, num_heads=2), [], []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    for compiled in (False, True):
        trainer = make_trainer(
            tmp_path, denoiser=denoiser, conditioning=conditioning, awake=True, diffusion=flow
        )
        for block in trainer.model.denoiser.blocks if compiled else ():
            block.compile(backend=backend)
        loss = trainer.backward(next(batches()), trainer.draw(0, (8, 4, 8, 8)))
        runs.append([loss, *(p.grad for p in trainer.model.parameters())])
    assert graphs
    for plain, own in zip(*runs, strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-4, atol=1e-6)
