# SPDX-License-Identifier: Apache-2.0
"""``pippin evaluate RUN``: every measure of a run, with floors beside."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pippin.config import fingerprint, protocol
from pippin.control import Size
from pippin.data.config import DataConfig
from pippin.data.open import build_source
from pippin.data.table import Split
from pippin.data.views import clean_images
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.efflite0 import EffLite0
from pippin.evaluation.features import FeatureExtractor, Features, build_features, extract
from pippin.evaluation.folder import image_batches
from pippin.evaluation.lpips_distance import Lpips
from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.memorisation import memorisation_measures
from pippin.evaluation.sharpness import SharpnessMeter
from pippin.rng import permutation
from pippin.run.alignment import alignment_measures
from pippin.run.best_request import best_request_measures
from pippin.run.best_scale import best_scale_measures
from pippin.run.clip_score import clip_for, held_out_clip_measures
from pippin.run.cost import cost_measures
from pippin.run.drift import drift_measures
from pippin.run.evaluation_seeds import noise_seed, sample_seeds
from pippin.run.folder import RunFolder
from pippin.run.given import data_protocol
from pippin.run.held_out import HeldOut
from pippin.run.load import LoadedRun, untrained_run
from pippin.run.quality_reference import QualityReference, quality_reference
from pippin.run.sample import draw_into, sample_rows, sampling_protocol
from pippin.run.sample_folder import SHOWN, SampleFolder, make_room, remove_samples
from pippin.run.scene import scene_measures
from pippin.run.sizes import name_sizes
from pippin.run.stages import Stages
from pippin.system.files import remove_staged
from pippin.system.formats import FORMATS, VERSION
from pippin.system.lines import Lines, is_emptied, keep_unreadable, read_lines, write_lines
from pippin.system.lock import folder_lock
from pippin.system.terminal import note
from pippin.types import Prompt


def evaluate_run(run: LoadedRun, folder: Path) -> list[Measure]:
    """What ``evaluation.parts`` names of a run; with scales the best one, with a CLIP its score.

    Writes evaluation/samples/, drift/ and real/drift/ below ``folder``, and adds the measures to
    its results.jsonl. An evaluation that was interrupted goes on: finished parts are kept, and so
    are whole images.

    Args:
        run: the model that is measured; its recipe says how.
        folder: where results and pictures go.

    Raises:
        ValueError: another process evaluates in the folder.
        OSError: disk full or not writable; finished parts and earlier results stay.
    """
    place = RunFolder(folder)
    with folder_lock(place.evaluation):
        content = run_protocol(run) | sampling_protocol(run, run.recipe.sampling)
        content |= data_protocol(run.parts)
        extractor = build_features(run.recipe.evaluation, run.parts.device)
        if not isinstance(extractor, EffLite0):  # whose file the recipe's protocol leaves out
            content |= {"features_fingerprint": extractor.fingerprint}
        stages = Stages(place.evaluation / "stages.jsonl", content)
        measures = [
            replace(one, protocol=one.protocol | run.identity) if one.subject == "arm" else one
            for one in _Evaluation(run, place, extractor).measures(stages)
        ]
        # Results first: where they find no room, the parts are still there for the next try.
        write_results(with_fingerprints(measures, run_protocol(run)), place.results)
        stages.done()
    return measures


class _Evaluation:
    """The parts of one run's evaluation.

    Args:
        run: the model that is measured.
        place: its folder.
        extractor: of the features that samples are compared in.
    """

    def __init__(self, run: LoadedRun, place: RunFolder, extractor: FeatureExtractor) -> None:
        self.run, self.place, self.extractor = run, place, extractor
        self.config, self.device = run.recipe.evaluation, run.parts.device
        self._check_sampling()
        # What is wrong with a network or a reference is said before anything is drawn.
        self.clip = clip_for(run)
        self.lpips = None if self.config.lpips is None else Lpips(self.config.lpips, self.device)
        if self.config.reference != "train" and {"quality", "real", "untrained"} & {
            *self.config.parts
        }:
            _ = self.reference

    def measures(self, stages: Stages) -> list[Measure]:
        """All measures; of parts that an interrupted evaluation finished, those of ``stages``."""
        run = self.run
        found = cost_measures(run.recipe, run.num_classes, run.parts.latent_shape)
        data = data_protocol(run.parts)
        for name, (wanted, make) in self._parts().items():
            if wanted:
                made = stages.measure(name, make)
                found += [replace(one, protocol=one.protocol | data) for one in made]
        if "quality" in self.config.parts:
            self._keep_shown()
        remove_samples(self.place.evaluation / "untrained")
        return found

    def _parts(self) -> dict[str, tuple[bool, Callable[[], list[Measure]]]]:
        """Name of each part, as ``stages.jsonl`` has it, whether it is asked for, how it is made.

        Another CLIP or LPIPS is another part.
        """
        config, parts = self.config, self.config.parts
        clip = self.clip.fingerprint if self.clip else ""
        captioned = self.run.parts.text_rule is not None
        drift = "drift" if self.lpips is None else f"drift {self.lpips.fingerprint}"
        return {
            "held-out": ("held-out" in parts, lambda: self.held_out.losses(self.run.model)),
            "quality": ("quality" in parts, self._of_samples),
            "best scale": (bool(config.scales), self._best_scale),
            "best request": (bool(config.requests), self._best_request),
            drift: ("drift" in parts, self._drift),
            "alignment": ("alignment" in parts and captioned, self._alignment),
            f"clip {clip}": (self.clip is not None, self._clip_score),
            "real": ("real" in parts, self._real),
            "untrained": ("untrained" in parts, self._untrained),
            "control-profile": ("control-profile" in parts, self._control_profile),
            "scene": (
                "scene" in parts,
                lambda: scene_measures(self.run, self.place.evaluation / "scene"),
            ),
        }

    @cached_property
    def held_out(self) -> HeldOut:
        """Held-out latents, encoded once."""
        return HeldOut(self.run.parts)

    @cached_property
    def reference(self) -> QualityReference:
        """What samples are compared with."""
        return quality_reference(self.config, self.extractor, self.clean)

    def clean(self, split: Split) -> Features:
        """Features of the clean images of a split."""
        parts = self.run.parts
        record = parts.data_record.train if split == "train" else parts.data_record.held_out
        return clean_features(parts.data, self.config, split, self.device, record.content)

    def _check_sampling(self) -> None:
        if "quality" in self.config.parts or self.config.scales or self.config.requests:
            recipe = self.run.recipe
            side = recipe.data.resolution
            drawn, advice = Size(*recipe.sampling.pixels(side)), "leave --sampling.size out"
            name_sizes([drawn], [Size(side, side)], advice, self.run.parts.console)

    def _prompts(self) -> list[Prompt]:
        return evaluation_prompts(self.run, self.config.num_samples)

    def _of_samples(self) -> list[Measure]:
        nearest = self.clean("held-out"), self.clean("train")
        samples = self.place.evaluated_samples
        return _quality(self.run, self.reference, self.extractor, samples, "arm", nearest)

    def _best_scale(self) -> list[Measure]:
        images = self.reference.images
        return best_scale_measures(self.run, self._prompts(), self.extractor, images)

    def _best_request(self) -> list[Measure]:
        images = self.reference.images
        return best_request_measures(self.run, self._prompts(), self.extractor, images)

    def _alignment(self) -> list[Measure]:
        train, held_out = self.clean("train"), self.clean("held-out")
        return alignment_measures(self.run, self.extractor, train, held_out, self._captions)

    @property
    def _captions(self) -> Path:
        return self.place.evaluation / "captions"

    def _drift(self) -> list[Measure]:
        """In our own distance, whatever the features of samples are."""
        own = self.extractor if isinstance(self.extractor, EffLite0) else None
        network = own or EffLite0(self.config.input_size, self.device)
        return drift_measures(self.run, self.place.path, network, self.lpips)

    def _clip_score(self) -> list[Measure]:
        assert self.clip is not None
        return held_out_clip_measures(self.run, self.clip, self._captions)

    def _real(self) -> list[Measure]:
        parts = self.run.parts
        return [
            *real_floor(self.reference, self.config),
            clean_sharpness(parts.data, self.config, parts.data_record.held_out.content),
        ]

    def _untrained(self) -> list[Measure]:
        run = self.run
        untrained = untrained_run(run.recipe, run.parts.console, run.crew, run.parts)
        loss = self.held_out.losses(untrained.model, subject="untrained")[:1]
        place = self.place.evaluation / "untrained"
        return [*loss, *_quality(untrained, self.reference, self.extractor, place, "untrained")]

    def _control_profile(self) -> list[Measure]:
        return self.held_out.control_profile(self.run.model, self.run.read_names)

    def _keep_shown(self) -> None:
        """Keep the samples that pages show, and remove the others."""
        run = self.run
        rows = sample_rows(run, self._prompts(), sample_seeds(run.recipe, SHOWN))
        protocol = sampling_protocol(run, run.recipe.sampling)
        SampleFolder(self.place.evaluated_samples, protocol).keep_only(rows)


def _quality(
    run: LoadedRun,
    reference: QualityReference,
    extractor: FeatureExtractor,
    place: Path,
    subject: Subject,
    nearest: tuple[Features, Features] | None = None,
) -> list[Measure]:
    """Distances between samples and the reference; the samples stay in ``place`` meanwhile.

    With held-out and training images at hand, also how near samples come to single training ones.
    """
    config, sampling = run.recipe.evaluation, run.recipe.sampling
    content = sampling_protocol(run, sampling)
    make_room(place, content)
    prompts = evaluation_prompts(run, config.num_samples)
    seeds = sample_seeds(run.recipe, config.num_samples)
    draw_into(run, prompts, seeds, sampling, place, shown=SHOWN)
    files = [place / row.file for row in sample_rows(run, prompts, seeds)]
    meter = SharpnessMeter()
    features = extract(extractor, meter.watch(image_batches(files, config.batch_size)))
    extra = {**content, "labels": "as often as in training"}
    found = reference.compare(features, config, subject)
    found.append(meter.measure(seed=config.seed, subject=subject))
    if nearest is not None:
        found += memorisation_measures(features, *nearest, seed=config.seed)
    return [replace(one, protocol=one.protocol | extra) for one in found]


def real_floor(reference: QualityReference, config: EvaluationConfig) -> list[Measure]:
    """The same distances for real images that are not in the reference: what a perfect model could
    reach.

    A custom data set may hold out too few for these distances; then there is no floor, and that is
    said.
    """
    if len(reference.floor) < config.neighbours + 2:
        note(
            Console(stderr=True),
            f"{len(reference.floor)} images are held out, and the distances need "
            f"{config.neighbours + 2}; more images or a larger data.held_out_share give one",
            label="no floor:",
        )
        return []
    return reference.compare(reference.floor, config, subject="real")


@lru_cache(maxsize=4)
def clean_features(
    data: DataConfig,
    config: EvaluationConfig,
    split: Split,
    device: torch.device,
    content: str = "",
) -> Features:
    """Features of the clean view of every picture, one per base picture.

    Kept in memory, for each ``content`` of the images: the arms of a study share them.
    """
    source = build_source(data, split)
    return extract(build_features(config, device), clean_images(source, config.batch_size))


@lru_cache(maxsize=2)
def clean_sharpness(data: DataConfig, config: EvaluationConfig, content: str = "") -> Measure:
    """Sharpness of the clean view of every held-out picture; ``content`` as above."""
    meter = SharpnessMeter()
    for _ in meter.watch(clean_images(build_source(data, "held-out"), config.batch_size)):
        pass
    return meter.measure(seed=config.seed, subject="real")


def evaluation_prompts(run: LoadedRun, count: int) -> list[Prompt]:
    """Classes as often as among the training pictures, or their captions, in an order of the
    evaluation's seed."""
    source = run.parts.train_source
    order = permutation(len(source), "subset", noise_seed(run.recipe), "labels").tolist()
    shown = [order[place % len(order)] for place in range(count)]
    captions = run.parts.captions
    return [captions.first[i] if captions is not None else source.label(i) for i in shown]


def with_fingerprints(
    measures: Sequence[Measure], recipe_protocol: dict[str, Any]
) -> list[dict[str, Any]]:
    """Each measure as JSON values, with its whole protocol and the fingerprint of that."""
    lines = []
    for one in measures:
        content = recipe_protocol | {f"measure.{k}": v for k, v in one.protocol.items()}
        own = {"protocol": content, "fingerprint": fingerprint(content)}
        lines.append(one.to_dict() | own)
    return lines


def write_results(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Add measures of :func:`with_fingerprints` to a file of JSON lines.

    Earlier lines stay, save those of the same measure, subject and fingerprint. The last line of
    a measure is the newest. Lines that cannot be read, or are not what was written, are kept in
    ``PATH.torn``, and that is said.
    """
    before = read_lines(path)
    keep_unreadable(path, path.with_name(f"{path.name}.torn"))
    new = {_key(line) for line in lines}
    kept = [line for line in before.objects.values() if _key(line) not in new]
    remove_staged(path.parent, path.name)  # of an evaluation that was killed
    _say_problems(before, path)
    write_lines(path, [*kept, *({VERSION: FORMATS["results"], **line} for line in lines)])


def _say_problems(before: Lines, path: Path) -> None:
    """What of earlier results does not count any more."""
    said = [
        f"{path} line {number} is kept in {path.name}.torn: {why}"
        for number, why in before.problems.items()
    ]
    said += [f"{path} {gap}" for gap in before.gaps if gap.missing]
    said += [f"{path} is empty: the results that were in it are gone"] * is_emptied(path)
    for line in said:
        note(Console(stderr=True), line, label="does not count:")


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return line.get("name"), line.get("subject"), line.get("fingerprint")


def run_protocol(run: LoadedRun) -> dict[str, Any]:
    """The whole recipe as protocol entries, and which weights are measured, by which files."""
    of_model = {
        "model.weights": run.weights,
        "model.images_seen": run.images_seen,
        **run.identity,
        "model.autoencoder": run.parts.autoencoder.fingerprint,
    }
    return protocol(run.recipe) | of_model
