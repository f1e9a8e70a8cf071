# SPDX-License-Identifier: Apache-2.0
"""Trainer: learning, bit-exact resume, and errors for changed settings."""

import math
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pippin.encoders.config import AutoencoderTrainConfig
from pippin.system.lines import read_lines
from pippin.system.signals import TrainingStoppedError
from pippin.training.autoencoder.state import STATE_FILE, RunState, read_state, write_state
from pippin.training.autoencoder.trainer import (
    AutoencoderTrainer,
    Batches,
    build_network,
    lr_multiplier,
)
from pippin.types import Images

CONFIG = AutoencoderTrainConfig(
    images=24,
    batch_size=4,
    learning_rate=3e-2,
    vector_learning_rate=1e-2,
    warmup_images=4,
    block_channels=(4, 8),
    latent_channels=3,
    device="cpu",
    log_every=4,
    checkpoint_every=8,
)


class KilledError(Exception):
    """Simulates a kill between two steps."""


@pytest.fixture
def batches(images: Images) -> Batches:
    def stream(start: int) -> Iterator[Images]:
        while True:
            rows = torch.arange(start, start + 4) % len(images)
            yield images[rows]
            start += 4

    return stream


def killed_after(batches: Batches, images: int) -> Batches:
    def stream(start: int) -> Iterator[Images]:
        for batch in batches(start):
            if start >= images:
                raise KilledError
            yield batch
            start += 4

    return stream


def silent(images: int, figures: dict[str, float]) -> None:
    assert images > 0
    assert figures["pixel"] > 0


def read_log(folder: Path) -> list[dict[str, float]]:
    lines = read_lines(folder / "log.jsonl").objects.values()
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


def test_a_thread_trains_as_the_main_one_does(batches: Batches, tmp_path: Path) -> None:
    for folder in ("main", "thread"):
        trainer = AutoencoderTrainer(CONFIG, tmp_path / folder, resume=False)
        if folder == "main":
            trainer.train(batches, silent)
            continue
        with ThreadPoolExecutor(1) as pool:
            pool.submit(trainer.train, batches, silent).result()
    assert read_log(tmp_path / "main") == read_log(tmp_path / "thread")


def test_a_few_steps_lower_the_loss(batches: Batches, tmp_path: Path) -> None:
    config = replace(CONFIG, images=240, learning_rate=0.1)
    AutoencoderTrainer(config, tmp_path, resume=False).train(batches, silent)
    log = read_log(tmp_path)
    assert [line["images"] for line in log] == list(range(4, 244, 4))
    assert log[-1]["pixel"] < 0.8 * log[0]["pixel"]


def test_a_killed_run_resumes_bit_for_bit(batches: Batches, tmp_path: Path) -> None:
    whole = AutoencoderTrainer(CONFIG, tmp_path / "whole", resume=False)
    whole.train(batches, silent)

    folder = tmp_path / "killed"
    with pytest.raises(KilledError):  # at 12 images; the checkpoint is of 8
        AutoencoderTrainer(CONFIG, folder, resume=False).train(killed_after(batches, 12), silent)
    resumed = AutoencoderTrainer(CONFIG, folder, resume=True)
    assert resumed.images_seen == 8
    resumed.train(batches, silent)

    for name, value in whole.ema_network().state_dict().items():
        assert torch.equal(value, resumed.ema_network().state_dict()[name]), name
    assert read_log(folder) == read_log(tmp_path / "whole")


def test_a_run_resumed_between_two_log_lines_logs_the_same_means(
    batches: Batches, tmp_path: Path
) -> None:
    config = replace(CONFIG, log_every=12)  # checkpoints every 8
    AutoencoderTrainer(config, tmp_path / "whole", resume=False).train(batches, silent)
    with pytest.raises(KilledError):
        killed = AutoencoderTrainer(config, tmp_path / "killed", resume=False)
        killed.train(killed_after(batches, 20), silent)
    resumed = AutoencoderTrainer(config, tmp_path / "killed", resume=True)
    assert (resumed.images_seen, resumed.log_means.count) == (16, 1)
    resumed.train(batches, silent)
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")


def test_the_average_is_not_the_last_weights(batches: Batches, tmp_path: Path) -> None:
    trainer = AutoencoderTrainer(CONFIG, tmp_path, resume=False)
    trainer.train(batches, silent)
    last, average = trainer.network.state_dict(), trainer.ema_network().state_dict()
    assert any(not torch.equal(average[name], value) for name, value in last.items())


def test_the_start_depends_on_the_seed_only() -> None:
    torch.manual_seed(1)
    first = build_network(CONFIG).state_dict()
    torch.manual_seed(2)
    again = build_network(CONFIG).state_dict()
    other = build_network(replace(CONFIG, seed=1)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["quant_conv.weight"], other["quant_conv.weight"])


def test_rates_warm_up_and_decay_to_zero() -> None:
    config = replace(CONFIG, images=100, warmup_images=20, batch_size=10)
    cosine = [0.5 * (1 + math.cos(math.pi * (n + 0.5) / 8)) for n in range(8)]
    result = [lr_multiplier(config, step) for step in range(10)]
    assert result == pytest.approx([0.25, 0.75, *cosine])
    end = replace(config, lr_at="end")  # as runs were trained that do not record it
    result = [lr_multiplier(end, step) for step in (0, 1, 5, 9)]
    assert result == pytest.approx([0.5, 1, 0.5, 0])


@pytest.mark.parametrize("images", [1, 4, 5, 30])
@pytest.mark.parametrize("warmup_images", [0, 1000])
def test_no_step_has_rate_0(images: int, warmup_images: int) -> None:
    config = replace(CONFIG, images=images, warmup_images=warmup_images)
    assert all(lr_multiplier(config, step) > 0 for step in range(-(-images // 4)))


def test_a_state_that_is_older_than_a_setting_goes_on_as_it_began(
    batches: Batches, tmp_path: Path
) -> None:
    old = replace(CONFIG, lr_at="end")
    AutoencoderTrainer(old, tmp_path / "whole", resume=False).train(batches, silent)
    with pytest.raises(KilledError):
        AutoencoderTrainer(old, tmp_path / "run", resume=False).train(
            killed_after(batches, 12), silent
        )
    state = read_state(tmp_path / "run")
    assert state is not None and "train.lr_at" not in state.position["config"]
    with pytest.raises(ValueError, match=r"train\.lr_at: 'end' -> 'middle'"):
        AutoencoderTrainer(CONFIG, tmp_path / "run", resume=True)
    AutoencoderTrainer(old, tmp_path / "run", resume=True).train(batches, silent)
    assert read_log(tmp_path / "run") == read_log(tmp_path / "whole")


def test_a_used_folder_is_not_overwritten(batches: Batches, tmp_path: Path) -> None:
    AutoencoderTrainer(CONFIG, tmp_path, resume=False).train(batches, silent)
    with pytest.raises(ValueError, match="holds a run already"):
        AutoencoderTrainer(CONFIG, tmp_path, resume=False)
    with pytest.raises(ValueError, match=r"other settings[^$]*train\.kl_weight: 0\.0003 -> 1\.0"):
        AutoencoderTrainer(replace(CONFIG, kl_weight=1.0), tmp_path, resume=True)


def test_resuming_on_other_data_is_refused(batches: Batches, tmp_path: Path) -> None:
    data = {"data.resolution": 16, "data.betas": (1, 2)}
    AutoencoderTrainer(CONFIG, tmp_path, resume=False, data=data).train(batches, silent)
    AutoencoderTrainer(CONFIG, tmp_path, resume=True, data=data)
    other = data | {"data.resolution": 32}
    with pytest.raises(ValueError, match=r"data\.resolution: 16 -> 32"):
        AutoencoderTrainer(CONFIG, tmp_path, resume=True, data=other)


def test_a_state_of_another_network_names_the_command_that_trained_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AutoencoderTrainer(CONFIG, tmp_path / "run", resume=False).save()
    monkeypatch.setattr(
        "pippin.training.autoencoder.trainer.build_network",
        lambda config: build_network(replace(config, block_channels=(4, 16))),
    )
    with pytest.raises(ValueError, match="is of another model") as refused:
        AutoencoderTrainer(CONFIG, tmp_path / "run", resume=True)
    command = f"pippin autoencoder train ... --out {tmp_path} --resume True"
    assert str(refused.value).endswith(f"of its training: {command}")


def test_a_gradient_that_is_not_finite_moves_nothing(batches: Batches, tmp_path: Path) -> None:
    """The loss stays finite; without the check, clipping would make every weight NaN."""
    trainer = AutoencoderTrainer(CONFIG, tmp_path, resume=False)
    bias = trainer.network.decoder.conv_out.bias
    bias.register_hook(lambda grad: grad * math.inf if trainer.step_count == 3 else grad)
    with pytest.raises(
        FloatingPointError, match=r"loss is 0\.\d+ and .* gradient inf after 12 im"
    ):
        trainer.train(batches, silent)
    assert trainer.images_seen == 12
    assert all(p.isfinite().all() for p in trainer.network.parameters())
    assert AutoencoderTrainer(CONFIG, tmp_path, resume=True).images_seen == 8


def test_a_signal_ends_between_steps_and_the_run_goes_on(batches: Batches, tmp_path: Path) -> None:
    whole = AutoencoderTrainer(CONFIG, tmp_path / "whole", resume=False)
    whole.train(batches, silent)

    def stopping(start: int) -> Iterator[Images]:
        for batch in batches(start):
            if start == 12:  # no checkpoint is due here
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch
            start += 4

    folder = tmp_path / "stopped"
    with pytest.raises(TrainingStoppedError):
        AutoencoderTrainer(CONFIG, folder, resume=False).train(stopping, silent)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = AutoencoderTrainer(CONFIG, folder, resume=True)
    assert resumed.images_seen == 16
    resumed.train(batches, silent)
    for name, value in whole.ema_network().state_dict().items():
        assert torch.equal(value, resumed.ema_network().state_dict()[name]), name


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"not a safetensors file")
    with pytest.raises(ValueError, match="is damaged"):
        AutoencoderTrainer(CONFIG, tmp_path, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(batches: Batches, tmp_path: Path) -> None:
    trainer = AutoencoderTrainer(CONFIG, tmp_path, resume=False)
    with torch.no_grad():
        trainer.network.quant_conv.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match=r"the loss is nan and .* after 0 images"):
        trainer.train(batches, silent)


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": 0},
        {"batch_size": 0},
        {"block_channels": (4, 9), "norm_groups": 4},
        {"block_channels": ()},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must (be|hold)"):
        replace(CONFIG, **wrong)


def test_a_flipped_bit_of_the_state_is_found(tmp_path: Path) -> None:
    state = RunState(tensors={"a": torch.ones(99), "step": torch.tensor(3.0)}, position={"s": 1})
    write_state(tmp_path, state)
    result = read_state(tmp_path)
    assert result is not None and result.position == {"s": 1} and result.tensors["step"] == 3
    path = tmp_path / STATE_FILE
    good = path.read_bytes()
    for place in (-3, good.index(b'\\"s\\": 1') + 7):
        content = bytearray(good)
        content[place] ^= 2
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{STATE_FILE} is damaged .*restore a copy"):
            read_state(tmp_path)
