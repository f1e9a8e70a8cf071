# SPDX-License-Identifier: Apache-2.0
"""Consistency checks of a recipe before anything is trained."""

from collections.abc import Callable
from dataclasses import replace

from pippin.config import ConfigError, check_record
from pippin.control import LARGEST_SIDE, SMALLEST_SIDE
from pippin.data.config import ImagesConfig, NoDataConfig, ShapesConfig
from pippin.data.views.buckets import size_name
from pippin.denoisers.config import masking_error_text
from pippin.diffusion.rescale import build_schedule
from pippin.diffusion.times import build_grid
from pippin.objective.setting_checks import (
    check_meanflow,
    check_objective,
    meanflow_time_note,
)
from pippin.recipes.recipe import Recipe, factor_and_channels, has_known_latents
from pippin.sampling.config import check_guidance, check_requested_size


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that cannot be trained, sampled or evaluated.

    Raises:
        ConfigError: naming the settings that do not fit; several failures are one error.
        ValueError: the schedule does not support the sampling settings.
    """
    failures = recipe_failures(recipe)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        lines = "".join(f"\n{number}. {error}" for number, error in enumerate(failures, 1))
        raise ConfigError(f"{len(failures)} settings do not fit:{lines}")


def recipe_failures(recipe: Recipe) -> list[ValueError]:
    """Errors of all checks of :func:`check_recipe`, in their order."""
    failures = []
    for check in _CHECKS:
        try:
            check(recipe)
        except ValueError as error:
            failures.append(error)
    return failures


def recipe_notes(recipe: Recipe) -> list[str]:
    """Notes on settings that are allowed but train badly."""
    note = meanflow_time_note(recipe.diffusion, recipe.denoiser)
    return [] if note is None else [note]


def check_start(recipe: Recipe) -> None:
    """Refuse to train a fine-tuning recipe from scratch unless ``init.from_scratch`` says so, and
    refuse ``init.from_scratch`` where it has no effect.

    Raises:
        ConfigError: what to start from and how to train from scratch; or the flag has no effect.
    """
    init = recipe.init
    if init.from_scratch and init.continues is None:
        raise ConfigError(
            "init.from_scratch is True (--from-scratch True), and this recipe starts from initial "
            "weights already: leave it out"
        )
    if init.continues is None or init.run is not None or init.from_scratch:
        return
    rules = " --init.transfer positions" if recipe.denoiser.learned_grid else ""
    raise ConfigError(
        f"this recipe fine-tunes a run of {init.continues}, and init.run names "
        "none: give that run or its export, or published weights from `pippin convert` "
        f"(--init.run FOLDER{rules}), or train it from initial weights with --from-scratch True"
    )


def _check_grid(recipe: Recipe) -> None:
    """Refuse times of sampling that the schedule does not have."""
    build_grid(recipe.sampling, build_schedule(recipe.diffusion))


def _check_reference(recipe: Recipe) -> None:
    """Check the reference of an evaluation: own images, or a file of statistics."""
    config = recipe.evaluation
    if config.reference_kind == "file" and not config.reference.endswith(".npz"):
        raise ConfigError(
            "evaluation.reference must be train, validation (the held-out images) or a file of "
            "statistics that ends in .npz, as `pippin reference FOLDER --out FILE.npz` writes it; "
            f"got {config.reference!r}"
        )


def _check_averages(recipe: Recipe) -> None:
    """Check that training keeps the weights to sample from; converted models are exempt."""
    if isinstance(recipe.data, NoDataConfig):
        return
    averages = list(dict.fromkeys(["ema", "raw", *recipe.train.averages]))
    if recipe.sampling.weights not in averages:
        raise ConfigError(
            f"sampling.weights {recipe.sampling.weights} is no average of this recipe; there are: "
            f"{', '.join(averages)}; train.ema_extra adds others"
        )


def _check_best(recipe: Recipe) -> None:
    """Check that training measures the value that the best checkpoint is chosen by."""
    if recipe.train.keep_best == "alignment" and recipe.conditioning.semantic.kind != "text":
        raise ConfigError(
            "train.keep_best alignment is the agreement with captions, and this model reads none: "
            "choose held_out_loss, kid or fd"
        )


def _check_measured_guidance(recipe: Recipe) -> None:
    """Check that the model supports every guidance that the evaluation samples with."""
    evaluation, sampling = recipe.evaluation, recipe.sampling
    guided = sampling
    if sampling.guidance.semantic_scale == 1:  # where check_guidance refuses a negative prompt
        guided = replace(sampling, negative_prompt=None)
    scaled = [guided.at_scale(scale) for scale in evaluation.scales]
    candidates = {
        "evaluation.scales": scaled,
        "evaluation.control_scales": [
            replace(
                guided,
                guidance=replace(sampling.guidance, control_scale=scale, reference="null"),
            )
            for scale in evaluation.control_scales
        ],
        "evaluation.intervals": [
            replace(one, guidance=replace(one.guidance, log_snr_interval=interval))
            for interval in evaluation.intervals
            for one in scaled or [guided]
        ],
    }
    for name, samplings in candidates.items():
        for candidate in samplings:
            try:
                check_guidance(candidate, recipe.conditioning)
            except ConfigError as error:
                raise ConfigError(f"{name} {getattr(evaluation, name[11:])}: {error}") from error
    scales = evaluation.scales or (sampling.scale,)
    if evaluation.intervals and set(scales) == {1.0}:
        raise ConfigError(
            f"evaluation.intervals {list(evaluation.intervals)} limit guidance, and all scales "
            "are 1, which is off: give evaluation.scales such as 1.5 2 3"
        )


def _check_size_curve(recipe: Recipe) -> None:
    sizes, side = recipe.evaluation.size_curve, recipe.data.resolution
    if any(small >= side for small in sizes):
        raise ConfigError(
            f"evaluation.size_curve must lie below data.resolution {side}, or the images cannot "
            f"show the difference; got {sizes}"
        )


def _check_original_sizes(recipe: Recipe) -> None:
    """Refuse sizes of images that the model's control of the original size cannot read."""
    control, law = recipe.conditioning.control, getattr(recipe.data, "size_law", None)
    if law is None or "original_size" not in control.fields:
        return
    if law.smallest < SMALLEST_SIDE or law.largest > LARGEST_SIDE:
        raise ConfigError(
            f"conditioning.control reads original_size, from {SMALLEST_SIDE} to {LARGEST_SIDE} "
            f"pixels, and data.size_law draws sizes from {law.smallest} to {law.largest}: set "
            f"--data.size-law.smallest to {SMALLEST_SIDE} or more and --data.size-law.largest to "
            f"{LARGEST_SIDE} or less, or leave the field out"
        )


def _check_augmentation(recipe: Recipe) -> None:
    """Refuse a control of an augmentation that is off: it never varies."""
    control, data = recipe.conditioning.control, recipe.data
    if isinstance(data, NoDataConfig):
        return
    for field, (setting, value) in data.look.amounts().items():
        if field in control.fields and not value:
            raise ConfigError(
                f"conditioning.control reads {field}, which is the same in every image while "
                f"{setting} is 0: set it above 0, or leave the field out"
            )


def _check_correlation(recipe: Recipe) -> None:
    """Refuse to correlate the class with a control that never varies."""
    data = recipe.data
    if not isinstance(data, ShapesConfig):
        return
    crop = data.crop_law
    varies = {
        "flip": ("crop_law.flip_probability, above 0 and below 1", 0 < crop.flip_probability < 1),
        "crop": ("crop_law.smallest, below 1", crop.smallest < 1 or crop.local_share > 0),
        "brightness": ("look.colour_jitter, above 0", data.look.colour_jitter > 0),
        "jpeg": ("look.jpeg_share, above 0", data.look.jpeg_share > 0),
        "grain": ("look.grain_share, above 0", data.look.grain_share > 0),
    }
    for name, (setting, can_vary) in varies.items():
        if getattr(data.correlation, name) > 0 and not can_vary:
            raise ConfigError(
                f"data.correlation.{name} is {getattr(data.correlation, name)}, and the control "
                f"is the same in every image: set data.{setting}, or set the correlation to 0"
            )


def _check_scene(recipe: Recipe) -> None:
    """Refuse to evaluate scenes of a data set that has none."""
    data = recipe.data
    if "scene" not in recipe.evaluation.parts or isinstance(data, ShapesConfig | NoDataConfig):
        return
    raise ConfigError(
        f"evaluation.parts names scene, which reads scenes of data.kind shapes; this recipe has "
        f"data.kind {data.kind}: leave scene out, or take a recipe shapes/..."
    )


def _check_tokens(recipe: Recipe) -> None:
    """Refuse a number of condition tokens that the denoiser cannot read."""
    recipe.denoiser.check_tokens(getattr(recipe.conditioning.semantic, "num_tokens", 1))


def _check_buckets(recipe: Recipe) -> None:
    """Refuse buckets for a denoiser with learned positions for one grid."""
    data, denoiser = recipe.data, recipe.denoiser
    if not isinstance(data, ImagesConfig) or not data.aspect_ratios:
        return
    if denoiser.learned_grid is not None:
        rows, columns = denoiser.learned_grid
        raise ConfigError(
            f"denoiser {denoiser.kind} has learned positions for {rows} x {columns} patches only, "
            "so it cannot train on the buckets of data.aspect_ratios: leave these out, or use "
            "dit, pixart, mmdit or unet"
        )


def _check_repa(recipe: Recipe) -> None:
    """Refuse to align a block that the denoiser lacks, and features that are not cached."""
    repa, denoiser = recipe.train.repa, recipe.denoiser
    if not repa.enabled:
        return
    if not denoiser.token_blocks:
        raise ConfigError(
            f"train.repa aligns the tokens of a transformer block, and denoiser {denoiser.kind} "
            "has none: take dit, jit, ddt, mdtv2, pixart or mmdit, or set --train.repa.encoder "
            "none"
        )
    if repa.block > denoiser.token_blocks:
        raise ConfigError(
            f"train.repa.block must be a block of the denoiser, 1 to {denoiser.token_blocks}; got "
            f"{repa.block}"
        )
    if not recipe.cache.enabled:
        raise ConfigError(
            "train.repa reads cached features, and cache.enabled is False: set --cache.enabled "
            "True, or --train.repa.encoder none"
        )


def _check_masking(recipe: Recipe) -> None:
    """Refuse to hide tokens from a denoiser that needs all of them, from MeanFlow's target, whose
    network reads all tokens and is not trained on them, or from a convolution."""
    masking, denoiser, repa = recipe.train.masking, recipe.denoiser, recipe.train.repa
    if not masking.enabled:
        return
    if reason := denoiser.masking_refusal:
        raise ConfigError(masking_error_text(denoiser.kind, reason, masking.ratio))
    if (meanflow := recipe.diffusion.meanflow).enabled:
        raise ConfigError(
            "diffusion.meanflow takes its target from the network with all tokens, which masked "
            f"steps do not train; got share {meanflow.share:g} and train.masking.ratio "
            f"{masking.ratio}: set --train.masking.ratio 0, or --diffusion.meanflow.share 0 "
            "--conditioning.interval False"
        )
    if repa.needs_grid:
        raise ConfigError(
            "train.repa.projector conv reads the whole grid of tokens, and train.masking.ratio "
            f"{masking.ratio} hides some: set --train.repa.projector mlp, or "
            "--train.masking.ratio 0"
        )


def _check_resolution(recipe: Recipe) -> None:
    """Check the resolution for a known autoencoder; others are checked when they are loaded."""
    if not isinstance(recipe.data, NoDataConfig) and has_known_latents(recipe):
        check_resolution(recipe, factor_and_channels(recipe)[0])


def check_resolution(recipe: Recipe, factor: int) -> None:
    """Refuse a resolution, or buckets, whose latents the denoiser cannot read.

    Args:
        recipe: a recipe with images.
        factor: downsampling factor of the autoencoder, pixels per latent along a side.

    Raises:
        ConfigError: the message names the multiple that the sides must be.
    """
    side, denoiser = recipe.data.resolution, recipe.denoiser
    multiple = factor * denoiser.side_multiple
    needed = (
        f"must be a multiple of {multiple}, the autoencoder's factor {factor} times the "
        f"{denoiser.side_multiple} that denoiser {denoiser.kind} divides latents by; got"
    )
    if side % multiple:
        below = side // multiple * multiple
        nearest = f"{below} or {below + multiple}" if below else str(multiple)
        smaller = getattr(denoiser, "patch_size", 1) > 1 and side % factor == 0
        patches = ", or --denoiser.patch-size 1" if smaller else ""
        raise ConfigError(f"data.resolution {needed} {side}: take {nearest}{patches}")
    denoiser.check_grid(side, side // multiple)
    if not isinstance(recipe.data, ImagesConfig) or not recipe.data.aspect_ratios:
        return
    if recipe.data.bucket_step % multiple:
        raise ConfigError(f"data.bucket_step {needed} {recipe.data.bucket_step}")
    for size in recipe.data.view_sizes:
        denoiser.check_bucket(size_name(size), max(size) // multiple)


_CHECKS: tuple[Callable[[Recipe], None], ...] = (
    check_record,
    lambda recipe: check_guidance(recipe.sampling, recipe.conditioning),
    lambda recipe: check_requested_size(recipe.sampling, recipe.conditioning),
    lambda recipe: check_objective(recipe.diffusion, recipe.denoiser),
    lambda recipe: check_meanflow(recipe.diffusion, recipe.conditioning, recipe.denoiser),
    _check_grid,
    _check_reference,
    _check_averages,
    _check_best,
    _check_measured_guidance,
    _check_size_curve,
    _check_original_sizes,
    _check_augmentation,
    _check_correlation,
    _check_scene,
    _check_tokens,
    _check_buckets,
    _check_repa,
    _check_masking,
    _check_resolution,
)
"""Checks of settings, in order."""
