# SPDX-License-Identifier: Apache-2.0
"""Model card of a shared model: README.md with the hub's metadata, made from recorded facts.

The model card states nothing that is not recorded or given by the author. Text of others (names of
classes, prompts, paths) is escaped: the hub renders the model card as Markdown with HTML.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pippin.evaluation.metric_registry import find_metric
from pippin.sharing.facts import CardFacts, data_words, public_name
from pippin.studies.results import Row
from pippin.system.text import printable

CARD = "README.md"
SAMPLES = "samples.png"
LISTED = 20
"""Maximum number of classes and of grid rows that a model card lists."""
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


def render_card(facts: CardFacts) -> str:
    """The model card as Markdown with the hub's metadata."""
    sections = {
        "": _introduction(facts),
        "Use": _use(facts),
        "Samples": _samples(facts),
        "Data": _data(facts),
        "Training": _training(facts),
        "Measures": _measures(facts),
        "Limits": _limits(facts),
        "Licence": _licence(facts),
        "Citation": ["```bibtex", CITATION, "```"],
    }
    parts = [_metadata(facts), f"# {facts.name.partition('/')[2]}"]
    for title, lines in sections.items():
        parts += [f"## {title}"] * bool(title) + ["\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _metadata(facts: CardFacts) -> str:
    """The block of YAML that the hub reads."""
    import yaml

    licence = facts.licence
    values: dict[str, Any] = {"library_name": "pippin", "license": licence.model}
    if licence.link is not None:
        values |= {"license_name": "other", "license_link": licence.link}
    values["pipeline_tag"] = (
        "text-to-image" if facts.reads_text else "unconditional-image-generation"
    )
    kind = ["text-conditional"] * facts.reads_text + ["class-conditional"] * facts.reads_classes
    denoiser = facts.trained.recipe.denoiser.kind
    values["tags"] = ["pippin", "latent-diffusion", "image-generation", denoiser, *kind]
    if facts.base_models:
        values["base_model"] = list(facts.base_models)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=99)
    return f"---\n{text}---"


def _introduction(facts: CardFacts) -> list[str]:
    recipe = facts.trained.recipe
    reads = "prompts" if facts.reads_text else "classes" if facts.reads_classes else "no condition"
    return [
        f"A latent diffusion model ({recipe.denoiser.kind}, {facts.num_parameters / 1e6:.2f} "
        f"million parameters) that draws {recipe.data.resolution} x {recipe.data.resolution} "
        f"pixels and reads {reads}. Trained and shared with pippin."
    ]


def _use(facts: CardFacts) -> list[str]:
    """Three lines of shell and of Python."""
    request, prompt, first = _example_request(facts)
    return [
        "```bash",
        f"pippin show {facts.source}",
        f"pippin sample {facts.source} {request}--seeds 0:16",
        f"pippin play {facts.source}",
        "```",
        "",
        "```python",
        "from pippin import draw, load_run",
        f'run = load_run("{facts.source}")',
        f"images = draw(run, [{prompt}] * 4, seeds=range(4))  # uint8 (4, 3, height, width)",
        "```",
        "",
        f"Training starts from these weights with `--init.run {facts.source}`. Add `@COMMIT` to "
        f"the name to pin a version; a run records the commit in any case.{first}",
    ]


def _example_request(facts: CardFacts) -> tuple[str, str, str]:
    """(options of pippin sample, prompt in Python, a note) of the first sample or class."""
    if facts.reads_text:
        texts = [row["prompt"] for row in facts.samples if "prompt" in row]
        prompt = _one_line(texts[0]) if texts else "a red apple"
        return f"--prompts {shlex.quote(prompt)} ", json.dumps(prompt), ""
    if facts.class_names:
        label = shlex.quote(_one_line(facts.class_names[0]))
        return f"--labels {label} ", "0", " Class ids count from 0."
    return "", "0", ""


def _samples(facts: CardFacts) -> list[str]:
    if not facts.samples:
        return ["No samples were drawn for this card."]
    texts = [row.get("prompt") or row.get("class") or "" for row in facts.samples]
    seeds = [row["seed"] for row in facts.samples]
    lines = [
        f"![Samples]({SAMPLES})",
        "",
        f"Not selected: seeds {seeds[0]} to {seeds[-1]}, row by row; {facts.samples_sampling}.",
        "",
        "| seed | prompt |" if facts.reads_text else "| seed | class |",
        "| --- | --- |",
    ]
    pairs = list(zip(seeds, texts, strict=True))
    lines += [f"| {seed} | {_cell(text)} |" for seed, text in pairs[:LISTED]]
    hidden = len(pairs) - LISTED
    return lines + [f"| ... | {hidden} more |"] * (hidden > 0)


def _data(facts: CardFacts) -> list[str]:
    what, licence = data_words(facts)
    lines = [f"- Images: {_cell(what)}.", f"- Licence of the images: {_cell(licence)}."]
    if facts.class_names:
        names = [_cell(name) for name in facts.class_names[:LISTED]]
        more = len(facts.class_names) - LISTED
        listed = ", ".join(names) + (f" and {more} more" if more > 0 else "")
        lines.append(f"- Classes ({len(facts.class_names)}): {listed}.")
    inputs = facts.trained.inputs
    if inputs is not None:
        lines.append(f"- Hash of the training images: `{inputs.data.source_hash}`.")
        lines += [
            f"- Changed at {change.images_seen:,} images: {_cell(change.what)}."
            for change in inputs.changes
        ]
    return lines


def _training(facts: CardFacts) -> list[str]:
    trained, recipe = facts.trained, facts.trained.recipe
    rows = [
        ("recipe", facts.recipe_name),
        ("weights", f"{trained.description}, stored as {facts.dtype}"),
        ("sha256 of the trained weights", trained.sha256),
        ("base model", _lineage(facts) or "none: trained from initial weights"),
        ("autoencoder", public_name(recipe.autoencoder.source)),
        ("text encoders", _encoders(facts)),
        ("schedule and prediction", f"{recipe.diffusion.schedule}, {recipe.diffusion.prediction}"),
        ("semantics", _pairs(recipe.conditioning.rules)),
        ("control", ", ".join(_control(facts)) or "none"),
        ("batch size, seed", f"{recipe.train.batch_size}, {recipe.seed}"),
    ]
    lines = [f"| {name} | {_cell(text)} |" for name, text in rows]
    return ["| | |", "| --- | --- |", *lines, "", "`config.json` has every setting."]


def _encoders(facts: CardFacts) -> str:
    """Text encoders, of a model that reads text."""
    sources = facts.trained.recipe.text.source if facts.reads_text else ()
    return ", ".join(map(public_name, sources)) or "none"


def _control(facts: CardFacts) -> list[str]:
    control = facts.trained.recipe.conditioning.control
    return [*control.high, *control.low]


def _pairs(rules: Mapping[Any, Any]) -> str:
    return ", ".join(f"{source} by {path}" for source, path in rules.items()) or "none"


def _lineage(facts: CardFacts) -> str:
    """The weights that it descends from, oldest first."""
    return ", then ".join(
        f"{public_name(str(parent['source']))} ({parent['weights']} weights"
        + (f", {parent['images_seen']:,} images)" if parent["images_seen"] else ")")
        for parent in facts.trained.lineage
    )


def _measures(facts: CardFacts) -> list[str]:
    if not facts.measures:
        return [
            "No measures of these weights are recorded. `pippin evaluate` measures a run before "
            "it is pushed."
        ]
    lines = [
        "| measure | of | value | 95 % interval | N | better | protocol |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_measure_line(row) for row in facts.measures),
        "",
        "Numbers may be compared only where their protocols are equal. Intervals do not include "
        "the variation between training seeds.",
    ]
    if facts.dtype != "float32":
        lines.append(f"They were measured before the weights were rounded to {facts.dtype}.")
    return [*lines, "", *_protocols(facts.measures)]


def _measure_line(row: Row) -> str:
    metric = find_metric(row.metric)
    value = "not finite" if row.value is None else f"{row.value:.4g}"
    interval = ""
    if row.low is not None and row.high is not None:
        interval = f"{row.low:.4g} to {row.high:.4g} ({row.interval_over})"
    cells = (metric.label, row.subject, f"{value} {row.unit}".strip(), interval, row.n, row.better)
    return f"| {' | '.join(map(_cell, cells))} | `{row.fingerprint[:8]}` |"


def _protocols(rows: Sequence[Row]) -> Iterator[str]:
    """Entries that the protocols share, and those of each, without paths of the author."""
    protocols = {row.fingerprint: row.protocol for row in rows}
    first = next(iter(protocols.values()))
    shared = {
        path: value
        for path, value in first.items()
        if all(path in other and other[path] == value for other in protocols.values())
    }
    yield "<details><summary>Protocols</summary>"
    yield ""
    for title, values in [("shared", shared)] + [
        (digest[:8], {path: value for path, value in own.items() if path not in shared})
        for digest, own in protocols.items()
    ]:
        public = {path: value for path, value in values.items() if not _is_path(value)}
        yield f"{title}:"
        yield ""
        yield f"```json\n{_fenced(json.dumps(public, indent=1, default=str))}\n```"
        yield ""
    yield "</details>"


def _is_path(value: Any) -> bool:
    """Whether a setting, or one of several values, is a path of the author's machine."""
    if isinstance(value, list | tuple):
        return any(map(_is_path, value))
    return isinstance(value, str) and value.startswith(("/", "~"))


def _limits(facts: CardFacts) -> list[str]:
    trained, side = facts.trained, facts.trained.recipe.data.resolution
    seen = f"{trained.images_seen:,}" if trained.images_seen else "an unknown number of"
    lines = [
        f"- It was trained at {side} pixels; other sizes are untested unless measures say so.",
        f"- One training seed, {seen} images: no evidence for one recipe over another.",
        "- Samples repeat the biases of the training images. Nothing filters prompts or images.",
    ]
    if facts.reads_classes:
        lines.append("- It draws its classes only, and reads no text.")
    if facts.bundled:
        encoders = ", ".join(facts.bundled)
        lines.append(f"- The folder includes encoders with terms of their own: {encoders}.")
    return lines


def _licence(facts: CardFacts) -> list[str]:
    licence = facts.licence
    link = "" if licence.link is None else f", {_cell(licence.link)}"
    return [f"Weights: {licence.model}{link}."]


def _cell(text: object) -> str:
    """Text of others in a line of Markdown, without effect on it."""
    line = _one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)


def _one_line(text: object) -> str:
    return " ".join(printable(text).split())


def _fenced(text: str) -> str:
    """Text that cannot end its block of code."""
    return text.replace("```", "'''")
