# SPDX-License-Identifier: Apache-2.0
"""Addresses and digests of published weight files of feature networks.

Imports no torch. `pippin fetch` downloads a file if a recipe names it by its published name.
"""

from typing import NamedTuple


class PublishedFile(NamedTuple):
    """Published file of weights."""

    url: str
    sha256: str
    """Its digest, or the first digits of it, which torchvision puts into the name."""


INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Digest of the Inception weights of published FID."""
PUBLISHED_FILES: dict[str, PublishedFile] = {
    "weights-inception-2015-12-05-6726825d.pth": PublishedFile(
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
        INCEPTION_SHA256,
    ),
    "alexnet-owt-7be5be79.pth": PublishedFile(
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79"
    ),
    "vgg16-397923af.pth": PublishedFile(
        "https://download.pytorch.org/models/vgg16-397923af.pth", "397923af"
    ),
}
"""File name -> where it is published."""
