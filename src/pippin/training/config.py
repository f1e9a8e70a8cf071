# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training loop."""

import math
from dataclasses import dataclass, field
from typing import Literal

from pippin.config import (
    NOT_PROTOCOL,
    Config,
    ConfigError,
    above,
    added_later,
    at_least,
    known_weights,
)
from pippin.transfer.config import RuleName


@dataclass(frozen=True, kw_only=True)
class ImagesHalfLife(Config):
    """EMA half-life as a number of images."""

    kind: Literal["images"] = "images"
    images: int = 14_000_000
    """decay 0.9999 at batch 2048 is a half-life of 14.2 million images."""

    def __post_init__(self) -> None:
        """Refuse an average without memory."""
        at_least(self, "train.ema", 1, "images")

    @property
    def name(self) -> str:
        """Of weights averaged so, beside the main average."""
        return f"ema-images-{self.images}"


@dataclass(frozen=True, kw_only=True)
class ShareHalfLife(Config):
    """EMA half-life as a share of the whole run, so that short runs keep a meaningful average."""

    kind: Literal["share"] = "share"
    share: float = 0.05

    def __post_init__(self) -> None:
        """Refuse an average without memory."""
        above(self, "train.ema", 0, "share")

    @property
    def name(self) -> str:
        """Of weights averaged so, beside the main average."""
        return f"ema-share-{self.share}"


HalfLife = ImagesHalfLife | ShareHalfLife


@dataclass(frozen=True, kw_only=True)
class InitConfig(Config):
    """Where a run's weights start."""

    run: str | None = None
    """None: drawn from the seed. Otherwise a run folder, an exported folder or the name of a
    shipped model (pippin/...), whose weights must fit this model but for what transfer allows; in
    a study also @NAME, one of its own runs."""
    weights: str = "ema"
    """Which of a run's weights: ema, raw, or one of its train.ema_extra, such as ema-share-0.1; an
    exported or shipped model has one kind only."""
    transfer: tuple[RuleName, ...] = ()
    """What may differ: positions (learned ones are resampled to the new grid), classes (a new
    table; the null class stays), semantics (class to text, or another text encoder), control
    (other fields), patches (another patch size or other latent channels). transfer.json of the
    run says what became of every tensor."""

    continues: str | None = field(default=None, metadata=NOT_PROTOCOL)
    """The recipe whose run this one is defined to go on from, where it is fine-tuning, as at 512
    pixels after 256. Training such a recipe needs run, or from_scratch."""
    from_scratch: bool = field(default=False, metadata=NOT_PROTOCOL)
    """Train from initial weights all the same; refused where a recipe starts from them anyway."""

    def __post_init__(self) -> None:
        """Refuse weights that cannot be, and rules that have nothing to work on."""
        known_weights(self, "init")
        if self.from_scratch and self.run is not None:
            raise ConfigError(
                "init.from_scratch True and init.run exclude each other; got init.run "
                f"{self.run}: leave one of them out"
            )
        if self.transfer and self.run is None:
            raise ConfigError("init.transfer needs init.run, the weights to transfer")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """Everything is counted in images, so batch size and processes change no schedule."""

    images: int
    """Length of the run."""
    batch_size: int = 256
    """Global batch."""
    learning_rate: float = 1e-4
    """Of Adam."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    """Of Adam, decoupled."""
    muon_learning_rate: float | None = None
    """None: Adam moves all parameters. Otherwise Muon moves the matrices of the denoiser's blocks
    at this rate, and Adam the rest."""
    warmup_images: int = 0
    """Linear warm-up of the learning rates."""
    decay_share: float = 0.0
    """The last share of the run, over which the rates fall linearly to 0 (Hagele et al. 2024)."""
    lr_at: Literal["middle", "end"] = field(default="middle", metadata=added_later("end"))
    """Where in a step's images its learning rates are read off warm-up and decay. At the end, as
    runs did that do not record it, the last step of a decay has rate 0."""
    grad_clip: float | None = 1.0
    """Largest norm of the gradient; None = no clipping."""
    ema: HalfLife = ShareHalfLife()
    """The average that is validated, previewed and, by default, sampled."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """bf16: autocast of the forward pass; weights, optimizer and loss stay in fp32."""
    max_bad_steps: int = 10
    """Stop after this many non-finite steps in a row."""

    ema_extra: tuple[HalfLife, ...] = field(default=(), metadata=NOT_PROTOCOL)
    """Further averages, such as share-0.1 or images-500000. They change nothing else; a sample's
    protocol says by its name which average was taken."""
    compile: bool = field(default=False, metadata=NOT_PROTOCOL)
    """torch.compile each block."""
    parallel: Literal["ddp", "fsdp"] = field(default="ddp", metadata=NOT_PROTOCOL)
    """Under torchrun. ddp: every process holds the whole model and optimizer; fsdp: a part of
    each, for models that do not fit otherwise."""
    micro_batch_size: int | None = field(default=None, metadata=NOT_PROTOCOL)
    """Images that a process computes at once; gradients are accumulated over its share of the
    batch. None = the whole share. Less saves memory and changes rounding only."""
    gradient_checkpointing: int = field(default=0, metadata=NOT_PROTOCOL)
    """n: every n-th block computes its activations again in the backward pass instead of keeping
    them, which saves memory and costs time; 0 = off, 1 = all blocks."""
    device: str = field(default="auto", metadata=NOT_PROTOCOL)
    """auto: cuda where there is one, otherwise cpu."""
    workers: int = field(default=0, metadata=NOT_PROTOCOL)
    """Processes that load data; 0 = the training process."""
    log_every: int = field(default=2_000, metadata=NOT_PROTOCOL)
    """Images between log lines."""
    validate_every: int = field(default=25_000, metadata=NOT_PROTOCOL)
    """Images between held-out losses; 0 = none."""
    preview_every: int = field(default=50_000, metadata=NOT_PROTOCOL)
    """Images between preview grids; 0 = none."""
    checkpoint_every: int = field(default=50_000, metadata=NOT_PROTOCOL)
    """Images between checkpoints; the last step always writes one."""
    checkpoint_overlap: bool = field(default=False, metadata=NOT_PROTOCOL)
    """Write checkpoints while the next steps are computed, from a copy in the CPU's memory."""
    keep_checkpoints: int = field(default=2, metadata=NOT_PROTOCOL)
    """How many of the newest checkpoints stay on disk."""

    def __post_init__(self) -> None:
        """Refuse lengths that cannot be trained."""
        at_least(self, "train", 1, "images", "batch_size", "max_bad_steps")
        at_least(self, "train", 1, "checkpoint_every", "keep_checkpoints", "log_every")
        at_least(self, "train", 1, "micro_batch_size")
        at_least(self, "train", 0, "workers", "validate_every", "preview_every", "warmup_images")
        at_least(self, "train", 0, "weight_decay", "gradient_checkpointing")
        above(self, "train", 0, "learning_rate", "muon_learning_rate", "grad_clip")
        names = [one.name for one in (self.ema, *self.ema_extra)]
        if len(set(names)) < len(names):
            raise ConfigError(
                "train.ema_extra must name half-lives once each, and others than train.ema; got "
                f"{', '.join(names[1:])} beside {names[0]}"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"train.betas must be 0 or more and below 1; got {self.betas}")
        if not 0 <= self.decay_share <= 1:
            raise ConfigError(
                f"train.decay_share must lie between 0 and 1; got {self.decay_share}"
            )

    @property
    def total_steps(self) -> int:
        """The run ends with the first whole batch that reaches ``images``."""
        return math.ceil(self.images / self.batch_size)

    def local_batch(self, processes: int) -> int:
        """Images of each step that one of some processes takes.

        Raises:
            ConfigError: a batch that cannot be shared equally.
        """
        if self.batch_size % processes:
            raise ConfigError(
                f"train.batch_size must be a multiple of the {processes} processes; got "
                f"{self.batch_size}: choose another number of either"
            )
        return self.batch_size // processes

    def micro_batch(self, local: int) -> int:
        """How many of a process's images of a step it computes at once."""
        return min(self.micro_batch_size or local, local)
