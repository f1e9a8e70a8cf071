# SPDX-License-Identifier: Apache-2.0
"""Record in the weights file of an autoencoder: version and checksums.

The record is one JSON entry of the file's metadata: the version, the digest of the weights, the
settings of the architecture, the latent statistics, and a checksum of all these. Autoencoders from
other sources, and those of version 0, have no record.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pippin.system.formats import check_versioned_json, with_checksum
from pippin.system.json_text import parse_json
from pippin.system.tensors import typed_digest

RECORD_KEY = "pippin.record"
KIND = "autoencoder"
"""Key in :data:`pippin.system.formats.FORMATS`."""
ARCHITECTURE = (
    *("in_channels", "out_channels", "latent_channels", "block_out_channels", "layers_per_block"),
    *("down_block_types", "up_block_types", "act_fn", "norm_num_groups"),
    *("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"),
)
"""Settings of AutoencoderKL that change its outputs."""


def record_metadata(
    tensors: Mapping[str, Tensor], statistics: Mapping[str, str], config: Mapping[str, Any]
) -> dict[str, str]:
    """Metadata of a weights file.

    Args:
        tensors: the tensors to write.
        statistics: metadata of the affine.
        config: configuration of the network.
    """
    values = {
        "statistics": dict(statistics),
        "weights": typed_digest(tensors),
        "architecture": architecture(config),
    }
    return {**statistics, RECORD_KEY: json.dumps(with_checksum(KIND, values))}


def read_record(metadata: Mapping[str, str], place: Path) -> dict[str, Any]:
    """Read the record of a weights file; empty if there is none.

    Raises:
        FormatError: the record has a newer version.
        ValueError: the record is damaged, or the latent statistics differ from the written ones.
    """
    if RECORD_KEY not in metadata:
        return {}
    try:
        values = parse_json(metadata[RECORD_KEY])
    except ValueError as error:
        raise ValueError(f"{place} is damaged: its {RECORD_KEY} is not JSON: {error}") from error
    record = check_versioned_json(values, KIND, place)
    if not record.get("statistics", {}).items() <= metadata.items():
        raise ValueError(f"{place} is damaged: its latent statistics are not those written")
    return record


def check_weights(
    record: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    place: Path,
) -> None:
    """Compare a network with its record.

    Raises:
        ValueError: weights or settings differ from the written ones.
    """
    if "weights" in record and record["weights"] != typed_digest(tensors):
        raise ValueError(f"{place} is damaged: its weights are not those that were written")
    if record and record.get("architecture") != architecture(config):
        raise ValueError(
            f"{place} and the config.json beside it do not belong together: restore the original "
            "config.json"
        )


def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """Architecture settings as JSON values."""
    return json.loads(json.dumps({name: config[name] for name in ARCHITECTURE}))
