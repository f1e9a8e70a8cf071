# SPDX-License-Identifier: Apache-2.0
"""Figures from papers, shown beside results of the same data set and resolution.

They are never ranked with results of pippin: other code produced them, and their protocols are
known only as far as the papers state them. Relative improvements are omitted.
"""

from dataclasses import dataclass

from pippin.studies.declaration import Declaration

HEADING = "Published figures, not ranked"
CAUTION = (
    "Published, not ranked: these numbers come from other code, image preparation and protocols. "
    "No verdict and no difference on this page uses them."
)


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """One number of one paper."""

    dataset: str
    """The value of ``data.dataset`` of a recipe."""
    resolution: int
    """Side of the samples in pixels."""
    model: str
    metric: str
    value: str
    """As printed."""
    protocol: str
    """The measurement protocol, as far as the paper states it."""
    source: str


_BERRADA = "Berrada et al. 2024, arXiv 2411.03177"
_CC12M = "as the paper reports it; fine-tuned from 256 pixels"
FIGURES = (
    PublishedFigure(
        dataset="imagenet-1k",
        resolution=256,
        model="LDM-4-G",
        metric="FID",
        value="3.60",
        protocol="50 000 samples, 250 steps of DDIM, guidance scale 1.5",
        source="Rombach et al. 2022, arXiv 2112.10752",
    ),
    PublishedFigure(
        dataset="imagenet-1k",
        resolution=256,
        model="DiT-XL/2-G",
        metric="FID",
        value="2.27",
        protocol="50 000 samples, 250 steps of DDPM, guidance scale 1.5, evaluation code of ADM",
        source="Peebles & Xie 2023, arXiv 2212.09748",
    ),
    PublishedFigure(
        dataset="imagenet-1k",
        resolution=256,
        model="MDTv2-XL/2-G",
        metric="FID",
        value="1.58",
        protocol="50 000 samples, guidance that grows along the steps",
        source="Gao et al. 2023, arXiv 2303.14389 (version 2)",
    ),
    PublishedFigure(
        dataset="imagenet-1k",
        resolution=512,
        model="DiT-XL/2-G",
        metric="FID",
        value="3.04",
        protocol="50 000 samples, 250 steps of DDPM, guidance scale 1.5, evaluation code of ADM",
        source="Peebles & Xie 2023, arXiv 2212.09748",
    ),
    PublishedFigure(
        dataset="imagenet-1k",
        resolution=512,
        model="best model of the paper",
        metric="FID",
        value="2.76",
        protocol="against ImageNet's validation set; fine-tuned from 256 pixels",
        source=_BERRADA,
    ),
    PublishedFigure(
        dataset="cc12m",
        resolution=512,
        model="best model of the paper",
        metric="FID",
        value="8.64",
        protocol=_CC12M,
        source=_BERRADA,
    ),
    PublishedFigure(
        dataset="cc12m",
        resolution=512,
        model="best model of the paper",
        metric="CLIP score",
        value="26.17",
        protocol=_CC12M,
        source=_BERRADA,
    ),
)


def published_figures(declaration: Declaration) -> list[PublishedFigure]:
    """The figures of the data sets and resolutions of a study's arms, or of a run."""
    settings = {
        (arm.get("data.dataset"), arm.get("data.resolution"))
        for arm in declaration.settings().values()
    }
    return [figure for figure in FIGURES if (figure.dataset, figure.resolution) in settings]
