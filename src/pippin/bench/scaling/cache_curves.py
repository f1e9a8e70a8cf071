# SPDX-License-Identifier: Apache-2.0
"""Throughput of building and of reading a latent cache against the images of the data set."""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from pippin.bench.scaling.config import ScalingConfig
from pippin.bench.scaling.declarations import (
    PIPPIN,
    CurveDeclaration,
    CurveFamily,
    Law,
    Measured,
)
from pippin.bench.scaling.turns import take_turns
from pippin.data.cache.build import build_cache
from pippin.data.cache.latent_cache import LatentCache
from pippin.data.config import CacheConfig, ShapesConfig
from pippin.data.loader import LatentLoader
from pippin.data.sources.factory import build_source
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.system.device import resolve_device

AUTOENCODER = "pippin/shapes-f4"
ENCODE_BATCH, READ_BATCH = 32, 64
"""Images encoded at once, and batch size of the loader."""


def data_family(config: ScalingConfig) -> CurveFamily:
    """Curves of the latent cache of procedural scenes, with the shipped autoencoder."""
    law = Law(words="images/s do not depend on the size of the data set", relative=lambda _: 1.0)
    what = f"{config.resolution}-pixel scenes of shapes, autoencoder {AUTOENCODER}, one process"

    def curve(key: str, title: str, note: str) -> CurveDeclaration:
        return CurveDeclaration(
            key=key,
            title=title,
            axis="images",
            unit="images/s",
            better="higher",
            law=law,
            note=note,
        )

    return CurveFamily(
        name="data",
        points=config.images,
        curves=(
            curve("cache-build", "Building a latent cache", f"{what}; drawing included"),
            curve(
                "cache-read",
                "Reading a latent cache",
                f"One epoch of the loader, batches of up to {READ_BATCH}; files in the page cache",
            ),
        ),
        cost=float,
        measure=lambda images: _measure(images, config),
    )


def _measure(images: int, config: ScalingConfig) -> Measured:
    device = resolve_device(config.device)
    data = ShapesConfig(images=images, held_out_images=1, resolution=config.resolution)
    source = build_source(data, "train")
    encoder = Autoencoder.load(AutoencoderConfig(source=AUTOENCODER), device)
    side = config.resolution
    encoder.encode(torch.zeros(ENCODE_BATCH, 3, side, side, device=device))  # a warm-up
    caches: list[LatentCache] = []
    numbers = itertools.count()
    with TemporaryDirectory() as folder:

        def build() -> None:
            place = CacheConfig(folder=str(Path(folder) / str(next(numbers))))
            cache = build_cache(source, encoder, place, device=device, encode_batch=ENCODE_BATCH)
            caches.append(cache)

        def read() -> None:
            batches = iter(
                LatentLoader(caches[-1], encoder, batch_size=batch, seed=0, device=device)
            )
            for _ in range(images // batch):
                next(batches)

        batch = min(READ_BATCH, images)
        building = take_turns({PIPPIN: build}, config.seconds, device)[PIPPIN]
        reading = take_turns({PIPPIN: read}, config.seconds, device)[PIPPIN]
    values = {
        "cache-build": {PIPPIN: [images / one for one in building]},
        "cache-read": {PIPPIN: [images // batch * batch / one for one in reading]},
    }
    return Measured(values=values, call_seconds=max(*building, *reading))
