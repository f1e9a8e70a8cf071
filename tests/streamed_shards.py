# SPDX-License-Identifier: Apache-2.0
"""Archives of noise images, and what is built from them with and without unpacking."""

import io

import numpy as np
from PIL import Image

from pippin.data.cache.build import build_cache
from pippin.data.config import AugmentationConfig, CacheConfig, ImagesConfig
from pippin.data.importing.config import ImportConfig, ShardsConfig
from pippin.data.importing.importer import import_images
from pippin.data.sources.images import ImageFolderSource
from pippin.data.streaming.build import build_streamed


def noise_bytes(number, height=20, width=24, kind="PNG"):
    """Bytes of a noise image."""
    draws = np.random.default_rng(number)
    content = io.BytesIO()
    pixels = draws.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def samples(first, count):
    return [
        {
            "jpg": noise_bytes(n, 18 + n % 5, 30 - n % 7, "JPEG" if n % 2 else "PNG"),
            "txt": f"image {n}".encode(),
            "cls": str(n % 3).encode(),
        }
        for n in range(first, first + count)
    ]


def data_of(path, **changes):
    look = AugmentationConfig(colour_jitter=0.4, jpeg_share=0.5)
    settings = {"resolution": 16, "views": 2, "held_out_share": 0.3, "seed": 3, "look": look}
    index = str(path) + "-index"
    return ImagesConfig(path=str(path), index_folder=index, **(settings | changes))


def cache_of(folder, **changes):
    return CacheConfig(folder=str(folder), **({"shard_size": 4} | changes))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def imported(shards, folder, encoder, cache, **changes):
    """Source and cache of the images that an import unpacks."""
    import_images(ImportConfig(source=str(shards)), folder)
    source = ImageFolderSource(data_of(folder, **changes), "train")
    return source, build_cache(source, encoder, cache)


def streamed(shards, folder, encoder, cache, *, keep=50, **changes):
    """Source of the images that were encoded from shards, and the cache's folder."""
    data = data_of(folder, **changes)
    built = build_streamed(ShardsConfig(source=str(shards), keep=keep), data, cache, encoder)
    return ImageFolderSource(data, "train"), built
