# SPDX-License-Identifier: Apache-2.0
"""Autoguidance: guidance by a weaker version of the model (Karras et al. 2024, arXiv 2406.02507).

With e the prediction of the model and w that of a smaller or less trained one, both conditional,

    guided = w + s (e - w)

where s is ``sampling.guidance.guide_scale``. The weaker model takes the place of the unconditional
prediction of classifier-free guidance, so the two are not combined. s = 1 is the model itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pippin.config import fingerprint
from pippin.data.config import NoDataConfig
from pippin.data.record import format_names
from pippin.model import LatentDenoiser
from pippin.recipes.recipe import Recipe
from pippin.runs.trained import load_trained_weights, trained_recipe
from pippin.sampling.config import GuideChoice, SamplingConfig

if TYPE_CHECKING:
    from pippin.runs.trained import Trained
    from pippin.sampling.load import LoadedRun


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A weaker model, on the device of the sampled one."""

    model: LatentDenoiser
    recipe: Recipe
    num_classes: int
    protocol: dict[str, Any]
    """Entries that identify it in the protocol of samples."""


def load_guide(
    run: "LoadedRun", choice: GuideChoice, load_run: Callable[..., "LoadedRun"]
) -> Guide:
    """Load the weaker model that guides a run.

    Args:
        run: the sampled run.
        choice: the weaker model.
        load_run: :func:`pippin.sampling.load.load_run`, whose module imports this one.

    Raises:
        ValueError: unknown source or checkpoint, or a guide that does not fit the model.
    """
    if choice.run is None:
        return _own_weights(run, choice)
    recipe = trained_recipe(choice.run)
    guide = load_run(
        choice.run,
        choice.weights,
        run.components.console,
        replace(recipe, train=replace(recipe.train, device=run.recipe.train.device)),
        run.sampling_group,
        autoencoder=run.autoencoder,
        checkpoint=choice.checkpoint,
    )
    _check_fit(run, guide)
    _check_other_weights(run, guide.sha256, guide.description)
    # The seed and the samples of the guide's own recipe change nothing here.
    trained = replace(recipe, seed=0, sampling=SamplingConfig())
    return Guide(
        model=guide.model,
        recipe=recipe,
        num_classes=guide.num_classes,
        protocol=_protocol(guide) | {"guide.recipe": fingerprint(trained)},
    )


def _own_weights(run: "LoadedRun", choice: GuideChoice) -> Guide:
    """Another checkpoint or average of the sampled run."""
    if not run.source:
        raise ValueError(
            "this model is no run with checkpoints, so none of them can guide it: name a weaker "
            "run as sampling.guide"
        )
    checkpoint = run.checkpoint if choice.checkpoint is None else choice.checkpoint
    trained = load_trained_weights(run.source, choice.weights or run.weights, checkpoint)
    _check_other_weights(run, trained.sha256, trained.description)
    model = run.components.new_model()
    trained.load_into(model)
    run.components.restore_null(model)
    return Guide(
        model=model.eval(),
        recipe=run.recipe,
        num_classes=run.num_classes,
        protocol=_protocol(trained),
    )


def _protocol(guide: "LoadedRun | Trained") -> dict[str, Any]:
    return {
        "guide.sha256": guide.sha256,
        "guide.weights": guide.weights,
        "guide.images_seen": guide.images_seen,
    }


def _check_other_weights(run: "LoadedRun", sha256: str | None, description: str) -> None:
    """Refuse the weights of the model itself."""
    if sha256 is not None and sha256 == run.sha256:
        raise ValueError(
            f"the guide has the weights of the model itself ({description}), so it guides "
            "nothing: give an earlier checkpoint as sampling.guide_checkpoint, another average as "
            "sampling.guide_weights, or a weaker run as sampling.guide"
        )


def _check_fit(run: "LoadedRun", guide: "LoadedRun") -> None:
    """Refuse a guide that predicts something else than the model, or from other conditions.

    Raises:
        ValueError: the message lists what differs, with both values.
    """
    differences = [
        f"\n  {what}: {guide_value} in the guide, {model_value} in the model"
        for what, model_value, guide_value in _compared(run, guide)
        if model_value != guide_value
    ]
    if differences:
        raise ValueError(
            f"{guide.source} cannot guide this model; they differ in:{''.join(differences)}\n"
            "a guide has the model's latents, noise schedule, prediction and conditions: give a "
            "run of the same recipe with a smaller denoiser or fewer images, or with "
            "sampling.guide_checkpoint N an earlier checkpoint of the model itself"
        )


def check_solver(guide: Guide, config: SamplingConfig) -> None:
    """Refuse a guide of velocities where the solver takes steps of mean velocities.

    Raises:
        ValueError: the guide has no mean velocities.
    """
    if config.solver == "meanflow" and not guide.recipe.conditioning.interval:
        raise ValueError(
            "sampling.solver meanflow needs a guide of mean velocities; conditioning.interval is "
            "False in the guide, True in the model: give a run with diffusion.meanflow.share "
            "above 0 as sampling.guide, or set --sampling.solver euler"
        )


def _compared(run: "LoadedRun", guide: "LoadedRun") -> Iterator[tuple[str, Any, Any]]:
    """(description, value of the model, value of the guide) of all that must be equal."""
    for name in ("schedule", "rescale", "prediction"):
        values = [getattr(loaded.recipe.diffusion, name) for loaded in (run, guide)]
        yield f"diffusion.{name}", values[0], values[1]
    model, weak = run.components, guide.components
    yield "shape of the latents", model.latent_shape, weak.latent_shape
    yield "autoencoder and affine", model.autoencoder.fingerprint, weak.autoencoder.fingerprint
    kinds = [loaded.recipe.conditioning.semantic.kind for loaded in (run, guide)]
    yield "conditioning.semantic.kind", kinds[0], kinds[1]
    if model.text_rule is not None and weak.text_rule is not None:
        yield "text features", _features(run), _features(guide)
        yield "text encoder", model.text_fingerprint, weak.text_fingerprint
    elif kinds[0] == kinds[1]:
        yield "classes", run.num_classes, guide.num_classes
        if not any(isinstance(loaded.recipe.data, NoDataConfig) for loaded in (run, guide)):
            yield "names of classes", _names(run), _names(guide)
    unknown = [name for name in guide.control_names if name not in run.control_names]
    yield "control fields beyond the model's", "none", ", ".join(unknown) or "none"


def _features(run: "LoadedRun") -> str:
    """Settings that the features of a prompt depend on."""
    rule = run.components.text_rule
    assert rule is not None
    noise = f" {rule.padding_noise:g} {rule.padding_growth}" * (rule.padding == "noisy_replicate")
    return f"{rule.num_tokens} tokens, padding {rule.padding}{noise}"


def _names(run: "LoadedRun") -> str:
    """Names of the classes, shortened; the digest tells long lists apart."""
    names = run.class_names
    return f"{format_names(names)} ({fingerprint({'names': list(names)})})"
