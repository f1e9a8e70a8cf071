# SPDX-License-Identifier: Apache-2.0
"""Recipes for a custom data set: ``pippin train folder/NAME --data.path FOLDER``.

They differ from the recipes for the embedded images in the data, and in the normalisation of
latents, which is measured on the images. Exceptions are the unconditional recipe, and the recipes
at 256 pixels, which are for photographs and one GPU.

``--text-encoder NAME`` turns a recipe into one for captions, or changes its encoder
(:func:`pippin.recipes.text_encoders.with_text_encoder`).
"""

from dataclasses import replace

from pippin.conditioning.config import NoSemantic
from pippin.config import replace_at
from pippin.data.config import ImagesConfig
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.pixart.config import pixart
from pippin.encoders.config import AutoencoderConfig
from pippin.recipes import openmoji
from pippin.recipes.recipe import Recipe
from pippin.recipes.text_encoders import with_text_encoder
from pippin.sampling.config import ControlRequest, GuidanceConfig


def _with_image_folder(recipe: Recipe) -> Recipe:
    """Recipe for a folder of images, with latents normalised by measured numbers."""
    return replace(
        recipe, data=ImagesConfig(), autoencoder=AutoencoderConfig(normalisation="measured")
    )


def mmdit_disentangled() -> Recipe:
    """mmDiT with class by attention and low-level control under a power-cosine gate."""
    return _with_image_folder(openmoji.mmdit_disentangled())


def mmdit_entangled() -> Recipe:
    """mmDiT with class by modulation and all control constant in time."""
    return _with_image_folder(openmoji.mmdit_entangled())


def mmdit_unconditional() -> Recipe:
    """Unconditional mmDiT, for images without labels; without guidance."""
    base = mmdit_disentangled()
    return replace(
        base,
        conditioning=replace(base.conditioning, semantic=NoSemantic(), rules={}),
        sampling=replace(base.sampling, guidance=GuidanceConfig()),
    )


def dit_disentangled() -> Recipe:
    """DiT with cross-attention to class tokens."""
    return _with_image_folder(openmoji.dit_disentangled())


def dit_entangled() -> Recipe:
    """DiT with adaLN-zero."""
    return _with_image_folder(openmoji.dit_entangled())


def mmdit_b_256() -> Recipe:
    """mmDiT-B/2 at 256 pixels on Stable Diffusion's latents, for photographs and one GPU.

    Objective and conditioning are those of the small recipe. Adam's learning rate is DiT's at its
    batch size of 256. Muon is off, since its learning rates were tuned on small models. The
    length, 100 thousand steps, is our choice.
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
            micro_batch_size=64,  # fits a GPU with 24 GB
            validate_every=500_000,
            preview_every=1_000_000,
            checkpoint_every=1_000_000,
        ),
        # An original size as in the folder: 256 x 256 would request small originals.
        sampling=replace(base.sampling, control=ControlRequest(ask="clean")),
        evaluation=replace(base.evaluation, num_samples=5000, input_size=224),
    )


def dit_b_256() -> Recipe:
    """DiT-B/2 at 256 pixels, with cross-attention to class tokens."""
    return replace(mmdit_b_256(), denoiser=dit("B", qk_norm=True, cross_attention=True))


def _text_guided(recipe: Recipe) -> Recipe:
    """Recipe with a guidance scale for captions, our choice."""
    guidance = replace(recipe.sampling.guidance, semantic_scale=5.0)
    return replace(recipe, sampling=replace(recipe.sampling, guidance=guidance))


def mmdit_b_256_text() -> Recipe:
    """mmDiT-B/2 at 256 pixels on captions, which CLIP ViT-L/14 encodes: the common protocol's."""
    return _text_guided(with_text_encoder(mmdit_b_256(), "clip-l"))


def pixart_b_256_text() -> Recipe:
    """PixArt-alpha of DiT-B's size at 256 pixels on captions, which a T5 encodes.

    120 tokens of a T5 and the projection by an MLP are PixArt-alpha's (Chen et al. 2023). Its T5
    has 4.7 billion parameters; this one has 0.3 billion in its encoder. Padding, objective and
    control are those of the other recipes at 256.
    """
    denoiser = pixart("B", qk_norm=True)
    recipe = with_text_encoder(replace(mmdit_b_256(), denoiser=denoiser), "t5-large")
    return _text_guided(replace_at(recipe, "conditioning.semantic.projection", "mlp"))
