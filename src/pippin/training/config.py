# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training loop, of transfer, and lengths as in papers."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from pippin.config import Config, ConfigError
from pippin.settings.bounds import above, at_least
from pippin.settings.marks import NOT_PROTOCOL, PROTOCOL_IF_CHANGED, added_later
from pippin.settings.weights import check_weights_name
from pippin.training.averaging.config import (
    MAX_SIGMA_REL,
    Average,
    PowerProfile,
    ShareHalfLife,
)
from pippin.training.masking.config import NO_MASKING, MaskingConfig
from pippin.training.repa.config import NO_REPA, RepaConfig

LoggedQuality = Literal["held_out_loss", "kid", "fd", "alignment"]
TrackerName = Literal["tensorboard", "wandb", "mlflow", "none"]
RuleName = Literal["positions", "classes", "semantics", "control", "patches", "interval"]
MuonPrecision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class InitConfig(Config):
    """Initial weights of a run."""

    run: str | None = None
    """None: drawn from the seed. Otherwise a run folder, an exported folder or the name of a
    shipped model (pippin/...), or hf://USER/NAME@REVISION; its weights must fit this model except
    as transfer allows. In a study also @NAME, one of its own runs."""
    weights: str = "ema"
    """Weights of the run: ema, raw, one of its train.ema_extra, such as ema-share-0.1, or an
    average of `pippin average`; an exported or shipped model has one kind only."""
    transfer: tuple[RuleName, ...] = ()
    """Allowed differences: positions (learned ones are resampled to the new grid), classes (a new
    table; the null class stays), semantics (class to text, or another text encoder), control
    (other fields), patches (another patch size or other latent channels), interval (mean
    velocities from velocities, or the reverse). transfer.json of the run lists the outcome for
    every tensor."""

    continues: str | None = field(default=None, metadata=NOT_PROTOCOL)
    """For fine-tuning, the recipe whose run this one starts from, as at 512 pixels after 256.
    Training such a recipe needs run, or from_scratch."""
    from_scratch: bool = field(default=False, metadata=NOT_PROTOCOL)
    """Train from random weights instead; refused if the recipe does so anyway."""

    def __post_init__(self) -> None:
        """Refuse unknown weights, and transfer rules without weights."""
        check_weights_name(self, "init")
        if self.from_scratch and self.run is not None:
            raise ConfigError(
                "init.from_scratch True and init.run exclude each other; got init.run "
                f"{self.run}: leave one of them out"
            )
        if self.transfer and self.run is None:
            raise ConfigError("init.transfer needs init.run, the weights to transfer")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """Training settings. Progress is counted in images, so schedules are independent of batch size
    and world size."""

    images: int
    """Length of the run."""
    batch_size: int = 256
    """Global batch."""
    learning_rate: float = 1e-4
    """Learning rate of Adam."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    """Decoupled weight decay of Adam."""
    muon_learning_rate: float | None = None
    """None: Adam trains all parameters. Otherwise Muon trains the matrices of the denoiser's
    blocks at this rate, and Adam the rest."""
    warmup_images: int = 0
    """Linear warm-up of the learning rates."""
    decay_share: float = 0.0
    """Last share of the run, over which the rates decay: to 0, or to lr_floor."""
    lr_schedule: Literal["trapezoid", "cosine", "wsd"] = field(
        default="trapezoid", metadata=PROTOCOL_IF_CHANGED
    )
    """After the warm-up. trapezoid: constant, then linear decay over decay_share (Hagele et al.
    2024). cosine: half a cosine over the whole rest of the run (Loshchilov & Hutter 2017). wsd:
    stable, then decay by 1 - sqrt over decay_share (Hu et al. 2024; Hagele et al. 2024)."""
    lr_floor: float = field(default=0.0, metadata=PROTOCOL_IF_CHANGED)
    """Learning rates at the end of a decay, as a share of their peak."""
    lr_at: Literal["middle", "end"] = field(default="middle", metadata=added_later("end"))
    """Position within a step's images at which warm-up and decay are evaluated. At the end, the
    value of runs that do not record it, the last step of a decay has rate 0."""
    grad_clip: float | None = 1.0
    """Maximum gradient norm; None = no clipping."""
    ema: Average = ShareHalfLife()  # noqa: RUF009 (frozen)
    """Average that is used for validation, previews and, by default, sampling."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """bf16: autocast of the forward pass; weights, optimizer and loss stay in fp32."""
    repa: RepaConfig = field(default=NO_REPA, metadata=PROTOCOL_IF_CHANGED)
    """Auxiliary loss that aligns the tokens of a block with features of a frozen encoder."""
    masking: MaskingConfig = field(default=NO_MASKING, metadata=PROTOCOL_IF_CHANGED)
    """Deferred masking: most blocks read a random subset of the tokens."""
    max_bad_steps: int = 10
    """Stop after this many non-finite steps in a row."""

    ema_extra: tuple[Average, ...] = field(default=(), metadata=NOT_PROTOCOL)
    """Further averages, such as share-0.1, images-500000 or power-0.1. They change nothing else; a
    sample's protocol names the average used."""
    snapshot_every: int = field(default=0, metadata=NOT_PROTOCOL)
    """Images between snapshots of averages of the widths snapshot_widths, from which `pippin
    average` reconstructs an EMA of any width later; 0 = none. A snapshot takes 4 bytes a parameter
    for each width, and stays."""
    snapshot_widths: tuple[float, ...] = field(default=(0.05, 0.10), metadata=NOT_PROTOCOL)
    """Relative widths of the averages that snapshots store."""
    compile: bool = field(default=False, metadata=NOT_PROTOCOL)
    """torch.compile each block."""
    muon_gram: bool = field(default=False, metadata=NOT_PROTOCOL)
    """On CPUs, iterate Muon on the Gram matrix of weights whose sides differ by a factor of two or
    more: about two thirds of the FLOPs, and the same result up to rounding."""
    muon_precision: MuonPrecision = field(default="auto", metadata=PROTOCOL_IF_CHANGED)
    """Precision of Muon's iteration. auto: bf16 on GPUs, as published, and fp32 on CPUs. On a CPU,
    bf16 takes less than half the time, and needs bf16 units; without them it stays fp32."""
    parallel: Literal["ddp", "fsdp"] = field(default="ddp", metadata=NOT_PROTOCOL)
    """Under torchrun. ddp: every rank holds the full model and optimizer; fsdp: a shard of each,
    for models that do not fit otherwise."""
    micro_batch_size: int | None = field(default=None, metadata=NOT_PROTOCOL)
    """Images per forward pass of a rank; gradients are accumulated over its local batch. None =
    the whole local batch. A smaller value saves memory and changes rounding only."""
    gradient_checkpointing: int = field(default=0, metadata=NOT_PROTOCOL)
    """n: every n-th block recomputes its activations in the backward pass instead of storing
    them, which saves memory and costs time; 0 = off, 1 = all blocks."""
    device: str = field(default="auto", metadata=NOT_PROTOCOL)
    """auto: cuda if available, otherwise cpu."""
    workers: int = field(default=0, metadata=NOT_PROTOCOL)
    """Number of data-loading processes; 0 = load in the training process."""
    log_every: int = field(default=2_000, metadata=NOT_PROTOCOL)
    """Images between log lines."""
    validate_every: int = field(default=25_000, metadata=NOT_PROTOCOL)
    """Images between evaluations of the held-out loss; 0 = none."""
    preview_every: int = field(default=50_000, metadata=NOT_PROTOCOL)
    """Images between preview grids; 0 = none."""
    preview_prompts: tuple[str, ...] = field(default=(), metadata=NOT_PROTOCOL)
    """Prompts of the 36 images of a preview grid of a text model, in turn; empty = held-out
    captions."""
    quality_every: int = field(default=0, metadata=NOT_PROTOCOL)
    """Images between measures of sample quality for the log: KID, FD and, for text models, the
    alignment with captions; 0 = none."""
    quality_samples: int = field(default=200, metadata=NOT_PROTOCOL)
    """Number of samples of each such measure, with fixed seeds and conditions."""
    checkpoint_every: int = field(default=50_000, metadata=NOT_PROTOCOL)
    """Images between checkpoints; the last step always writes one."""
    checkpoint_overlap: bool = field(default=False, metadata=NOT_PROTOCOL)
    """Write checkpoints asynchronously from a copy in CPU memory, while training continues."""
    checkpoint_format: Literal["auto", "safetensors", "sharded"] = field(
        default="auto", metadata=NOT_PROTOCOL
    )
    """safetensors: rank 0 gathers the state and writes one file of each part. sharded: every rank
    writes its shards, and any world size resumes. auto: sharded under FSDP where the state takes
    more than half of rank 0's CPU memory, otherwise safetensors."""
    keep_checkpoints: int = field(default=2, metadata=NOT_PROTOCOL)
    """Number of newest checkpoints kept on disk."""
    keep_every: int = field(default=0, metadata=NOT_PROTOCOL)
    """Also keep the first checkpoint at or past each multiple of so many images; 0 = none."""
    keep_best: LoggedQuality | None = field(default=None, metadata=NOT_PROTOCOL)
    """Also keep the checkpoint with the best value of this name in the log: held_out_loss, which
    validate_every measures, or kid, fd or alignment, which quality_every measures; None = none."""
    tracker: TrackerName = field(default="tensorboard", metadata=NOT_PROTOCOL)
    """Program that shows numbers and previews, beside log.jsonl: TensorBoard, Weights & Biases
    (wandb) or MLflow; none = log.jsonl only."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot be trained."""
        at_least(self, "train", 1, "images", "batch_size", "max_bad_steps")
        at_least(self, "train", 1, "checkpoint_every", "keep_checkpoints", "log_every")
        at_least(self, "train", 1, "micro_batch_size")
        at_least(self, "train", 3, "quality_samples")
        at_least(self, "train", 0, "workers", "validate_every", "preview_every", "warmup_images")
        at_least(self, "train", 0, "weight_decay", "gradient_checkpointing")
        above(self, "train", 0, "learning_rate", "muon_learning_rate", "grad_clip")
        names = [average.name for average in (self.ema, *self.ema_extra)]
        if len(set(names)) < len(names):
            raise ConfigError(
                "train.ema_extra must list each average once, and none equal to train.ema; got "
                f"{', '.join(names[1:])} with train.ema {names[0]}"
            )
        at_least(self, "train", 0, "snapshot_every", "keep_every", "quality_every")
        if not self.snapshot_widths or len(set(self.snapshot_widths)) < len(self.snapshot_widths):
            raise ConfigError(
                "train.snapshot_widths must be one or more different widths, such as 0.05 0.1; "
                f"got {list(self.snapshot_widths)}"
            )
        if not all(0 < width <= MAX_SIGMA_REL for width in self.snapshot_widths):
            raise ConfigError(
                f"train.snapshot_widths must be above 0 and at most {MAX_SIGMA_REL:.4f}, the "
                f"width of the plain mean of all weights; got {list(self.snapshot_widths)}"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"train.betas must be 0 or more and below 1; got {self.betas}")
        if not 0 <= self.decay_share <= 1:
            raise ConfigError(
                f"train.decay_share must lie between 0 and 1; got {self.decay_share}"
            )
        if self.checkpoint_overlap and self.checkpoint_format == "sharded":
            raise ConfigError(
                "train.checkpoint_format sharded and train.checkpoint_overlap True exclude each "
                "other: all ranks write between two steps; give --train.checkpoint-overlap False, "
                "or --train.checkpoint-format safetensors"
            )
        self._check_muon()
        self._check_schedule()
        self._check_retention()

    def _check_muon(self) -> None:
        """Refuse settings of Muon where Adam trains all parameters."""
        for name, default in (("muon_gram", False), ("muon_precision", "auto")):
            value = getattr(self, name)
            if self.muon_learning_rate is None and value != default:
                option = f"--train.{name.replace('_', '-')} {default}"
                raise ConfigError(
                    f"train.{name} {value} has no effect without Muon, as "
                    "train.muon_learning_rate is None: set --train.muon-learning-rate 2e-2, or "
                    f"{option}"
                )

    def _check_retention(self) -> None:
        """Refuse a best checkpoint by a value that is not measured where checkpoints are."""
        if self.keep_best is None:
            return
        name = "validate_every" if self.keep_best == "held_out_loss" else "quality_every"
        interval = getattr(self, name)
        if not interval or interval % self.checkpoint_every:
            option = f"--train.{name.replace('_', '-')} {self.checkpoint_every}"
            raise ConfigError(
                f"train.keep_best {self.keep_best} needs train.{name} to be a multiple of "
                f"train.checkpoint_every, {self.checkpoint_every}, so that every measured step "
                f"has a checkpoint; got {interval}: set {option}"
            )

    def _check_schedule(self) -> None:
        """Refuse a decay that the schedule would ignore, and one that it lacks."""
        if not 0 <= self.lr_floor < 1:
            raise ConfigError(f"train.lr_floor must be 0 or more and below 1; got {self.lr_floor}")
        if self.lr_schedule == "cosine" and self.decay_share:
            raise ConfigError(
                "train.decay_share has no effect on train.lr_schedule cosine, which decays over "
                f"the whole run; got {self.decay_share}: set --train.decay-share 0"
            )
        decays = self.lr_schedule == "cosine" or self.decay_share > 0
        if self.lr_schedule == "wsd" and not decays:
            raise ConfigError(
                "train.lr_schedule wsd needs train.decay_share above 0, the share of the run in "
                "which the rates decay; got 0.0: set --train.decay-share 0.2"
            )
        if self.lr_floor and not decays:
            raise ConfigError(
                "train.lr_floor has no effect without a decay: set train.decay_share above 0, or "
                f"train.lr_schedule cosine; got lr_floor {self.lr_floor}"
            )

    @property
    def max_checkpoints(self) -> int:
        """Number of checkpoints on disk at the end of a run, without interruptions."""
        spaced = self.images // self.keep_every if self.keep_every else 0
        return self.keep_checkpoints + spaced + (self.keep_best is not None)

    @property
    def num_snapshots(self) -> int:
        """Number of snapshots of a whole run."""
        return self.images // self.snapshot_every if self.snapshot_every else 0

    @property
    def snapshot_profiles(self) -> tuple[PowerProfile, ...]:
        """Averages that snapshots store."""
        widths = self.snapshot_widths if self.snapshot_every else ()
        return tuple(PowerProfile(sigma_rel=width) for width in widths)

    @property
    def averages(self) -> dict[str, Average]:
        """All averages that training keeps, by the name of their weights."""
        further = (*self.ema_extra, *self.snapshot_profiles)
        return {"ema": self.ema, **{average.name: average for average in further}}

    @property
    def total_steps(self) -> int:
        """Number of steps; the run ends with the first full batch that reaches ``images``."""
        return math.ceil(self.images / self.batch_size)

    def local_batch(self, processes: int) -> int:
        """Local batch size of each rank.

        Raises:
            ConfigError: the batch size is not divisible.
        """
        if self.batch_size % processes:
            raise ConfigError(
                f"train.batch_size must be a multiple of the {processes} processes; got "
                f"{self.batch_size}: change one of the two"
            )
        return self.batch_size // processes

    def micro_batch(self, local: int) -> int:
        """Micro-batch size of a rank with this local batch size."""
        return min(self.micro_batch_size or local, local)


def with_long_intervals(train: TrainConfig) -> TrainConfig:
    """Settings with intervals of validation, previews and checkpoints for a long run at a large
    batch size: at the intervals of small runs they would take longer than the training."""
    return replace(
        train,
        validate_every=5_000 * train.batch_size,
        preview_every=10_000 * train.batch_size,
        checkpoint_every=2_500 * train.batch_size,
    )
