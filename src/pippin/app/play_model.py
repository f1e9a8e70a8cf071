# SPDX-License-Identifier: Apache-2.0
"""One run of the playground, and the sampling configuration that the page asks of it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from pippin.app.controls import (
    PlayControl,
    constant_fields,
    control_request,
    run_controls,
    sample_size,
)
from pippin.app.form import PlaySettings
from pippin.app.sheet import BATCH_SIZE
from pippin.config import ConfigError
from pippin.control import CONTROL_FIELDS
from pippin.runs.trained import trained_recipe, trained_sampling
from pippin.sampling.config import (
    GuidanceConfig,
    GuideChoice,
    SamplingConfig,
    check_guidance,
)
from pippin.sampling.load import LoadedRun, load_run
from pippin.types import Prompt

PromptKind = Literal["text", "classes", "nothing"]
"""Kind of the semantic condition of a run."""
NO_GUIDE = GuideChoice(None, None, None)


@dataclass(frozen=True, kw_only=True)
class PlayModel:
    """A loaded run, and how ``pippin sample`` opens it."""

    source: str
    """As the user named it."""
    run: LoadedRun
    sampling: SamplingConfig
    """Defaults of ``pippin sample``."""
    guide: GuideChoice = NO_GUIDE
    """The weaker model of autoguidance."""

    @cached_property
    def kind(self) -> PromptKind:
        """The semantic condition."""
        if not self.run.recipe.conditioning.rules:
            return "nothing"
        return "classes" if self.run.components.text_rule is None else "text"

    @cached_property
    def controls(self) -> tuple[PlayControl, ...]:
        """Controls that the run has."""
        return run_controls(self.run)

    @cached_property
    def guided_by_semantics(self) -> bool:
        """Whether lambda may differ from 1."""
        reference = self.sampling.guidance.reference
        return self._takes(GuidanceConfig(semantic_scale=2.0, reference=reference))

    @cached_property
    def guided_by_control(self) -> bool:
        """Whether beta may differ from 1."""
        return self._takes(GuidanceConfig(control_scale=2.0))

    @property
    def guided_by_guide(self) -> bool:
        """Whether there is a weaker model."""
        return self.guide != NO_GUIDE

    @property
    def guide_name(self) -> str:
        """The weaker model in words; empty without one."""
        source, checkpoint, weights = self.guide
        if not self.guided_by_guide:
            return ""
        words = [source or "own", weights, f"at {checkpoint} images" if checkpoint else None]
        return " ".join(word for word in words if word)

    def _takes(self, guidance: GuidanceConfig) -> bool:
        try:
            check_guidance(SamplingConfig(guidance=guidance), self.run.recipe.conditioning)
        except ConfigError:
            return False
        return True

    def config(self, settings: PlaySettings) -> SamplingConfig:
        """The sampling configuration; settings that the run does not have stay its own.

        Raises:
            ConfigError: impossible settings.
        """
        own, by_semantics = self.sampling.guidance, self.guided_by_semantics
        scale = settings.semantic_scale if by_semantics else own.semantic_scale
        if settings.negative_prompt and scale == 1:
            raise ConfigError(
                "a negative prompt has no effect without guidance: set the guidance scale "
                "(lambda) above 1, or leave the negative prompt empty"
            )
        beta = settings.control_scale if self.guided_by_control else own.control_scale
        return replace(
            self.with_guide(settings.guide_scale, (scale, beta)),
            solver=settings.solver,
            steps=settings.steps,
            guidance=replace(
                own,
                semantic_scale=scale,
                control_scale=beta,
                guide_scale=settings.guide_scale if self.guided_by_guide else 1.0,
                rescale=settings.rescale,
                log_snr_interval=settings.log_snr_interval,
            ),
            control=control_request(self.run, settings.controls),
            negative_prompt=settings.negative_prompt or None,
            size=sample_size(self.run, settings.controls),
            weights=self.run.weights,
            batch_size=BATCH_SIZE,
        )

    def with_guide(self, guide_scale: float, scales: tuple[float, float]) -> SamplingConfig:
        """The sampling with the weaker model, where its scale is on.

        Raises:
            ConfigError: lambda or beta is on too.
        """
        if not self.guided_by_guide or guide_scale == 1:
            return self.sampling.without_guide()
        if scales != (1, 1):
            raise ConfigError(
                f"the guide scale {guide_scale:g} guides by a weaker model instead of a dropped "
                "condition: set lambda and beta to 1, or the guide scale to 1, which is off"
            )
        source, checkpoint, weights = self.guide
        return replace(
            self.sampling, guide=source, guide_checkpoint=checkpoint, guide_weights=weights
        )

    def prompt(self, text: str) -> Prompt:
        """The prompt, or the id of a class.

        Raises:
            ConfigError: no such class; the message lists the classes.
        """
        if self.kind == "text":
            return text
        if self.kind == "nothing":
            return 0
        try:
            return self.run.label_id(text)
        except ValueError as error:
            raise ConfigError(f"{self.source}: {error}") from error

    def unread_words(self, texts: list[str]) -> tuple[str, ...]:
        """Notes on texts with more tokens than the model reads."""
        rule = self.run.components.text_rule
        if rule is None:
            return ()
        cuts = self.run.components.text_encoder.truncated(texts, rule.num_tokens)
        return tuple(
            f"{self.source} reads {cut.read} tokens of a prompt; unread: {cut.unread}"
            for cut in cuts
        )

    def constant_controls(self) -> tuple[str, ...]:
        """Names of controls that training did not vary; the page has none for them."""
        fields = constant_fields(self.run)
        return tuple(CONTROL_FIELDS[name].label or name.replace("_", " ") for name in fields)


def open_model(
    source: str, weights: str | None = None, guide: GuideChoice = NO_GUIDE
) -> PlayModel:
    """Load a run as ``pippin sample`` does, with its text encoder.

    Args:
        source: a run folder, an exported folder or a shipped model.
        weights: kind of weights; None = as ``pippin sample`` takes them.
        guide: the weaker model of autoguidance; without one, that of the run's own sampling.

    Raises:
        ValueError: no such source, its text encoder is missing, or the guide does not fit.
    """
    sampling = trained_sampling(source, trained_recipe(source))
    run = load_run(source, weights or sampling.weights)
    if run.components.text_rule is not None:
        _ = run.components.text_encoder
    model = PlayModel(
        source=source,
        run=run,
        sampling=sampling,
        guide=sampling.guide_choice if guide == NO_GUIDE else guide,
    )
    if model.guided_by_guide:
        guidance = GuidanceConfig(guide_scale=2.0)
        run.guide(replace(model.with_guide(2.0, (1, 1)), guidance=guidance))  # loads and checks
    return model
