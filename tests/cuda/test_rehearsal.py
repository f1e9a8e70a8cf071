# SPDX-License-Identifier: Apache-2.0
"""The rehearsal finds what would fail or wait on a GPU."""

import pytest
import torch
from cuda_rehearsal import rehearsal
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from pippin.distributed.world import SINGLE_RANK, sync_step_status
from pippin.system.device import to_device


def test_two_devices_do_not_meet():
    with (
        rehearsal(),
        pytest.raises(RuntimeError, match=r"shape \(2,\) meets CUDA"),
    ):
        torch.ones(2, device="cuda") + torch.ones(2)


def test_numbers_and_scalars_go_to_both():
    with rehearsal() as mode:
        total = torch.ones(2, device="cuda") * 2 + torch.tensor(1.0)
        assert total.device.type == "cuda" and total.shape == (2,)
    assert not mode.waits


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[0].item(),
        lambda x: bool((x > 0).all()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: torch.zeros(3).copy_(x),
        lambda x: x.double().sum().to("cpu", torch.float32),
    ],
)
def test_reading_a_value_waits_once(read):
    with rehearsal() as mode:
        read(torch.ones(3, device="cuda"))
    assert mode.waits.total() == 1


@pytest.mark.parametrize("choose", [lambda x: x[x > 0], lambda x: x.nonzero()])
def test_a_shape_that_depends_on_values_is_refused(choose):
    with rehearsal(), pytest.raises(DynamicOutputShapeException):
        choose(torch.ones(3, device="cuda"))


def test_a_wait_is_named_by_its_place():
    with rehearsal() as mode:
        one = torch.ones((), device="cuda")
        sync_step_status(SINGLE_RANK, one, one, None, False)
    assert dict(mode.waits) == {"distributed.world:sync_step_status": 1}


def test_values_that_came_from_the_cpu_go_back():
    values = torch.arange(3.0)
    with rehearsal() as mode:
        there = to_device(values, "cuda")
        assert not mode.waits
        assert torch.equal(there.detach().cpu(), values)
        assert torch.equal((there + 1).cpu(), torch.tensor([0.0, 0.5, 1.0]))


def test_a_copy_to_the_gpu_waits_unless_its_memory_is_pinned():
    with rehearsal() as mode:
        to_device(torch.ones(2), "cuda")
        assert not mode.pageable
        torch.ones(2).to("cuda")
    assert mode.pageable.total() == 1


def test_every_weight_of_a_loss_gets_a_gradient():
    with rehearsal():
        layer = torch.nn.Linear(3, 2).to("cuda")
        unused = torch.nn.Linear(3, 2).to("cuda")
        layer(torch.ones(4, 3, device="cuda")).sum().backward()
        assert layer.weight.grad.shape == (2, 3) and layer.bias.grad.device.type == "cuda"
        assert unused.weight.grad is None


def test_nothing_of_it_stays():
    before = torch.load, torch.Tensor.backward, torch.Tensor.pin_memory
    with rehearsal():
        pass
    assert (torch.load, torch.Tensor.backward, torch.Tensor.pin_memory) == before
    with pytest.raises((AssertionError, RuntimeError)):
        torch.ones(2, device="cuda")
