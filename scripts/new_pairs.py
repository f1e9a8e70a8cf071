# SPDX-License-Identifier: Apache-2.0
"""Evaluate attribute-object pairs held out of training (data.left_out).

    python scripts/new_pairs.py --run pippin/emoji-mmdit-text --folder runs/new-pairs

Samples each pair with several seeds and measures, with real images of the pairs as ceiling and
shuffled captions as floor:

- R@k of the pair's caption among the captions of all pairs, which tests the object;
- right attribute: the share of images that are nearer to their own caption than to every trained
  caption of the same object with another attribute ("red apple" for "green apple").

The distance is that of caption R@k (docs/reference/text.md). Images of one caption are averaged
first; intervals are over captions. Writes pairs.png, whose rows hold the samples of one pair, the
training image nearest to the first sample, and the real image; and results.jsonl. The same command
resumes after a stop.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from pippin.data.config import OpenMojiConfig
from pippin.data.source import ImageSource
from pippin.data.sources.factory import build_source
from pippin.data.sources.openmoji_table import COLOURS
from pippin.data.views.views import clean_images, clean_view
from pippin.evaluation.features.extraction import Features, build_features, extract
from pippin.evaluation.measure import Measure, mean_measure
from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metrics.alignment import RANKS, caption_ranks, fit_ridge
from pippin.evaluation.metrics.declared.captions import SHUFFLED
from pippin.evaluation.runs.evaluate import run_protocol
from pippin.evaluation.runs.recording import with_fingerprints, write_results
from pippin.images.folder import image_batches, read_image
from pippin.rng import permutation
from pippin.sampling.load import LoadedRun, load_run
from pippin.sampling.sample import sampled_files, sampling_protocol
from pippin.types import Images

COLOUR = re.compile(rf"\b({COLOURS})\b")
SIDE, LABEL, GAP = 64, 190, 3
"""Pixels of the sheet: side of an image, width of a row's label, gap between images."""


_PAIRS = partial(
    MetricKind,
    unit="share",
    better=lambda metric: "neither" if metric.value("shuffled") else "higher",
    parameters={"shuffled": SHUFFLED},
)
PAIR_RECALL = _PAIRS(
    name="pair R@{at}{shuffled}",
    description="Share of samples whose own caption is among the nearest k of all new pairs.",
)
RIGHT_ATTRIBUTE = _PAIRS(
    name="right attribute{shuffled}",
    description="Share of samples nearer to their own caption than to every trained one.",
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A held-out caption, and the trained captions of the same object."""

    caption: str
    trained: tuple[str, ...]
    image_index: int
    """Index in the source without held-out pairs."""


def find_pairs(data: OpenMojiConfig) -> tuple[ImageSource, list[Pair]]:
    """Source with all images, and the pairs of ``data.left_out``."""
    whole = build_source(replace(data, left_out=()), "train")
    kept = build_source(data, "train")
    captions = [whole.captions(index)["style"] for index in range(len(whole))]
    trained = list(dict.fromkeys(kept.captions(index)["style"] for index in range(len(kept))))
    pairs = []
    for index in range(len(whole)):
        caption, name = captions[index], whole.name(index)
        if caption in trained:
            continue
        by_colour = name in data.left_out
        name_of_object = _object(caption, by_colour=by_colour)
        others = [
            other for other in trained if _object(other, by_colour=by_colour) == name_of_object
        ]
        if others:
            pairs.append(Pair(caption=caption, trained=tuple(others), image_index=index))
    return whole, pairs


def _object(caption: str, *, by_colour: bool) -> str:
    """Caption without its attribute: the colour, or the style."""
    return COLOUR.sub("", caption) if by_colour else caption.rsplit(", ", 1)[0]


def measures_of(
    predicted: Float[Tensor, "images features"],
    pairs: Sequence[Pair],
    vectors: dict[str, Tensor],
    answers: Int[Tensor, " images"],
    *,
    shuffled: bool = False,
    **settings: object,
) -> list[Measure]:
    """R@k and right attribute of images whose own captions are those of ``pairs[answers]``."""
    texts = torch.stack([vectors[pair.caption] for pair in pairs])
    ranks = caption_ranks(predicted, texts, answers)
    floor = "shuffled" if shuffled else ""
    found = {PAIR_RECALL(at=k, shuffled=floor): ranks < k for k in RANKS[:2]}
    found[RIGHT_ATTRIBUTE(shuffled=floor)] = _right_attribute(predicted, pairs, vectors, answers)
    return [
        mean_measure(
            metric,
            _by_caption(values, answers, len(pairs)),
            seed=0,
            **settings,
        )
        for metric, values in found.items()
    ]


def _right_attribute(
    predicted: Tensor, pairs: Sequence[Pair], vectors: dict[str, Tensor], answers: Tensor
) -> Bool[Tensor, " images"]:
    right = []
    for image, index in zip(predicted, answers.tolist(), strict=True):
        pair = pairs[index]
        texts = torch.stack([vectors[caption] for caption in (pair.caption, *pair.trained)])
        right.append(caption_ranks(image[None], texts, torch.zeros(1, dtype=torch.long)) == 0)
    return torch.cat(right)


def _by_caption(values: Bool[Tensor, " images"], answers: Tensor, count: int) -> Tensor:
    sums = torch.zeros(count).index_add_(0, answers, values.float())
    return sums / torch.bincount(answers, minlength=count)


def chance(pairs: Sequence[Pair]) -> float:
    """Chance level of the right attribute."""
    return sum(1 / (1 + len(pair.trained)) for pair in pairs) / len(pairs)


def sheet(rows: Sequence[tuple[str, Sequence[UInt8[Tensor, "3 height width"]]]]) -> Image.Image:
    """Sheet of labelled rows of images, in two columns."""
    half = -(-len(rows) // 2)
    step, wide = SIDE + GAP, LABEL + max(len(images) for _, images in rows) * (SIDE + GAP)
    page = Image.new("RGB", (2 * wide + 10, half * step + GAP), "white")
    draw = ImageDraw.Draw(page)
    for number, (label, images) in enumerate(rows):
        left, top = (number // half) * (wide + 10), (number % half) * step + GAP
        draw.text((left + 4, top + SIDE // 2 - 6), label, fill="black")
        for place, pixels in enumerate(images):
            image = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((SIDE, SIDE))
            page.paste(image, (left + LABEL + place * step, top))
    return page


def draw_pairs(
    run: LoadedRun, pairs: Sequence[Pair], samples: int, place: Path
) -> tuple[list[Path], Int[Tensor, " images"]]:
    """Files of all samples, pair by pair, and the pair index of each."""
    answers = torch.arange(len(pairs)).repeat_interleave(samples)
    prompts = [pairs[at].caption for at in answers.tolist()]
    return sampled_files(run, prompts, range(len(prompts)), place), answers


def shown(source: ImageSource, places: Sequence[int]) -> Images:
    """Clean views of some images."""
    return torch.stack([clean_view(source, place).image for place in places])


def main() -> int:
    """Sample, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="run folder, exported folder, shipped model")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=4, help="samples per pair")
    options = parser.parse_args()
    run = load_run(options.run)
    data = run.recipe.data
    if (
        not isinstance(data, OpenMojiConfig)
        or not data.left_out
        or run.components.text_rule is None
    ):
        parser.error(f"{options.run} is not a text-to-image model trained with held-out pairs")
    whole, pairs = find_pairs(data)
    files, answers = draw_pairs(run, pairs, options.samples, options.folder / "samples")

    config = run.recipe.evaluation
    extractor = build_features(config, run.components.device)
    kept = run.components.train_source
    training = extract(extractor, clean_images(kept, config.batch_size))
    drawn = extract(extractor, image_batches(files, config.batch_size))
    truth = shown(whole, [pair.image_index for pair in pairs])
    real = extract(extractor, [truth])

    words = list(dict.fromkeys(w for pair in pairs for w in (pair.caption, *pair.trained)))
    rule = run.components.text_rule
    encoded = run.components.text_encoder.encode(words, rule.num_tokens).pooled
    captions = run.components.captions
    assert captions is not None
    assert encoded is not None
    vectors = dict(zip(words, encoded, strict=True))
    texts = captions.vectors()
    assert texts is not None
    ridge = fit_ridge(training.values, texts)
    protocol = {**real.protocol(), "pairs": len(pairs), "chance of right attribute": chance(pairs)}
    mine = protocol | sampling_protocol(run, run.recipe.sampling)
    measures = []
    sides: list[tuple[Features, Tensor, str, dict[str, object]]] = [
        (drawn, answers, "arm", mine),
        (real, torch.arange(len(pairs)), "real", protocol),
    ]
    for features, own, subject, content in sides:
        predicted = ridge(features.values)
        shuffled = own[permutation(len(own), "subset", 0, "shuffled")]
        for truths, is_floor in ((own, False), (shuffled, True)):
            measures += measures_of(
                predicted,
                pairs,
                vectors,
                truths,
                shuffled=is_floor,
                subject=subject,
                protocol=content,
            )
    write_results(with_fingerprints(measures, run_protocol(run)), options.folder / "results.jsonl")
    nearest = torch.cdist(drawn.values, training.values).argmin(dim=1)
    rows = []
    for number, pair in enumerate(pairs):
        first = number * options.samples
        samples = [read_image(file) for file in files[first : first + options.samples]]
        near = shown(kept, [int(nearest[first])])[0]
        rows.append((pair.caption, [*samples, near, truth[number]]))
    sheet(rows).save(options.folder / "pairs.png")
    print(f"{len(pairs)} pairs; chance level of the right attribute: {chance(pairs):.2f}")
    for measure in measures:
        interval = "" if measure.low is None else f" [{measure.low:.3f}, {measure.high:.3f}]"
        print(f"{measure.name:<24} {measure.subject:<5} {measure.value:.3f}{interval}")
    print(f"samples, nearest training image, real image: {options.folder / 'pairs.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
