# SPDX-License-Identifier: Apache-2.0
"""What the weights' file of an autoencoder says of itself, beside its weights.

One entry of the file's metadata, as JSON: the version, the latent statistics and the settings that
decide what the network computes, with a checksum of all these. Autoencoders of others, and ours of
version 0, have none.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pippin.system.formats import check_stamped, stamped

RECORD_KEY = "pippin.record"
KIND = "autoencoder"
"""Of :data:`pippin.system.formats.FORMATS`."""
ARCHITECTURE = (
    *("in_channels", "out_channels", "latent_channels", "block_out_channels", "layers_per_block"),
    *("down_block_types", "up_block_types", "act_fn", "norm_num_groups"),
    *("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"),
)
"""Settings of AutoencoderKL that change what it computes."""


def with_record(statistics: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, str]:
    """Metadata of a weights file: the latent statistics, and the record of these.

    Args:
        statistics: metadata of the affine.
        config: of the network.
    """
    values = {"statistics": dict(statistics), "architecture": _architecture(config)}
    return {**statistics, RECORD_KEY: json.dumps(stamped(KIND, values))}


def check_record(
    metadata: Mapping[str, str], path: Path, config: Mapping[str, Any] | None = None
) -> None:
    """Compare a weights file, and the config.json beside it, with what was written.

    Args:
        metadata: of the file; without a record nothing is compared.
        path: of the file.
        config: of the network, with defaults filled in; None = it is not compared.

    Raises:
        FormatError: of a newer version.
        ValueError: the record is damaged, or the statistics or settings are other ones.
    """
    if RECORD_KEY not in metadata:
        return
    try:
        values = json.loads(metadata[RECORD_KEY])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its {RECORD_KEY} is not JSON: {error}") from error
    record = check_stamped(values, KIND, path)
    if not record.get("statistics", {}).items() <= metadata.items():
        raise ValueError(f"{path} is damaged: its latent statistics are not those written with it")
    if config is not None and record.get("architecture") != _architecture(config):
        raise ValueError(
            f"{path} and the config.json beside it do not belong together: put back what was "
            "written with it"
        )


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """As plain JSON values."""
    return json.loads(json.dumps({name: config[name] for name in ARCHITECTURE}))
