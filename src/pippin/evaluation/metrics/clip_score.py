# SPDX-License-Identifier: Apache-2.0
"""CLIP score (Hessel et al. 2021, arXiv 2104.08718): agreement of images and captions.

    score = 100 max(cos(E_image, E_text), 0)

E are the projected embeddings of a CLIP model. The paper's own factor is w = 2.5; text-to-image
papers report 100. Scores of different CLIP models are not comparable.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor
from torch.nn.functional import normalize

from pippin.encoders.hub import (
    describe_load_errors,
    load_tokenizer,
    load_weights,
    model_fingerprint,
    model_folder,
    model_type,
    transformers_library,
)
from pippin.encoders.text_checks import check_captions_matter, check_end, check_vocabulary
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.measure import Measure, Subject, mean_measure
from pippin.evaluation.metrics.declared.captions import CLIP_SCORE
from pippin.rng import permutation
from pippin.system.formats import read_foreign_json
from pippin.system.text import print_above_progress, valid_unicode
from pippin.types import Images, ImageStream

ALLOWED = (
    "a folder with a CLIP in transformers' format, such as one of openai/clip-vit-base-patch32, "
    "or a hub name with network access"
)


class Clip:
    """Frozen CLIP model of the transformers library, in fp32.

    Images are preprocessed as its preprocessor_config.json says: resized, centre-cropped,
    normalised. Without that file, the published CLIP's mean, standard deviation and bicubic filter
    are used, at the image size of its config.json.

    Args:
        source: a folder, or a hub name; OpenCLIP's weights work once they are converted.
        device: device of the model; images are preprocessed on the CPU.

    Raises:
        ValueError: no CLIP of that name, files that are missing or inconsistent, or transformers
            is not installed.
    """

    def __init__(self, source: str, device: torch.device | str = "cpu") -> None:
        folder = model_folder(source, "CLIP")
        found_type = model_type(folder)
        if found_type != "clip":
            raise ValueError(
                f"CLIP {source!r} is a {found_type!r} model, but CLIP score needs a whole CLIP of "
                f"model type 'clip', with an image and a text encoder; give {ALLOWED}"
            )
        model, self._tokenizer, self._processor = _load(folder)
        self._model, self._device = model.to(device), torch.device(device)
        vision = model.config.vision_config
        self.image_size: int = vision.image_size
        self.dim: int = model.config.projection_dim
        """Width of the embeddings."""
        self.text_tokens: int = model.config.text_config.max_position_embeddings
        """Longer captions are truncated; the published CLIPs read 77 tokens."""
        self.vision = (
            f"{vision.num_hidden_layers} layers of {vision.hidden_size}, patches of "
            f"{vision.patch_size}"
        )
        self.fingerprint = model_fingerprint("clip score", folder)
        """Hash of the model's files."""
        _check_image_size(self, folder)
        where = f"the CLIP in {folder}"
        text = model.config.text_config
        check_vocabulary(self._tokenizer, text.vocab_size, where)
        check_end(self._tokenizer, text.eos_token_id, where)
        check_captions_matter(self._tokenizer, lambda pair: [self.texts(pair, 2)], where)

    def protocol(self) -> dict[str, Any]:
        """Identity of the CLIP model, for the protocol of measures."""
        return {
            "clip": self.fingerprint,
            "clip_vision": self.vision,
            "clip_image_size": self.image_size,
            "clip_text_tokens": self.text_tokens,
        }

    def pixels(self, images: Images) -> Float[Tensor, "batch 3 rows columns"]:
        """Preprocessed images, on the CPU."""
        prepared: Tensor = self._processor(images.cpu(), return_tensors="pt")["pixel_values"]
        return prepared

    def ids(self, captions: Sequence[str]) -> Any:
        """Token ids and attention mask; long captions are truncated, invalid text is replaced."""
        clean = [*map(valid_unicode, captions)]
        return self._tokenizer(
            clean,
            padding="max_length",
            max_length=self.text_tokens,
            truncation=True,
            return_tensors="pt",
        )

    def num_truncated(self, captions: Sequence[str]) -> int:
        """Number of captions that are truncated."""
        clean = [*map(valid_unicode, captions)]
        ids = self._tokenizer(clean, verbose=False)["input_ids"] if clean else []
        return sum(len(tokens) > self.text_tokens for tokens in ids)

    @torch.inference_mode()
    def images(self, batches: ImageStream) -> Float[Tensor, "count dim"]:
        """Unit-length embeddings of a stream of uint8 images of any size, on the CPU.

        Raises:
            ValueError: no images at all, or not uint8.
        """
        embeddings = []
        for batch in batches:
            if batch.dtype != torch.uint8:  # it would be scaled wrongly
                raise ValueError(f"CLIP score needs uint8 images; got {batch.dtype}")
            features = self._model.get_image_features(self.pixels(batch).to(self._device))
            embeddings.append(normalize(_vectors(features).float(), dim=-1).cpu())
        if not embeddings:
            raise ValueError("there are no images for the CLIP score: the stream was empty")
        return torch.cat(embeddings)

    @torch.inference_mode()
    def texts(self, captions: Sequence[str], batch_size: int) -> Float[Tensor, "captions dim"]:
        """Unit-length embeddings of captions, on the CPU."""
        rows = []
        for start in range(0, len(captions), batch_size):
            batch = self.ids(captions[start : start + batch_size]).to(self._device)
            features = self._model.get_text_features(batch["input_ids"], batch["attention_mask"])
            rows.append(normalize(_vectors(features).float(), dim=-1).cpu())
        return torch.cat(rows)


def _vectors(features: Any) -> Tensor:
    """Projected embeddings; before version 5 transformers returned them as a tensor."""
    return features if isinstance(features, Tensor) else features.pooler_output


def clip_scores(
    images: Float[Tensor, "count dim"], texts: Float[Tensor, "count dim"]
) -> Float[Tensor, " count"]:
    """Score 100 max(cos, 0) of each image with the caption of the same row, in fp64."""
    cosine = (normalize(images.double(), dim=-1) * normalize(texts.double(), dim=-1)).sum(dim=-1)
    return 100 * cosine.clamp(min=0)


def clip_measures(
    clip: Clip,
    captions: Sequence[str],
    sides: Mapping[Subject, tuple[ImageStream, dict[str, Any]]],
    config: EvaluationConfig,
) -> list[Measure]:
    """CLIP scores of several sets of images for one list of captions.

    Args:
        clip: the model.
        captions: one per image, in order.
        sides: subject -> images as uint8 batches, and whatever else can change the number.
        config: seed and batch size.

    Raises:
        ValueError: not one caption per image.
    """
    texts = clip.texts(captions, config.batch_size)
    captions_hash = hashlib.sha256(json.dumps(list(captions)).encode()).hexdigest()[:16]
    clip_protocol = clip.protocol() | {"captions_hash": captions_hash}
    measures = []
    for subject, (images, protocol) in sides.items():
        embeddings = clip.images(images)
        measures += score_measures(
            embeddings, texts, seed=config.seed, subject=subject, protocol=clip_protocol | protocol
        )
    return measures


def score_measures(
    images: Float[Tensor, "count dim"],
    texts: Float[Tensor, "captions dim"],
    *,
    seed: int,
    subject: Subject = "arm",
    protocol: dict[str, Any] | None = None,
) -> list[Measure]:
    """Mean score of images with their own captions, and with shuffled captions.

    Args:
        images, texts: embeddings, one pair per sample.
        seed: seed of the shuffle and of the bootstraps.
        subject: whose images they are.
        protocol: whatever else can change the number.

    Raises:
        ValueError: not one caption per image.
    """
    if len(images) != len(texts):
        raise ValueError(
            f"CLIP score needs one caption per image; got {len(images)} images and "
            f"{len(texts)} captions"
        )
    order = permutation(len(texts), "subset", seed, "shuffled")
    shared: dict[str, Any] = {"seed": seed, "subject": subject, "protocol": protocol}
    own, floor = clip_scores(images, texts), clip_scores(images, texts[order])
    return [
        mean_measure(CLIP_SCORE(), own, **shared),
        mean_measure(CLIP_SCORE(shuffled="shuffled"), floor, **shared),
    ]


def _load(folder: Path) -> tuple[Any, Any, Any]:
    """Model, tokenizer and image processor."""
    transformers = transformers_library("CLIP score")
    with describe_load_errors("the CLIP", folder, "a tokenizer"):
        model, _ = load_weights(transformers.CLIPModel, "the CLIP", folder)
        tokenizer = load_tokenizer(folder)
        processor = _image_processor(folder, model.config.vision_config.image_size)
    return model.eval().requires_grad_(False), tokenizer, processor


def _image_processor(folder: Path, image_size: int) -> Any:
    """Image processor of the folder, or that of the published CLIPs at this image size."""
    processor_class = transformers_library("CLIP score").CLIPImageProcessor
    processor_file = folder / "processor_config.json"
    is_nested = processor_file.is_file() and "image_processor" in read_foreign_json(processor_file)
    if is_nested or (folder / "preprocessor_config.json").is_file():
        return processor_class.from_pretrained(folder, local_files_only=True)
    return processor_class(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
    )


def _check_image_size(clip: Clip, folder: Path) -> None:
    """Refuse a preprocessor whose image size is not the model's."""
    shape = tuple(clip.pixels(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).shape[-2:])
    if shape != (clip.image_size, clip.image_size):
        raise ValueError(
            f"the CLIP in {folder} reads images of {clip.image_size} pixels, but its "
            f"preprocessor_config.json makes {shape[0]} x {shape[1]}; correct that file, or "
            "remove it to use the image size of config.json"
        )


def warn_truncated_captions(clip: Clip, captions: Sequence[str], console: Console) -> None:
    """Warn of captions that are longer than CLIP reads: only their beginnings are scored."""
    if count := clip.num_truncated(captions):
        print_above_progress(
            console,
            f"{count} of {len(captions)} captions ({count / len(captions):.1%}) have more than "
            f"the {clip.text_tokens} tokens that CLIP reads; their scores ignore the rest",
            label="truncated captions:",
        )
