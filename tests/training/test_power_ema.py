# SPDX-License-Identifier: Apache-2.0
"""Power-function averages and their reconstruction, against closed forms."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from processes import run_ranks
from rich.console import Console
from safetensors.torch import load_file
from small_trainer import batches, make_trainer, rank_batches
from torch import nn

from pippin.cli.main import main
from pippin.config import fingerprint
from pippin.runs.storage.average_snapshots import list_snapshots, load_snapshot
from pippin.runs.trained import load_trained_weights
from pippin.training.averaging.config import MAX_SIGMA_REL, PowerProfile
from pippin.training.averaging.profiles import (
    Profile,
    gamma_of,
    inner_products,
    reconstruct,
)
from pippin.training.averaging.reconstruction import average_run
from pippin.training.ema import PowerEMA
from pippin.training.snapshots import SnapshotMonitor
from pippin.training.train import train

WIDTHS = (0.05, 0.10)


def step_weights(gamma, end, steps):
    """Weight of each of ``steps`` equal steps in an average at step ``end``: the integral of the
    profile over the step."""
    edges = np.minimum(np.arange(steps + 1), end) / end
    return np.diff(edges ** (gamma + 1))


def sigma_rel_of(gamma):
    """Standard deviation of the profile of an exponent, relative to its length."""
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.2, MAX_SIGMA_REL])
def test_exponent_and_width_are_inverse(sigma_rel):
    assert sigma_rel_of(gamma_of(sigma_rel)) == pytest.approx(sigma_rel, rel=1e-9)


def test_exponents_are_those_of_the_paper():
    assert [gamma_of(width) for width in WIDTHS] == pytest.approx([16.97, 6.94], abs=0.005)
    assert gamma_of(MAX_SIGMA_REL) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 6.94])
def test_the_width_is_the_standard_deviation_of_the_profile(gamma):
    n = (np.arange(200_000) + 0.5) / 200_000
    p = (gamma + 1) * n**gamma / 200_000
    deviation = math.sqrt((p * n**2).sum() - (p * n).sum() ** 2)
    assert sigma_rel_of(gamma) == pytest.approx(deviation, rel=1e-6)


@pytest.mark.parametrize("batch", [1, 4])
def test_the_average_weighs_each_step_by_the_integral_of_the_profile(batch):
    model = nn.Linear(1, 1, bias=False)
    ema, steps = PowerEMA(model, 0.1), 40 // batch
    values = np.repeat(np.random.default_rng(0).normal(size=10), 4 // batch)
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            model.weight.fill_(float(value))
        ema.update(model, batch_size=batch, images_seen=step * batch)
    expected = step_weights(ema.gamma, steps, steps) @ values
    assert ema.weights["weight"].item() == pytest.approx(expected, abs=1e-6)


def test_inner_products_are_integrals():
    profiles = [Profile(2.0, 600), Profile(7.5, 600), Profile(0.5, 1000)]
    n = np.arange(200_000) / 200
    curves = [
        np.where(n <= p.images, (p.gamma + 1) * n**p.gamma / p.images ** (p.gamma + 1), 0)
        for p in profiles
    ]
    numeric = [[(a * b).sum() / 200 for b in curves] for a in curves]
    assert inner_products(profiles, profiles).numpy() == pytest.approx(np.array(numeric), rel=1e-3)


STORED = [Profile(gamma_of(w), end) for end in range(1000, 20_001, 1000) for w in WIDTHS]


@pytest.mark.parametrize("index", [0, 19, 39])
def test_a_stored_profile_is_reconstructed_by_itself(index):
    solution = reconstruct(STORED, STORED[index])
    assert solution.weights.numpy() == pytest.approx(np.eye(40)[index], abs=1e-6)
    assert solution.relative_error < 1e-6


@pytest.mark.parametrize(
    ("sigma_rel", "bound"), [(0.05, 1e-6), (0.07, 5e-4), (0.12, 5e-4), (0.2, 5e-3)]
)
def test_a_reconstruction_is_close_to_the_average_that_training_would_have_kept(sigma_rel, bound):
    """A random walk of 20 weights over 2000 steps, with 20 snapshots of two widths."""
    walk = np.random.default_rng(1).normal(size=(2000, 20)).cumsum(0)
    stored = [step_weights(p.gamma, p.images // 10, 2000) @ walk for p in STORED]
    solution = reconstruct(STORED, Profile(gamma_of(sigma_rel), 20_000))
    assert float(solution.weights.sum()) == pytest.approx(1, abs=1e-9)
    direct = step_weights(gamma_of(sigma_rel), 2000, 2000) @ walk
    found = solution.weights.numpy() @ np.array(stored)
    error = np.linalg.norm(found - direct) / np.linalg.norm(direct)
    assert solution.relative_error < 0.02
    assert error < bound


def test_wrong_widths_are_refused():
    for width in (0.0, 0.29, -1.0):
        with pytest.raises(ValueError, match=r"at most 0\.2887.*plain mean.*; got"):
            gamma_of(width)


def test_snapshots_change_no_weight_and_are_the_same_after_a_resume(tmp_path):
    def run(name, start=None, **settings):
        trainer = make_trainer(tmp_path / name, images=80, **settings)
        if start is not None:
            trainer.restore(start)
        monitor = SnapshotMonitor.of(trainer.config, tmp_path / name / "snapshots")
        trainer.train(batches(start_step=trainer.step_count), monitors=[monitor])
        return trainer

    plain, whole = run("plain"), run("whole", snapshot_every=24)
    for p, q in zip(plain.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(p, q)
    resumed = run("resumed", tmp_path / "whole/checkpoints/40", snapshot_every=24)
    assert resumed.finished
    files = list_snapshots(tmp_path / "whole/snapshots")
    assert list(files) == [24, 48, 72]
    for images, path in list_snapshots(tmp_path / "resumed/snapshots").items():
        assert path.read_bytes() == files[images].read_bytes()
    stored = load_snapshot(files[72])
    assert set(stored) == {"ema-power-0.05", "ema-power-0.1"}


def test_sharded_averages_are_gathered_into_the_snapshot_of_one_process(tmp_path):
    def run(world, folder):
        settings = {"parallel": "fsdp", "images": 24, "snapshot_every": 16}
        trainer = make_trainer(folder / "run", world, **settings)
        monitor = SnapshotMonitor.of(trainer.config, folder / "snapshots")
        trainer.train(rank_batches(batches(), world), monitors=[monitor])
        return world.rank

    for size in (1, 2):
        run_ranks(size, run, tmp_path / str(size))
    one, two = (load_snapshot(tmp_path / f"{size}/snapshots/16.safetensors") for size in (1, 2))
    assert set(one) == set(two)
    for average, weights in one.items():
        for name, value in weights.items():
            torch.testing.assert_close(two[average][name], value, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def averaged_run(recipe, tmp_path_factory):
    settings = {"snapshot_every": 8, "batch_size": 4, "learning_rate": 1e-2, "log_every": 64}
    settings |= {"validate_every": 0, "preview_every": 0, "checkpoint_every": 32}
    extra = (PowerProfile(sigma_rel=0.12),)
    recipe = replace(recipe, train=replace(recipe.train, ema_extra=extra, **settings))
    folder = tmp_path_factory.mktemp("averaged") / "run"
    train(recipe, folder, console=Console(quiet=True))
    return folder


def test_the_command_reconstructs_what_a_run_would_have_tracked(averaged_run, capsys, tmp_path):
    assert main(["average", str(averaged_run), "--sigma-rel", "0.120001", "0.1"]) == 0
    shown = capsys.readouterr().out
    assert "from 16 stored averages; relative error of its profile" in shown
    assert "ema-power-0.1: already stored in" in shown
    found = load_trained_weights(str(averaged_run), "ema-power-0.120001")
    direct = load_file(averaged_run / "checkpoints/64/ema-power-0.12.safetensors")
    raw = load_file(averaged_run / "checkpoints/64/model.safetensors")
    assert (found.images_seen, found.weights) == (64, "ema-power-0.120001")

    def distance(one, other):
        return math.sqrt(sum(float((one[k] - other[k]).square().sum()) for k in direct))

    # Relative to the distance between the average and the last weights.
    assert distance(found.tensors, direct) < 0.01 * distance(raw, direct)
    given = ["sample", str(averaged_run), "--seeds", "0:1", "--steps", "1"]
    given += ["--weights", "ema-power-0.120001", "--out", str(tmp_path / "out")]
    assert main(given) == 0


def test_a_damaged_snapshot_is_named_and_left_out(averaged_run, capsys):
    path = averaged_run / "snapshots" / "32.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert main(["average", str(averaged_run), "--sigma-rel", "0.2"]) == 0
    done = capsys.readouterr()
    assert "32.safetensors is damaged" in done.err
    assert "from 14 stored averages" in done.out


def test_an_average_of_another_checkpoint_is_refused(averaged_run, tmp_path):
    """A chosen checkpoint is never measured by the weights of another one."""
    run = tmp_path / "run"
    shutil.copytree(averaged_run, run)
    name = average_run(run, 0.13).name
    assert load_trained_weights(str(run), name).images_seen == 64
    assert load_trained_weights(str(run), name, 64).images_seen == 64
    message = rf"{name} at 64 images, not at checkpoint 32; type: .* --checkpoint 32"
    with pytest.raises(ValueError, match=message):
        load_trained_weights(str(run), name, 32)
    assert average_run(run, 0.13, 32).images_seen == 32
    assert load_trained_weights(str(run), name, 32).images_seen == 32


def test_no_intact_checkpoint_is_explained(averaged_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(averaged_run, run)
    for images in (32, 64):
        (run / f"checkpoints/{images}/ema.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no usable checkpoint: (.|\n)*skipped: .*ema"):
        average_run(run, 0.13)


def test_a_missing_average_is_refused_with_the_command(averaged_run, finished_run, capsys):
    with pytest.raises(ValueError, match=r"pippin average .* --sigma-rel 0\.15` reconstructs"):
        load_trained_weights(str(averaged_run), "ema-power-0.15")
    assert main(["average", str(finished_run), "--sigma-rel", "0.1"]) == 2
    assert "--train.snapshot-every" in capsys.readouterr().err


def test_snapshots_are_no_part_of_a_fingerprint(recipe):
    other = replace(recipe, train=replace(recipe.train, snapshot_every=10, snapshot_widths=(0.2,)))
    assert fingerprint(other) == fingerprint(recipe)
