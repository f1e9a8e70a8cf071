# SPDX-License-Identifier: Apache-2.0
"""Source of scenes of coloured shapes, rendered on demand."""

import hashlib
import json
from functools import cached_property, lru_cache

from jaxtyping import UInt8
from torch import Tensor

from pippin.control import Control, Size
from pippin.data.config import ShapesConfig
from pippin.data.sources.openmoji_table import Split
from pippin.data.sources.rasterise import renderer
from pippin.data.sources.shapes.rendering import OUTLINES, render_scene
from pippin.data.sources.shapes.scene import (
    BACKGROUNDS,
    CELL,
    COLOURS,
    SHAPES,
    SIZES,
    Scene,
    captions_of,
    draw_scene,
)
from pippin.data.views.crop import whole_image
from pippin.data.views.size import ClassCopula, class_scores, original_size
from pippin.rng import normal

CLEAN_SIZE = Size(256, 256)
"""Source size of clean views, in pixels."""
NUM_HASHED_SCENES = 64
"""Number of scenes in the hash of a source; all others follow from the same distribution."""
SCENE_CACHE_SIZE = 2**16
"""Maximum number of cached scenes, for all sources of a process."""


class ShapesSource:
    """Scenes of one split; see :class:`pippin.data.source.ImageSource`.

    Scene i depends on (seed, split, i) only, whatever the number of images.

    Args:
        config: numbers, sizes, crops, correlations and seed.
        split: ``train`` or ``held-out``.
    """

    def __init__(self, config: ShapesConfig, split: Split) -> None:
        self.config = config
        self.split: Split = split
        self.class_names: tuple[str, ...] = SHAPES
        if config.label == "shape-colour":
            self.class_names = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
        self._ids = {name: number for number, name in enumerate(self.class_names)}
        self.layout: str | None = None
        self.decoder = renderer()
        self.skipped = ()
        self.probe_side = CLEAN_SIZE.height
        self._scores = class_scores([1] * len(self.class_names))

    def __len__(self) -> int:
        """Number of scenes in one epoch."""
        train = self.split == "train"
        return self.config.images if train else self.config.held_out_images

    def scene(self, index: int) -> Scene:
        """Scene of image ``index``."""
        return _scene(self.split, self.config.seed, self.key(index), self.config.objects)

    def key(self, index: int) -> str:
        """Split and index."""
        return f"{self.split}/{index}"

    def name(self, index: int) -> str:
        """Short caption, such as "red circle and blue star"."""
        return self.captions(index)["name"]

    def captions(self, index: int) -> dict[str, str]:
        """Captions ``short``, ``medium``, ``long``, and ``name``, which equals ``short``."""
        return captions_of(self.scene(index))

    def label(self, index: int) -> int:
        """Class id of the first object, an index into ``class_names``."""
        first = self.scene(index).objects[0]
        with_colour = self.config.label == "shape-colour"
        return self._ids[f"{first.colour} {first.shape}" if with_colour else first.shape]

    def original_size(self, index: int) -> Size:
        """Random size of this scene from the size distribution, the same for every view."""
        own = float(normal((1,), "size", self.config.seed, self.key(index)))
        return original_size(self.config.size_law, self._scores[self.label(index)], own)

    def class_copula(self, index: int) -> ClassCopula:
        """Copula between the other controls and the scene's class."""
        return ClassCopula(
            score=self._scores[self.label(index)], correlations=self.config.correlation
        )

    def image(
        self, index: int, view: int | None = None, original_size: Size | None = None
    ) -> UInt8[Tensor, "3 height width"]:
        """Render the scene; the same for every view.

        Args:
            index: index of the scene.
            view: ignored.
            original_size: (height, width) in pixels; None = the scene's random size.

        Raises:
            ValueError: the size is not square.
        """
        height, width = original_size or self.original_size(index)
        if height != width:
            raise ValueError(
                f"scenes of shapes are square; got a size of {height} x {width} pixels"
            )
        return render_scene(self.scene(index), height)

    def can_show(self, index: int, original_size: Size) -> bool:
        """True for any square size, because scenes are SVG drawings."""
        return original_size.height == original_size.width

    def clean_control(self, index: int) -> Control:
        """Control of the whole scene at 256 pixels, unflipped."""
        return whole_image(CLEAN_SIZE)

    def source_hash(self) -> str:
        """Hash of the distribution of this split, some of its scenes, and the renderer's
        version."""
        return self._hash

    def content_hash(self) -> str:
        """Hash without the renderer's version."""
        return self._digest("")

    @cached_property
    def _hash(self) -> str:
        return self._digest(self.decoder)

    def _digest(self, decoder: str) -> str:
        config, count = self.config, min(len(self), NUM_HASHED_SCENES)
        settings = [len(self), config.seed, config.objects, self.class_names, COLOURS, OUTLINES]
        settings += [SIZES, BACKGROUNDS, CELL]
        sample = [(self.scene(index), self.captions(index)) for index in range(count)]
        text = json.dumps([decoder, self.split, settings, sample])
        drawn = hashlib.sha256(render_scene(self.scene(0), 32).numpy().tobytes()).hexdigest()
        return hashlib.sha256(f"{text}{drawn if decoder else ''}".encode()).hexdigest()[:16]


@lru_cache(SCENE_CACHE_SIZE)
def _scene(split: Split, seed: int, key: str, objects: int) -> Scene:
    """Cached :func:`pippin.data.sources.shapes.scene.draw_scene`; not a method, because sources
    are pickled for workers."""
    return draw_scene(split, seed, key, objects)
