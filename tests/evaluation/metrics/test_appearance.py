# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from pippin.evaluation.metrics.appearance import blur_to, log_sharpness, mass_centre, mirror


def waves(cycles: int, amplitude: float = 60.0, side: int = 64) -> torch.Tensor:
    """Grey stripes: so many cycles over the image's width."""
    phase = torch.arange(side).double() * (2 * math.pi * cycles / side)
    row = (127.5 + amplitude * torch.cos(phase)).round().to(torch.uint8)
    return row.expand(1, 3, side, side).contiguous()


def test_blur_keeps_coarse_and_removes_fine_detail():
    coarse, fine = waves(2), waves(24)
    assert (blur_to(coarse, 32).float() - coarse.float()).abs().mean() < 3
    assert blur_to(fine, 32).float().std() < 0.1 * fine.float().std()
    assert torch.equal(blur_to(fine, 64), fine)


def test_sharpness_is_the_share_of_energy_beyond_the_side():
    """Stripes of 24 cycles do not fit into 32 pixels (16 cycles), those of 8 do."""
    assert float(log_sharpness(waves(24), 32)) == pytest.approx(0, abs=1e-2)
    assert float(log_sharpness(waves(8), 32)) < -8
    mixed = (waves(8).double() + waves(24).double()) / 2
    share = float(log_sharpness(mixed.round().to(torch.uint8), 32).exp())
    assert share == pytest.approx(0.5, abs=0.02)


def test_sharpness_of_a_flat_image_is_finite():
    assert float(log_sharpness(torch.full((1, 3, 16, 16), 200, dtype=torch.uint8), 8)) == 0


def test_blur_lowers_sharpness(openmoji_images):
    assert (
        log_sharpness(blur_to(openmoji_images[:20], 32), 32)
        < log_sharpness(openmoji_images[:20], 32)
    ).all()


def test_mirror_is_left_right_and_its_own_inverse(openmoji_images):
    assert torch.equal(mirror(openmoji_images[:2])[..., 0], openmoji_images[:2][..., -1])
    assert torch.equal(mirror(mirror(openmoji_images[:2])), openmoji_images[:2])


def test_mass_centre_of_a_spot():
    images = torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)
    images[0, 1, 2, 5] = 0  # row 2, column 5: centre at (2.5, 5.5) / 8
    assert torch.allclose(
        mass_centre(images), torch.tensor([[2.5 / 8, 5.5 / 8], [0.5, 0.5]]).double()
    )
