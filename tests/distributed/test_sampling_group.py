# SPDX-License-Identifier: Apache-2.0
"""Several processes draw the images of one, bit for bit."""

import json
import shutil
from dataclasses import replace

import pytest
from processes import run_ranks

from pippin.distributed.world import World
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.recipes.table import get_recipe
from pippin.sampling.group import SamplingGroup, with_local_device
from pippin.sampling.sample import draw_into, sample_as_worker
from pippin.sampling.sampler import Sampler

SEEDS, LABELS = range(22), [seed % 3 for seed in range(22)]


def together(size, run, work, folder):
    """Result of ``work(run)`` on rank 0 while the other ranks help, and their draws."""

    def one(world, at):
        sampling_group, drawn, real = SamplingGroup(world), [], Sampler._draw

        def noted(self, conditions, seeds, shape):
            drawn.append(list(seeds))
            return real(self, conditions, seeds, shape)

        Sampler._draw = noted
        own = replace(run, sampling_group=sampling_group)
        if world.is_rank0:
            work(own)
            sampling_group.broadcast(None)
        else:
            sample_as_worker(own)
        return drawn

    real = Sampler._draw
    try:
        return run_ranks(size, one, folder)
    finally:
        Sampler._draw = real


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name[0] != "."}


def test_two_processes_draw_the_files_of_one(run, config, tmp_path):
    draw_into(run, LABELS, SEEDS, config, tmp_path / "one")
    first, second = together(
        2, run, lambda own: draw_into(own, LABELS, SEEDS, config, tmp_path / "two"), tmp_path / "p"
    )
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert [batch[0] for batch in first] == [0, 8, 16]
    assert [batch[0] for batch in second] == [4, 12, 20]


def test_another_number_of_processes_goes_on_after_a_stop(run, config, tmp_path):
    """A batch of which one image is torn is drawn again whole, so that no bit differs."""
    draw_into(run, LABELS, SEEDS, config, tmp_path / "whole")
    before = contents(tmp_path / "whole")
    for seed in (2, 9, 21):
        (tmp_path / "whole" / f"seed-{seed:06d}-class-{seed % 3}.png").write_bytes(b"torn")
    drawn = together(
        3,
        run,
        lambda own: draw_into(own, LABELS, SEEDS, config, tmp_path / "whole"),
        tmp_path / "p",
    )
    assert drawn == [[[0, 1, 2, 3]], [[8, 9, 10, 11]], [[20, 21]]]
    assert contents(tmp_path / "whole") == before


def test_an_evaluation_in_two_processes_has_the_numbers_of_one(run, finished_run, tmp_path):
    """The second process draws, of the trained model and of the untrained one."""
    run = replace(
        run,
        recipe=replace(
            run.recipe,
            sampling=replace(run.recipe.sampling, batch_size=4),
            evaluation=replace(run.recipe.evaluation, parts=("quality", "untrained")),
        ),
    )
    for name in ("one", "two"):
        shutil.copytree(finished_run, tmp_path / name)
    evaluate_run(run, tmp_path / "one")
    _, second = together(
        2, run, lambda own: evaluate_run(own, tmp_path / "two"), tmp_path / "processes"
    )
    assert second == [[4, 5, 6, 7]] * 2
    lines = [(tmp_path / name / "results.jsonl").read_text() for name in ("one", "two")]
    assert lines[0] == lines[1]
    subjects = {json.loads(line)["subject"] for line in lines[0].splitlines()}
    assert {"arm", "untrained"} <= subjects


def test_processes_of_different_checkpoints_do_not_mix_their_images(run, config, tmp_path):
    draw_into(run, LABELS, SEEDS, config, tmp_path)
    before = contents(tmp_path)

    class Told(SamplingGroup):
        def commands(self):
            yield {
                "weights": "ema",
                "sampling": config.to_dict(),
                "folder": str(tmp_path),
                "batches": [[[0, 0]]],
            }

    later = replace(run, sampling_group=Told(World()), images_seen=run.images_seen + 1)
    with pytest.raises(ValueError, match=r"model\.images_seen: 64 there, 65 here"):
        sample_as_worker(later)
    assert contents(tmp_path) == before


def test_too_few_batches_for_all_are_named(run, config, tmp_path, capfd):
    together(2, run, lambda own: draw_into(own, [0], [3], config, tmp_path / "s"), tmp_path / "p")
    assert len(list((tmp_path / "s").glob("seed-*"))) == 1
    said = " ".join(capfd.readouterr().err.split())
    assert said.count("idle ranks: 1 batches of at most 4 images for 2 ranks") == 1


def test_under_torchrun_each_rank_sets_its_own_device(monkeypatch):
    recipe = get_recipe("openmoji/mmdit-disentangled")
    trained = replace(recipe, train=replace(recipe.train, device="cuda:1"))
    assert with_local_device(trained).train.device == "cuda:1"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert with_local_device(trained).train.device == "cuda"
    assert with_local_device(recipe).train.device == recipe.train.device
