# SPDX-License-Identifier: Apache-2.0
"""``pippin reference IMAGES --out FILE.npz``: statistics that folders are evaluated against."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pippin.cli.options import parse
from pippin.evaluation.config import EvaluationConfig
from pippin.system.ranks import first_process, process_count
from pippin.system.terminal import say


@dataclass(frozen=True, kw_only=True)
class ReferenceCommand:
    """Take features of images and keep their mean and covariance, in the format of ADM's
    reference batches: for `pippin evaluate FOLDER --reference FILE.npz`."""

    images: Annotated[Path, tyro.conf.Positional]
    """A folder of image files, or a .npz of uint8 images (arr_0)."""
    out: Path
    """New file, FILE.npz."""
    resolution: int | None = None
    """The centred square of each image is brought to this side first; None = as they are."""
    features: Literal["efflite0", "inception", "dinov2"] = "efflite0"
    """inception: the network of FID, from the file that --inception names. dinov2: from
    --dinov2."""
    input_size: int = EvaluationConfig().input_size
    """Side at which efflite0 sees images."""
    inception: str | None = None
    """File of the weights of Inception; needs pip install 'pippin[fid]'."""
    dinov2: str | None = None
    """Folder or hub name of a DINOv2 in transformers' format."""
    batch_size: int = 64
    device: str = "auto"


def main(argv: list[str]) -> int:
    """Parse, measure, write."""
    command = parse(ReferenceCommand, "pippin reference", argv)
    config = EvaluationConfig(
        features=command.features,
        input_size=command.input_size,
        inception=command.inception,
        dinov2=command.dinov2,
        batch_size=command.batch_size,
    )

    if not first_process():
        return 0
    if process_count() > 1:
        say("a reference is measured by one process; the others end", error=True)

    from pippin.run.reference import write_reference
    from pippin.system.device import resolve_device

    device = resolve_device(command.device)
    found = write_reference(command.images, command.out, config, command.resolution, device)
    dim = len(found.pooled.mean)
    say(
        f"written: {command.out} ({found.extractor}, {dim} features of {found.count} images); "
        f"next: pippin evaluate FOLDER --reference {command.out} --features {command.features} ..."
    )
    if found.count is not None and found.count <= dim:
        say(
            f"note: {found.count} images cannot fill {dim} dimensions: the distance is far too "
            "large, also between two samples of one distribution"
        )
    return 0
