# SPDX-License-Identifier: Apache-2.0
"""Sample images from a run: in memory, or into a folder with a manifest of the whole protocol."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pippin.config import fingerprint, protocol
from pippin.control import Control, Size
from pippin.runs.provenance import images_protocol
from pippin.runs.text_inputs import prompt_features
from pippin.sampling.config import SamplingConfig
from pippin.sampling.load import LoadedRun, untrained_run
from pippin.sampling.request import request_conditions, resolve_controls
from pippin.sampling.sample_folder import SampleFolder, SampleRow, make_room
from pippin.sampling.sampler import SampleBatch, Sampler
from pippin.system.lock import folder_lock
from pippin.system.progress import Progress
from pippin.system.text import print_above_progress
from pippin.types import Conditions, Images, Prompt, TextFeatures, TruncatedCaption


def draw(
    run: LoadedRun,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    config: SamplingConfig | None = None,
    text: TextFeatures | None = None,
) -> Images:
    """Sample one image per seed, in order, in memory.

    Args:
        run: the model.
        prompts: a class id for each seed, or text for a text model.
        seeds: image k depends on seed k, its class and the configuration; on anything else by
            rounding only.
        config: sampling configuration; None = the run's.
        text: features of the prompts; None = load the encoder and compute them.

    Raises:
        ValueError: a class or control that the model does not have.
        FloatingPointError: the latents are not finite.
    """
    with _sample_batches(run, prompts, seeds, config or run.recipe.sampling, text) as batches:
        return torch.cat([batch.images for batch in batches])


def draw_into(
    run: LoadedRun,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    config: SamplingConfig,
    path: Path,
    *,
    shown: int | None = None,
) -> SampleFolder:
    """Sample the same images into files of a folder, as they come.

    Complete images of the same protocol are reused: after an interruption the same call resumes,
    and other seeds are added. A seed that occurs twice with one prompt is one image. The ranks of
    the run's sampling group share the batches, and the images are bit for bit those of one
    process.

    Args:
        run, prompts, seeds, config: as for :func:`draw`.
        path: see :class:`SampleFolder`.
        shown: number of images in the grid, from the first on; None = all.

    Raises:
        ValueError: as :func:`draw`; the folder holds other files or lacks images, or
            another process samples into it.
    """
    requested = sample_rows(run, prompts, seeds)
    rows = unique_rows(requested)
    if repeated := len(requested) - len(rows):
        print_above_progress(
            run.components.console,
            f"{repeated} of {len(requested)} images have seed and prompt "
            "of an earlier one, and are sampled once",
            label="repeated:",
        )
    folder = SampleFolder(path, sampling_protocol(run, config))
    with folder_lock(path):
        pixels = config.pixels(run.recipe.data.resolution)
        # Whole batches, so that neither an interruption nor the number of ranks changes a bit:
        # rounding depends on the other rows of a batch.
        size = config.batch_size
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        missing = [
            batch for batch in batches if not all(folder.holds(row, pixels) for row in batch)
        ]
        if missing and run.components.text_rule is not None:
            _ = run.components.text_encoder  # its errors come before anything is written
        prompts = [row.prompt for batch in missing for row in batch]
        folder.begin(rows, _warn_truncated_prompts(run, prompts, config))
        if missing:
            _warn_unguided(run, run.sampler(config))
            _warn_idle_ranks(run, len(missing), size)
            run.sampling_group.broadcast(_draw_command(run, missing, config, path))
            _draw_share(run, missing, config, folder)
            run.sampling_group.barrier()
        folder.finish(rows, shown)
    return folder


def sampled_files(
    run: LoadedRun,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    path: Path,
    *,
    clear: bool = False,
    shown: int | None = None,
) -> list[Path]:
    """Sample into a folder with the run's own settings, and list the file of each seed.

    Args:
        run, prompts, seeds: as for :func:`draw`.
        path, shown: as for :func:`draw_into`.
        clear: remove the folder's samples of other settings first, instead of refusing them.

    Raises:
        ValueError: as :func:`draw_into`.
    """
    sampling = run.recipe.sampling
    if clear:
        make_room(path, sampling_protocol(run, sampling))
    folder = draw_into(run, prompts, seeds, sampling, path, shown=shown)
    return [folder.file(row) for row in sample_rows(run, prompts, seeds)]


def sample_as_worker(run: LoadedRun) -> None:
    """Sample this rank's share of whatever rank 0 samples into a folder, until rank 0 ends.

    Args:
        run: loaded with the sampling group, as on rank 0.

    Raises:
        ValueError: this rank loaded another checkpoint than rank 0.
        FloatingPointError: as :func:`draw`.
    """
    runs: dict[str, LoadedRun] = {run.weights: run}
    for command in run.sampling_group.commands():
        weights, config = command["weights"], SamplingConfig.from_dict(command["sampling"])
        if weights not in runs:
            runs[weights] = untrained_run(
                run.recipe, run.components.console, run.sampling_group, run.components
            )
        own = runs[weights]
        batches = [
            sample_rows(own, [prompt for _, prompt in batch], [seed for seed, _ in batch])
            for batch in command["batches"]
        ]
        folder = SampleFolder(Path(command["folder"]), sampling_protocol(own, config))
        _draw_share(own, batches, config, folder)
        run.sampling_group.barrier()


def _warn_truncated_prompts(
    run: LoadedRun, prompts: Sequence[Prompt], config: SamplingConfig
) -> list[TruncatedCaption]:
    """Find and log the prompts, with the negative one, that are longer than the model reads."""
    rule = run.components.text_rule
    texts = [prompt for prompt in dict.fromkeys(prompts) if isinstance(prompt, str)]
    if rule is None or not texts:
        return []
    if config.negative_prompt is not None:
        texts.append(config.negative_prompt)
    cuts = run.components.text_encoder.truncated(texts, rule.num_tokens)
    run.components.warn_truncated_prompts(cuts)
    return cuts


def _warn_unguided(run: LoadedRun, sampler: Sampler) -> None:
    """Warn of guidance that acts at no step, except of a search's intervals, which may try it."""
    interval, reason = sampler.config.guidance.log_snr_interval, sampler.unguided_reason
    if reason is not None and interval not in run.recipe.evaluation.intervals:
        run.components.warn_once(reason, label="not guided:")


def _draw_command(
    run: LoadedRun, batches: Sequence[Sequence[SampleRow]], config: SamplingConfig, path: Path
) -> dict[str, Any]:
    """The command for the other ranks."""
    return {
        "weights": run.weights,
        "sampling": config.to_dict(),
        "folder": str(path.resolve()),
        "batches": [[[row.seed, row.prompt] for row in batch] for batch in batches],
    }


def _warn_idle_ranks(run: LoadedRun, batches: int, size: int) -> None:
    """Warn where there are fewer batches than ranks."""
    ranks = run.sampling_group.world.size
    if batches < ranks:
        print_above_progress(
            run.components.console,
            f"{batches} batches of at most {size} images for "
            f"{ranks} ranks; reduce sampling.batch_size to use all of them",
            label="idle ranks:",
        )


def sample_rows(
    run: LoadedRun, prompts: Sequence[Prompt], seeds: Sequence[int]
) -> list[SampleRow]:
    """The manifest's row of each seed; prompts beyond the seeds are ignored."""
    return [
        SampleRow(
            seed=seed,
            prompt=prompt,
            class_name=None if isinstance(prompt, str) else run.class_names[prompt],
        )
        for seed, prompt in zip(seeds, prompts, strict=False)
    ]


def unique_rows(rows: Sequence[SampleRow]) -> list[SampleRow]:
    """The rows in order, without repeated images."""
    unique: dict[tuple[int, Prompt], SampleRow] = {}
    for row in rows:
        unique.setdefault((row.seed, row.shown_prompt), row)
    return list(unique.values())


def _draw_share(
    run: LoadedRun,
    batches: Sequence[Sequence[SampleRow]],
    config: SamplingConfig,
    folder: SampleFolder,
) -> None:
    """Sample this rank's batches and write them as they come."""
    world = run.sampling_group.world
    rows = [row for batch in batches for row in batch]
    controls = resolve_controls(run, config.control, *_prompts_and_seeds(rows), _size(run, config))
    by_row = dict(zip(rows, controls, strict=True)) if controls is not None else None
    own = batches[world.rank :: world.size]
    sampler = run.sampler(config)
    title = "sampling" if world.size == 1 else f"sampling on rank 0 of {world.size}"
    with Progress(run.components.console, title, total=sum(map(len, own))) as progress:
        for batch in own:
            prompts, seeds = _prompts_and_seeds(batch)
            batch_controls = [by_row[row] for row in batch] if by_row is not None else None
            # Text is also encoded by batch: its rounding depends on the other rows as well.
            conditions = _conditions(run, prompts, seeds, config, batch_controls)
            for sampled in sampler.batches(
                conditions, seeds, run.components.autoencoder, run.recipe.data.resolution
            ):
                for row, image in zip(batch, sampled.images, strict=True):
                    folder.add(row, image)
            progress.advance(len(batch))


def _size(run: LoadedRun, config: SamplingConfig) -> Size:
    return Size(*config.pixels(run.recipe.data.resolution))


def _prompts_and_seeds(rows: Sequence[SampleRow]) -> tuple[list[Prompt], list[int]]:
    return [row.prompt for row in rows], [row.seed for row in rows]


@contextmanager
def _sample_batches(
    run: LoadedRun,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    config: SamplingConfig,
    text: TextFeatures | None = None,
) -> Iterator[Iterator[SampleBatch]]:
    """Batches of images, with their progress."""
    controls = resolve_controls(run, config.control, prompts, seeds, _size(run, config))
    if text is None:
        _warn_truncated_prompts(run, prompts, config)
    conditions = _conditions(run, prompts, seeds, config, controls, text)
    sampler = run.sampler(config)
    _warn_unguided(run, sampler)
    with Progress(run.components.console, "sampling", brief=True) as progress:
        yield sampler.batches(
            conditions,
            list(seeds),
            run.components.autoencoder,
            run.recipe.data.resolution,
            progress=progress.update,
        )


def _conditions(
    run: LoadedRun,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    config: SamplingConfig,
    controls: list[Control] | None,
    text: TextFeatures | None = None,
) -> Conditions:
    """Conditions of some samples."""
    return request_conditions(
        _classes(run, prompts),
        config.control,
        run.control_names,
        num_classes=run.num_classes,
        count=len(seeds),
        controls=controls,
        text=_text(run, prompts, seeds) if text is None else text,
        negative_text=_negative(run, config, seeds),
    )


def _classes(run: LoadedRun, prompts: Sequence[Prompt]) -> list[int] | None:
    """Class ids, for a class-conditional model."""
    if run.recipe.conditioning.semantic.kind != "label":
        return None
    invalid = [prompt for prompt in prompts if isinstance(prompt, str)]
    if invalid:
        raise ValueError(f"this model reads classes, not text; got {invalid[0]!r}")
    return [prompt for prompt in prompts if isinstance(prompt, int)]


def _text(run: LoadedRun, prompts: Sequence[Prompt], seeds: Sequence[int]) -> TextFeatures | None:
    """Features of prompts, for a text model."""
    rule = run.components.text_rule
    if rule is None:
        return None
    invalid = [prompt for prompt in prompts if not isinstance(prompt, str)]
    if invalid:
        raise ValueError(f"this model reads text, not classes; got class {invalid[0]}")
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    return prompt_features(run.components.text_encoder, rule, texts, seeds)


def _negative(run: LoadedRun, config: SamplingConfig, seeds: Sequence[int]) -> TextFeatures | None:
    if config.negative_prompt is None or run.components.text_rule is None:
        return None
    return _text(run, [config.negative_prompt] * len(seeds), seeds)


def sampling_protocol(run: LoadedRun, config: SamplingConfig) -> dict[str, Any]:
    """All settings that the images depend on, besides seed and class."""
    uses_images, guide = config.control.ask == "training", run.guide(config)
    return {
        **{f"sampling.{path}": value for path, value in protocol(config).items()},
        "sampling.evaluations_per_image": run.sampler(config).evaluations_per_image,
        "model.weights": run.weights,
        "model.images_seen": run.images_seen,
        "model.images_before": run.images_before,
        "model.recipe": fingerprint(run.recipe),
        **run.identity,
        "autoencoder": run.components.autoencoder.fingerprint,
        **(guide.protocol if guide is not None else {}),
        **(images_protocol(run.components) if uses_images else {}),
    }
