# SPDX-License-Identifier: Apache-2.0
"""Recipes on own pictures: ``pippin train folder/NAME --data.path FOLDER``.

They differ from those on the embedded pictures in the data, and in that latents are normalised by
numbers measured on the images; but for the one without classes, and for those of 256 pixels, which
are for photographs and one GPU.
"""

from dataclasses import replace

from pippin.conditioning.config import NoSemantic
from pippin.data.config import ImagesConfig
from pippin.denoisers.config import dit, mmdit
from pippin.encoders.config import AutoencoderConfig
from pippin.recipes import openmoji
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import ControlRequest, GuidanceConfig


def _on_folder(recipe: Recipe) -> Recipe:
    """The recipe on a folder of images, whose latents nobody has seen before."""
    return replace(
        recipe, data=ImagesConfig(), autoencoder=AutoencoderConfig(normalisation="measured")
    )


def mmdit_disentangled() -> Recipe:
    """Class by attention, low-level control under a power-cosine gate."""
    return _on_folder(openmoji.mmdit_disentangled())


def mmdit_entangled() -> Recipe:
    """Class by modulation, all control constant in time."""
    return _on_folder(openmoji.mmdit_entangled())


def mmdit_unconditional() -> Recipe:
    """No classes: for pictures without labels. Without classes there is nothing to guide to."""
    base = mmdit_disentangled()
    return replace(
        base,
        conditioning=replace(base.conditioning, semantic=NoSemantic(), rules={}),
        sampling=replace(base.sampling, guidance=GuidanceConfig()),
    )


def dit_disentangled() -> Recipe:
    """DiT with cross-attention to class tokens."""
    return _on_folder(openmoji.dit_disentangled())


def dit_entangled() -> Recipe:
    """DiT with adaLN-zero."""
    return _on_folder(openmoji.dit_entangled())


def mmdit_b_256() -> Recipe:
    """mmDiT-B/2 at 256 pixels on Stable Diffusion's latents, for photographs and one GPU.

    Objective and conditioning are those of the small recipe. Adam's rate is DiT's at its batch of
    256, without Muon, whose rates were found on small models. The length, 100 thousand steps, is
    ours.
    """
    base = mmdit_disentangled()
    return replace(
        base,
        data=ImagesConfig(resolution=256),
        autoencoder=AutoencoderConfig(
            source="stabilityai/sd-vae-ft-mse", normalisation="measured"
        ),
        denoiser=mmdit("B"),
        train=replace(
            base.train,
            images=25_600_000,
            batch_size=256,
            learning_rate=1e-4,
            muon_learning_rate=None,
            warmup_images=256_000,
            precision="bf16",
            micro_batch_size=64,  # of a card with 24 GB
            validate_every=500_000,
            preview_every=1_000_000,
            checkpoint_every=1_000_000,
        ),
        # A picture as large as the folder's are: 256 x 256 would ask for small originals.
        sampling=replace(base.sampling, control=ControlRequest(ask="clean")),
        evaluation=replace(base.evaluation, num_samples=5000, input_size=224),
    )


def dit_b_256() -> Recipe:
    """The same of DiT-B/2, with cross-attention to class tokens."""
    return replace(mmdit_b_256(), denoiser=dit("B", qk_norm=True, cross_attention=True))
