# SPDX-License-Identifier: Apache-2.0
"""Scenes of coloured shapes as a source of images: drawn when they are asked for."""

import hashlib
import json
from functools import cached_property, lru_cache

from jaxtyping import UInt8
from torch import Tensor

from pippin.control import Control, Size
from pippin.data.config import ShapesConfig
from pippin.data.crop import whole_image
from pippin.data.rasterise import renderer
from pippin.data.shapes.captions import captions_of
from pippin.data.shapes.drawing import OUTLINES, draw_image
from pippin.data.shapes.scene import (
    BACKGROUNDS,
    CELL,
    COLOURS,
    SHAPES,
    SIZES,
    Scene,
    draw_scene,
)
from pippin.data.size import class_scores, original_size
from pippin.data.table import Split
from pippin.data.tie import Tie
from pippin.rng import normal

CLEAN_SIZE = Size(256, 256)
"""The source size of clean views, in pixels."""
HASHED = 64
"""Scenes whose content goes into the hash of a source; all others follow from the same law."""
KEPT = 2**16
"""Scenes kept in memory, of all sources of a process together."""


class ShapesSource:
    """The scenes of one split; see :class:`pippin.data.source.PictureSource`.

    Scene i depends on (seed, split, i) only, whatever the number of images.

    Args:
        config: numbers, sizes, crops, dials and seed.
        split: ``train`` or ``held-out``.
    """

    def __init__(self, config: ShapesConfig, split: Split) -> None:
        self.config = config
        self.split: Split = split
        self.class_names: tuple[str, ...] = SHAPES
        if config.label == "shape-colour":
            self.class_names = tuple(f"{colour} {one}" for one in SHAPES for colour in COLOURS)
        self._ids = {name: number for number, name in enumerate(self.class_names)}
        self.layout: str | None = None
        self.decoder = renderer()
        self.lost = ()
        self.probe_side = CLEAN_SIZE.height
        self._scores = class_scores([1] * len(self.class_names))

    def __len__(self) -> int:
        """How many scenes one epoch has."""
        train = self.split == "train"
        return self.config.images if train else self.config.held_out_images

    def scene(self, index: int) -> Scene:
        """What image ``index`` shows."""
        return _scene(self.split, self.config.seed, self.key(index), self.config.objects)

    def key(self, index: int) -> str:
        """Split and number."""
        return f"{self.split}/{index}"

    def name(self, index: int) -> str:
        """The short caption, such as "red circle and blue star"."""
        return self.captions(index)["name"]

    def captions(self, index: int) -> dict[str, str]:
        """``short``, ``medium``, ``long``, and ``name``, which is the short one."""
        return captions_of(self.scene(index))

    def label(self, index: int) -> int:
        """The class id of the first object, a place in ``class_names``."""
        first = self.scene(index).things[0]
        whole = self.config.label == "shape-colour"
        return self._ids[f"{first.colour} {first.shape}" if whole else first.shape]

    def original_size(self, index: int) -> Size:
        """The size that the law of sizes gives this scene, the same in every view."""
        own = float(normal((1,), "size", self.config.seed, self.key(index)))
        return original_size(self.config.size_law, self._scores[self.label(index)], own)

    def tie(self, index: int) -> Tie:
        """What joins the other controls to the scene's class."""
        return Tie(score=self._scores[self.label(index)], dials=self.config.correlation)

    def image(
        self, index: int, view: int | None = None, original_size: Size | None = None
    ) -> UInt8[Tensor, "3 height width"]:
        """The scene, drawn; the same for every view.

        Args:
            index: which scene.
            view: ignored.
            original_size: (height, width) to draw at; None = the size the law gives.

        Raises:
            ValueError: the size is not square.
        """
        height, width = original_size or self.original_size(index)
        if height != width:
            raise ValueError(f"scenes of shapes are square; asked for {height} x {width} pixels")
        return draw_image(self.scene(index), height)

    def can_show(self, index: int, original_size: Size) -> bool:
        """Any square size: scenes are drawings."""
        return original_size.height == original_size.width

    def clean_control(self, index: int) -> Control:
        """The whole scene at 256 pixels, unflipped."""
        return whole_image(CLEAN_SIZE)

    def source_hash(self) -> str:
        """Over the law of this split, a sample of its scenes, and the renderer's version."""
        return self._hash

    def content_hash(self) -> str:
        """The same without the renderer's version."""
        return self._digest("")

    @cached_property
    def _hash(self) -> str:
        return self._digest(self.decoder)

    def _digest(self, decoder: str) -> str:
        config, count = self.config, min(len(self), HASHED)
        law = [len(self), config.seed, config.objects, self.class_names, COLOURS, OUTLINES]
        law += [SIZES, BACKGROUNDS, CELL]
        sample = [(self.scene(index), self.captions(index)) for index in range(count)]
        text = json.dumps([decoder, self.split, law, sample])
        drawn = hashlib.sha256(draw_image(self.scene(0), 32).numpy().tobytes()).hexdigest()
        return hashlib.sha256(f"{text}{drawn if decoder else ''}".encode()).hexdigest()[:16]


@lru_cache(KEPT)
def _scene(split: Split, seed: int, key: str, objects: int) -> Scene:
    """What :func:`pippin.data.shapes.scene.draw_scene` gives; outside of sources, which workers
    receive pickled."""
    return draw_scene(split, seed, key, objects)
