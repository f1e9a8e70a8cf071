# SPDX-License-Identifier: Apache-2.0
"""CLIP score (Hessel et al. 2021, arXiv 2104.08718): does an image show its caption?

    score = 100 max(cos(E_image, E_text), 0)

E are the projected embeddings of a CLIP. The paper's own factor is w = 2.5; papers on text to
image report 100. The number depends on the CLIP: those of two CLIPs are not comparable.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from pippin.encoders.hub import (
    load_tokenizer,
    load_weights,
    loading,
    model_fingerprint,
    model_folder,
    model_type,
    transformers_library,
)
from pippin.encoders.text_checks import check_captions_matter, check_end, check_vocabulary
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.measure import Measure, Subject, mean_measure
from pippin.rng import permutation
from pippin.system.json_text import parse_json
from pippin.types import Images, ImageStream

ALLOWED = (
    "a folder with a CLIP in transformers' format, such as one of openai/clip-vit-base-patch32, "
    "or a hub name with network access"
)


class Clip:
    """A frozen CLIP of the transformers library, in fp32.

    Images are prepared as its preprocessor_config.json says: resized, cut to the centred square,
    normalised. Where there is none, the published CLIP's mean, standard deviation and bicubic
    filter are taken, at the image size of its config.json.

    Args:
        source: a folder, or a hub name; OpenCLIP's weights work once they are converted.
        device: where it runs; images are prepared on the CPU.

    Raises:
        ValueError: no CLIP of that name, files that are missing or do not fit each other, or
            transformers is not installed.
    """

    def __init__(self, source: str, device: torch.device | str = "cpu") -> None:
        folder = model_folder(source, "CLIP")
        kind = model_type(folder)
        if kind != "clip":
            raise ValueError(
                f"CLIP {source!r} is a {kind!r} model, but CLIP score needs a whole CLIP of model "
                f"type 'clip', with an image and a text part; give {ALLOWED}"
            )
        model, self._tokenizer, self._processor = _load(folder)
        self._model, self._device = model.to(device), torch.device(device)
        vision = model.config.vision_config
        self.image_size: int = vision.image_size
        self.text_tokens: int = model.config.text_config.max_position_embeddings
        """Longer captions are cut; the published CLIPs read 77."""
        self.vision = (
            f"{vision.num_hidden_layers} layers of {vision.hidden_size}, patches of "
            f"{vision.patch_size}"
        )
        self.fingerprint = model_fingerprint("clip score", folder)
        """Of its files."""
        _check_image_size(self, folder)
        where = f"the CLIP in {folder}"
        text = model.config.text_config
        check_vocabulary(self._tokenizer, text.vocab_size, where)
        check_end(self._tokenizer, text.eos_token_id, where)
        check_captions_matter(self._tokenizer, lambda pair: [self.texts(pair, 2)], where)

    def protocol(self) -> dict[str, Any]:
        """What the CLIP is."""
        return {
            "clip": self.fingerprint,
            "clip_vision": self.vision,
            "clip_image_size": self.image_size,
            "clip_text_tokens": self.text_tokens,
        }

    def pixels(self, images: Images) -> Float[Tensor, "batch 3 rows columns"]:
        """Images as the network reads them, on the CPU."""
        prepared: Tensor = self._processor(images.cpu(), return_tensors="pt")["pixel_values"]
        return prepared

    def ids(self, captions: Sequence[str]) -> Any:
        """Tokens and their mask; long captions are cut, what is no text is replaced."""
        clean = [caption.encode("utf-8", "replace").decode("utf-8") for caption in captions]
        return self._tokenizer(
            clean,
            padding="max_length",
            max_length=self.text_tokens,
            truncation=True,
            return_tensors="pt",
        )

    def num_cut(self, captions: Sequence[str]) -> int:
        """How many captions have more tokens than are read."""
        clean = [caption.encode("utf-8", "replace").decode("utf-8") for caption in captions]
        ids = self._tokenizer(clean, verbose=False)["input_ids"] if clean else []
        return sum(len(one) > self.text_tokens for one in ids)

    @torch.inference_mode()
    def images(self, batches: ImageStream) -> Float[Tensor, "count dim"]:
        """Embeddings of length 1 of a stream of uint8 images of any size, on the CPU.

        Raises:
            ValueError: no images at all, or something else than uint8.
        """
        rows = []
        for batch in batches:
            if batch.dtype != torch.uint8:  # it would be scaled wrongly
                raise ValueError(f"a CLIP score is taken of uint8 images; got {batch.dtype}")
            found = self._model.get_image_features(self.pixels(batch).to(self._device))
            rows.append(normalize(_vectors(found).float(), dim=-1).cpu())
        if not rows:
            raise ValueError("there are no images to take a CLIP score of: the stream was empty")
        return torch.cat(rows)

    @torch.inference_mode()
    def texts(self, captions: Sequence[str], batch_size: int) -> Float[Tensor, "captions dim"]:
        """Embeddings of length 1 of captions, on the CPU."""
        rows = []
        for start in range(0, len(captions), batch_size):
            batch = self.ids(captions[start : start + batch_size]).to(self._device)
            found = self._model.get_text_features(batch["input_ids"], batch["attention_mask"])
            rows.append(normalize(_vectors(found).float(), dim=-1).cpu())
        return torch.cat(rows)


def _vectors(found: Any) -> Tensor:
    """Projected embeddings; before its version 5 the library gave them as they are."""
    return found if isinstance(found, Tensor) else found.pooler_output


def clip_scores(
    images: Float[Tensor, "count dim"], texts: Float[Tensor, "count dim"]
) -> Float[Tensor, " count"]:
    """100 max(cos, 0) of each image with the caption beside it, in fp64."""
    cosine = (normalize(images.double(), dim=-1) * normalize(texts.double(), dim=-1)).sum(dim=-1)
    return 100 * cosine.clamp(min=0)


def clip_measures(
    clip: Clip,
    captions: Sequence[str],
    sides: Mapping[Subject, tuple[ImageStream, dict[str, Any]]],
    config: EvaluationConfig,
) -> list[Measure]:
    """The scores of several sets of images for one list of captions.

    Args:
        clip: of images and captions.
        captions: one an image, in order.
        sides: whose images, the images as uint8 batches, and all else that can change the number.
        config: seed and batch size.

    Raises:
        ValueError: not one caption an image.
    """
    texts = clip.texts(captions, config.batch_size)
    listed = hashlib.sha256(json.dumps(list(captions)).encode()).hexdigest()[:16]
    about = clip.protocol() | {"captions_hash": listed}
    measures = []
    for subject, (images, protocol) in sides.items():
        found = clip.images(images)
        measures += score_measures(
            found, texts, seed=config.seed, subject=subject, protocol=about | protocol
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
    """The mean score of images with their own captions, and with captions exchanged among them.

    Args:
        images, texts: embeddings, one pair a sample.
        seed: of the exchange and of the bootstraps.
        subject: whose images.
        protocol: all else that can change the number.

    Raises:
        ValueError: not one caption an image.
    """
    if len(images) != len(texts):
        raise ValueError(
            f"a CLIP score needs one caption an image; got {len(images)} images and "
            f"{len(texts)} captions"
        )
    order = permutation(len(texts), "subset", seed, "shuffled")
    shared: dict[str, Any] = {"unit": "100 cos", "seed": seed, "subject": subject}
    own, floor = clip_scores(images, texts), clip_scores(images, texts[order])
    return [
        mean_measure("CLIP score", own, better="higher", protocol=protocol, **shared),
        mean_measure("CLIP score shuffled", floor, better="neither", protocol=protocol, **shared),
    ]


def _load(folder: Path) -> tuple[Any, Any, Any]:
    """Model, tokenizer and image processor."""
    transformers = transformers_library("CLIP score")
    with loading("the CLIP", folder, "a tokenizer"):
        model, _ = load_weights(transformers.CLIPModel, "the CLIP", folder)
        tokenizer = load_tokenizer(folder)
        processor = _image_processor(folder, model.config.vision_config.image_size)
    return model.eval().requires_grad_(False), tokenizer, processor


def _image_processor(folder: Path, image_size: int) -> Any:
    """As the folder says, or as the published CLIPs do at this image size."""
    kind = transformers_library("CLIP score").CLIPImageProcessor
    of_processor = folder / "processor_config.json"
    nested = of_processor.is_file() and "image_processor" in parse_json(of_processor.read_bytes())
    if nested or (folder / "preprocessor_config.json").is_file():
        return kind.from_pretrained(folder, local_files_only=True)
    return kind(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
    )


def _check_image_size(clip: Clip, folder: Path) -> None:
    """Refuse images of another size than the network reads."""
    shape = tuple(clip.pixels(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).shape[-2:])
    if shape != (clip.image_size, clip.image_size):
        raise ValueError(
            f"the CLIP in {folder} reads images of {clip.image_size} pixels, but its "
            f"preprocessor_config.json makes {shape[0]} x {shape[1]}; without that file the image "
            "size of config.json is taken"
        )
