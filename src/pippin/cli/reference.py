# SPDX-License-Identifier: Apache-2.0
"""``pippin reference IMAGES --out FILE.npz``: save reference statistics of images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pippin.cli.parsing.options import parse
from pippin.config import ConfigError
from pippin.distributed.ranks import get_world_size, is_rank0
from pippin.evaluation.config import EvaluationConfig, FeaturesName
from pippin.system.text import print_text


@dataclass(frozen=True, kw_only=True)
class ReferenceCommand:
    """Save mean and covariance of image features, in the format of ADM's reference batches, for
    `pippin evaluate FOLDER --reference FILE.npz`."""

    images: Annotated[Path, tyro.conf.Positional]
    """A folder of image files, or a .npz of uint8 images (arr_0)."""
    out: Path
    """New file FILE.npz."""
    resolution: int | None = None
    """Side to which the centre square of each image is resized first; None = unchanged."""
    features: FeaturesName = "efflite0"
    """inception: the network of FID, from the file --inception. dinov2, clip: from
    --dinov2 or --clip."""
    input_size: int = EvaluationConfig().input_size
    """Input side of efflite0."""
    inception: str | None = None
    """Weight file of Inception; needs the extra ``fid``."""
    dinov2: str | None = None
    """Folder or hub name of a DINOv2 model in transformers' format."""
    clip: str | None = None
    """Folder or hub name of a CLIP in transformers' format."""
    batch_size: int = 64
    device: str = "auto"


def main(argv: list[str]) -> int:
    """Parse, measure, save."""
    command = parse(ReferenceCommand, "pippin reference", argv)
    if command.clip is not None and command.features != "clip":
        raise ConfigError(
            f"--clip {command.clip} has no effect with --features {command.features}: give "
            "--features clip, or leave --clip out"
        )
    config = EvaluationConfig(
        features=command.features,
        input_size=command.input_size,
        inception=command.inception,
        dinov2=command.dinov2,
        clip=command.clip,
        batch_size=command.batch_size,
    )

    if not is_rank0():
        return 0
    if get_world_size() > 1:
        print_text("a reference is measured by rank 0 only; other ranks exit", error=True)

    from pippin.evaluation.reference import write_reference
    from pippin.system.device import resolve_device

    device = resolve_device(command.device)
    reference = write_reference(command.images, command.out, config, command.resolution, device)
    dim = len(reference.pooled.mean)
    print_text(
        f"written: {command.out} ({reference.extractor}, {dim} features of {reference.count} "
        f"images); "
        f"next: pippin evaluate FOLDER --reference {command.out} "
        f"--features {command.features} ..."
    )
    if reference.count is not None and reference.count <= dim:
        print_text(
            f"note: {reference.count} images are too few for {dim} dimensions: the Frechet "
            "distance is strongly biased upwards, even between samples of one distribution"
        )
    return 0
