# SPDX-License-Identifier: Apache-2.0
"""Model card of a published folder: README.md with the hub's metadata, from recorded facts.

One generator serves pushed models, pipelines of diffusers and Spaces. Their cards differ in
their :class:`CardForm`: title, header and use. Nothing is stated that is not recorded or given by
the author, and no absolute path.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pippin.publish.card_sections import (
    data_section,
    licence_section,
    limits_section,
    samples_section,
    training_section,
)
from pippin.publish.facts import CardFacts
from pippin.publish.measures import measures_section

CARD = "README.md"
CITATION = """\
@inproceedings{berrada2024improved,
  title     = {On Improved Conditioning Mechanisms and Pre-training Strategies
               for Diffusion Models},
  author    = {Berrada, Tariq and others},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2024},
  note      = {arXiv:2411.03177}
}
@software{pippin,
  title  = {pippin: apple-to-apple training recipes for latent diffusion models},
  author = {{The pippin authors}}
}"""


@dataclass(frozen=True, kw_only=True)
class CardForm:
    """Parts of a model card beside the facts of its model."""

    title: str
    header: Mapping[str, Any] = field(default_factory=dict)
    """First entries of the hub's metadata."""
    is_model: bool = True
    """Whether the folder is a model of the hub, with its task and base models; otherwise a
    Space."""
    use: tuple[str, ...] = ()
    """Lines of Markdown that say how to use the folder."""
    limits: tuple[str, ...] = ()
    """Limits of the folder's format."""


def render_card(facts: CardFacts, form: CardForm) -> str:
    """The model card as Markdown with the hub's metadata."""
    sections = {
        "": [_introduction(facts)],
        "Use": form.use,
        "Samples": samples_section(facts),
        "Data": data_section(facts),
        "Training": training_section(facts),
        "Measures": measures_section(facts),
        "Limits": [*limits_section(facts), *(f"- {line}" for line in form.limits)],
        "Licence": licence_section(facts),
        "Citation": ["```bibtex", CITATION, "```"],
    }
    parts = [_metadata(facts, form), f"# {form.title}"]
    for title, lines in sections.items():
        if lines:
            parts += [f"## {title}"] * bool(title) + ["\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _metadata(facts: CardFacts, form: CardForm) -> str:
    """The block of YAML that the hub reads."""
    import yaml

    licence, values = facts.licence, dict(form.header)
    if licence.model is not None:
        values["license"] = licence.model
    if licence.link is not None:
        values |= {"license_name": "other", "license_link": licence.link}
    kind = ["text-conditional"] * facts.reads_text + ["class-conditional"] * facts.reads_classes
    denoiser = facts.trained.recipe.denoiser.kind
    values["tags"] = ["pippin", "latent-diffusion", "image-generation", denoiser, *kind]
    if form.is_model:
        task = "text-to-image" if facts.reads_text else "unconditional-image-generation"
        values["pipeline_tag"] = task
        if facts.base_models:
            values["base_model"] = list(facts.base_models)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=99)
    return f"---\n{text}---"


def _introduction(facts: CardFacts) -> str:
    recipe = facts.trained.recipe
    origin = "Converted" if facts.is_converted else "Trained"
    reads = "prompts" if facts.reads_text else "classes" if facts.reads_classes else "no condition"
    return (
        f"A latent diffusion model ({recipe.denoiser.kind}, {facts.num_parameters / 1e6:.2f} "
        f"million parameters) that draws {recipe.data.resolution} x {recipe.data.resolution} "
        f"pixels and reads {reads}. {origin} with pippin."
    )
