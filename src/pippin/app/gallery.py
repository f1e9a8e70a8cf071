# SPDX-License-Identifier: Apache-2.0
"""HTML of the page's own parts: images with their headings, status and errors.

All text of users passes :func:`escaped`. Beside HTML's own characters it escapes those of the
template languages that gradio applies to HTML.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from pippin.app.session import PlaySession
from pippin.app.sheet import Request, Sheet
from pippin.sampling.load import LoadedRun
from pippin.system.text import printable

Finished = Mapping[tuple[Request, int], str]
"""(request, seed) -> data URI of the image."""
MAX_MESSAGE = 1500
"""Longest error on the page, in characters; a message may list a thousand classes."""


def escaped(text: object) -> Markup:
    """Text without markup and without template expressions."""
    safe = str(escape(printable(text)))
    for letter in "{}$`":
        safe = safe.replace(letter, f"&#{ord(letter)};")
    return Markup(safe)


def sheet_html(sheet: Sheet, names: Sequence[str], finished: Finished) -> str:
    """The images of a sheet, one section for each model; empty frames for those to come."""
    sections = []
    for index, name in enumerate(names):
        requests = sheet.of_model(index)
        heading = Markup("<h3>{}</h3>").format(escaped(name)) if len(names) > 1 else ""
        arrange = _table if sheet.kind == "grid" else _figures
        body = arrange(sheet, requests, finished)
        sections.append(Markup("<section>{}{}</section>").format(heading, body))
    title = Markup("<h2>{}</h2>").format(escaped(sheet.title)) if sheet.title else ""
    return Markup('<div class="play-sheet play-kind-{}">{}{}</div>').format(
        sheet.kind, title, Markup().join(sections)
    )


def _figures(sheet: Sheet, requests: Sequence[Request], finished: Finished) -> Markup:
    """Images in reading order, each with its seed or its value of the sweep."""
    captions = sheet.columns or tuple(f"seed {seed}" for seed in requests[0].seeds)
    images = [(request, seed) for request in requests for seed in request.seeds]
    figures = [
        _figure(sheet, request, seed, finished, caption)
        for (request, seed), caption in zip(images, captions, strict=True)
    ]
    return Markup('<div class="play-tiles">{}</div>').format(Markup().join(figures))


def _table(sheet: Sheet, requests: Sequence[Request], finished: Finished) -> Markup:
    """Images in rows and columns with headings."""
    headings = Markup().join(
        Markup('<th scope="col">{}</th>').format(escaped(column)) for column in sheet.columns
    )
    rows = [Markup("<tr><td></td>{}</tr>").format(headings)]
    width = len(sheet.columns)
    for index, row in enumerate(sheet.rows):
        cells = Markup().join(
            Markup("<td>{}</td>").format(_figure(sheet, request, request.seeds[0], finished))
            for request in requests[index * width : (index + 1) * width]
        )
        rows.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(escaped(row), cells))
    return Markup('<div class="play-scroll"><table>{}</table></div>').format(Markup().join(rows))


def _figure(
    sheet: Sheet, request: Request, seed: int, finished: Finished, caption: str = ""
) -> Markup:
    """One image, or an empty frame before it is finished."""
    uri = finished.get((request, seed))
    image = Markup('<div class="play-empty"></div>')
    if uri is not None:
        words = [sheet.prompt[:80], request.label, f"seed {seed}"]
        image = Markup('<img src="{}" alt="{}">').format(
            uri, escaped(", ".join(filter(None, words)))
        )
    text = Markup("<figcaption>{}</figcaption>").format(escaped(caption)) if caption else ""
    return Markup("<figure>{}{}</figure>").format(image, text)


def status_html(done: int, total: int, seconds: float, notes: Sequence[str] = ()) -> str:
    """Progress of a sheet, and notes on its prompt."""
    lines = [Markup('<p class="play-note">{}</p>').format(escaped(note)) for note in notes]
    counts = f"{done} of {total} images" if done < total else f"{total} images"
    return Markup(
        '<div class="play-status"><progress value="{}" max="{}"></progress>'
        "<p>{}, {:.1f} s</p></div>{}"
    ).format(done, total, counts, seconds, Markup().join(lines))


def problem_html(message: str) -> str:
    """An error, in words."""
    text = message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]} ..."
    return Markup('<p class="play-problem" role="alert">{}</p>').format(escaped(text))


def head_html(session: PlaySession) -> str:
    """Title of the page, and its models."""
    models = Markup().join(
        Markup("<li><strong>{}</strong> {}</li>").format(
            escaped(model.source), escaped(_facts(model.run))
        )
        for model in session.models
    )
    remarks = Markup().join(
        Markup('<p class="play-note">{}</p>').format(escaped(line)) for line in session.remarks()
    )
    return Markup('<header class="play-head"><h1>pippin play</h1><ul>{}</ul>{}</header>').format(
        models, remarks
    )


def _facts(run: LoadedRun) -> str:
    """Denoiser, resolution and weights of a run."""
    millions = sum(parameter.numel() for parameter in run.model.parameters()) / 1e6
    side = run.recipe.data.resolution
    kind = run.recipe.denoiser.kind
    return f"{kind}, {millions:.1f} M parameters, {side} px, {run.description}"
