# SPDX-License-Identifier: Apache-2.0
"""Images inside a notebook or a page, as data URIs, so that nothing is written to disk."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from markupsafe import Markup
from torch import Tensor

from pippin.images.files import image_grid, to_pil
from pippin.system.display import html_text
from pippin.types import Images

FIGURE = "margin:2px;text-align:center;font-size:small"
TABLE = "display:grid;width:max-content;max-width:100%;overflow-x:auto"


def png_bytes(pixels: UInt8[Tensor, "3 height width"]) -> bytes:
    """An image as the content of a PNG file."""
    buffer = io.BytesIO()
    to_pil(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def png_uri(pixels: UInt8[Tensor, "3 height width"]) -> str:
    """An image as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(pixels)).decode("ascii")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDisplay:
    """Images that a notebook shows as the value of a cell; see :func:`show_images`."""

    images: Images
    captions: tuple[str, ...] = ()
    """One for each image; empty = none."""
    columns: int
    zoom: int = 1
    """Pixels of the screen along each side of a pixel."""

    def _repr_html_(self) -> str:
        """Images in rows, each above its caption."""
        captions = self.captions or ("",) * len(self.images)
        figures = map(self._figure, self.images, captions)
        style = f"{TABLE};grid-template-columns:repeat({self.columns},max-content)"
        return str(Markup('<div style="{}">{}</div>').format(style, Markup().join(figures)))

    def _repr_png_(self) -> bytes:
        """One grid of all images without captions, where HTML is not shown."""
        return png_bytes(image_grid(self.images, self.columns))

    def __repr__(self) -> str:
        height, width = self.images.shape[-2:]
        return f"{len(self.images)} images of {height} x {width} pixels"

    def _figure(self, image: UInt8[Tensor, "3 height width"], caption: str) -> Markup:
        height, width = (self.zoom * side for side in image.shape[-2:])
        text = html_text(caption)
        return Markup(
            '<figure style="{}"><img src="{}" width="{}" height="{}" alt="{}" '
            'style="image-rendering:pixelated"><figcaption>{}</figcaption></figure>'
        ).format(FIGURE, png_uri(image), width, height, text or "sample", text)


def show_images(
    images: Tensor,
    captions: Sequence[object] = (),
    *,
    columns: int | None = None,
    zoom: int = 2,
) -> ImageDisplay:
    """Images as the value of a notebook's cell.

    Args:
        images: uint8 (batch, 3, height, width), as :func:`pippin.draw` returns them.
        captions: one for each image, such as its seed; empty = none.
        columns: number of images in a row; None = at most 8.
        zoom: pixels of the screen along each side of a pixel.

    Raises:
        ValueError: other tensors, no images, or another number of captions.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            "images must be uint8 of shape (batch, 3, height, width); got "
            f"{images.dtype} of shape {tuple(images.shape)}; for one image give image[None]"
        )
    if not len(images):
        raise ValueError("no images to show; give a batch of at least one image")
    if captions and len(captions) != len(images):
        raise ValueError(
            f"{len(captions)} captions for {len(images)} images; give one for each, or none"
        )
    for name, value in (("columns", columns), ("zoom", zoom)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    return ImageDisplay(
        images=images.cpu(),
        captions=tuple(map(str, captions)),
        columns=columns or min(8, len(images)),
        zoom=zoom,
    )
