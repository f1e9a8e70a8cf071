# SPDX-License-Identifier: Apache-2.0
"""The page of the playground: gradio components around a session.

Only this module and :mod:`pippin.app.server` import gradio. Values reach the session as the
browser sent them (``preprocess=False``), so that all checks, and their words, are pippin's.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr

from pippin.app.controls import PlayControl
from pippin.app.form import (
    MAX_IMAGES,
    MAX_SWEEP,
    RESCALE_LABEL,
    SCALE_LABELS,
    SOLVERS,
    read_integer,
    read_values,
)
from pippin.app.gallery import head_html
from pippin.app.session import PlaySession
from pippin.app.sheet import Sheet
from pippin.app.updates import updates

Inputs = dict[str, Any]
"""Name of a value of the form -> its component."""
BuildSheet = Callable[[Mapping[str, Any]], Sheet]
PLACEHOLDER = '<p class="play-hint">Press Draw. {}</p>'
INTERVAL = (-3.0, 3.0)
"""Guidance interval that the page proposes, in log-SNR."""
LAMBDAS, BETAS = "1, 2, 3, 5", "1, 1.5, 2"
STOP = """() => {
    const bar = document.querySelector("#STATUS progress"), words = bar && bar.nextElementSibling;
    if (!bar || bar.value >= bar.max || words.textContent.endsWith("stopped")) { return; }
    words.textContent += ", stopped";
}"""
"""Program of a stop button: no further update comes, so the status would look unfinished."""
COPY_BUTTONS = (("Copy command", "copy-command"), ("Copy Python", "copy-python"))
"""(label, end of the element id)."""
COPY = """(text) => {
    const button = document.getElementById("BUTTON"), label = "LABEL";
    const show = (words) => {
        button.textContent = words;
        setTimeout(() => { button.textContent = label; }, 1200);
    };
    const byHand = () => {  // pages that are not served by this machine have no clipboard
        const area = document.createElement("textarea");
        area.value = text;
        document.body.append(area);
        area.select();
        const copied = document.execCommand("copy");
        area.remove();
        show(copied ? "Copied" : "Not copied");
    };
    if (!text) { show("Draw first"); return; }
    if (!navigator.clipboard) { byHand(); return; }
    navigator.clipboard.writeText(text).then(() => show("Copied"), byHand);
}"""
"""Program of a copy button. It names the button, since Safari focuses no button on a click."""


def build_page(session: PlaySession) -> gr.Blocks:
    """The page of a session, to be launched by :func:`pippin.app.server.serve`."""
    with gr.Blocks(title="pippin play", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(head_html(session))
        with gr.Row(elem_classes="play-columns"):
            with gr.Column(scale=2, min_width=300, elem_classes="play-form"):
                inputs = _form(session)
            with gr.Column(scale=5, min_width=300), gr.Tabs():
                _images_tab(session, inputs)
                _sweep_tab(session, inputs)
                if session.guided_by_semantics or session.guided_by_control:
                    _grid_tab(session, inputs)
    return page


def _form(session: PlaySession) -> Inputs:
    """Settings of all tabs."""
    inputs = _prompt_inputs(session)
    defaults = session.defaults
    with gr.Row():
        inputs["first_seed"] = gr.Number(0, label="first seed", scale=2, min_width=90)
        inputs["count"] = gr.Slider(
            1, MAX_IMAGES, 16, step=1, label="images", scale=3, min_width=150
        )
    with gr.Row():
        highest = max(64, defaults.steps)
        inputs["steps"] = gr.Slider(
            1, highest, defaults.steps, step=1, label="steps", scale=3, min_width=150
        )
        inputs["solver"] = gr.Dropdown(
            list(SOLVERS), value=defaults.solver, label="solver", scale=2, min_width=90
        )
    scales = (
        (session.guided_by_semantics, "semantic_scale", 10.0),
        (session.guided_by_control, "control_scale", 4.0),
        (bool(session.guide_name), "guide_scale", 4.0),
    )
    for has_scale, name, usual_end in scales:
        if has_scale:
            value = getattr(defaults, name)
            low, high = min(0.0, value), max(usual_end, value)
            info = f"by {session.guide_name}; 1 = off" if name == "guide_scale" else None
            label = SCALE_LABELS[name]
            inputs[name] = gr.Slider(low, high, value, step=0.1, label=label, info=info)
    if session.controls:
        with gr.Row():
            inputs |= {control.name: _control_input(control) for control in session.controls}
    if session.is_guided:
        with gr.Accordion("More guidance", open=False):
            inputs |= _further_inputs(session)
    return inputs


def _prompt_inputs(session: PlaySession) -> Inputs:
    if session.kind == "text":
        text = session.defaults.prompt
        return {"prompt": gr.Textbox(text, label="prompt", lines=1, max_lines=4)}
    if session.kind == "nothing":
        return {}
    names = list(session.class_names)
    return {"prompt": gr.Dropdown(names, value=names[0], label="class", allow_custom_value=True)}


def _further_inputs(session: PlaySession) -> Inputs:
    """Negative prompt, rescaling and guidance interval."""
    inputs: Inputs = {}
    if session.kind == "text" and session.guided_by_semantics:
        value = session.defaults.negative_prompt
        inputs["negative_prompt"] = gr.Textbox(value, label="negative prompt", max_lines=4)
    inputs["rescale"] = gr.Slider(
        0.0, 1.0, session.defaults.rescale, step=0.05, label=RESCALE_LABEL
    )
    interval = session.defaults.log_snr_interval
    low, high = interval or INTERVAL
    inputs["interval"] = gr.Checkbox(interval is not None, label="guide inside an interval only")
    with gr.Row():
        inputs["interval_low"] = gr.Number(low, label="log-SNR from", min_width=100)
        inputs["interval_high"] = gr.Number(high, label="to", min_width=100)
    return inputs


def _control_input(control: PlayControl) -> Any:
    """Component of a control."""
    if control.kind == "switch":
        return gr.Checkbox(control.default, label=control.label, min_width=130)
    if control.kind == "choice":
        names = list(control.choices)
        return gr.Dropdown(names, value=control.default, label=control.label, info=control.info)
    return gr.Slider(
        control.low,
        control.high,
        control.default,
        step=control.step,
        label=control.label,
        info=control.info or None,
        min_width=200,  # one in a row beside the images, so that no label breaks
    )


def _images_tab(session: PlaySession, inputs: Inputs) -> None:
    with gr.Tab("Images"):
        _drawing(
            session, inputs, lambda form: session.images(session.read(form)), api_name="images"
        )


def _sweep_tab(session: PlaySession, inputs: Inputs) -> None:
    """One seed, one control over its range."""
    with gr.Tab("Sweep"):
        gr.HTML("<p>The first seed, with one control over its whole range.</p>")
        choices = [(control.label, name) for name, control in session.sweeps.items()]
        with gr.Row():
            swept = gr.Dropdown(choices, value=choices[0][1], label="control")
            count = gr.Slider(2, MAX_SWEEP, 8, step=1, label="values")

        def build(form: Mapping[str, Any]) -> Sheet:
            values = read_integer("values", form["sweep_count"], 2, MAX_SWEEP)
            return session.sweep(session.read(form), str(form["sweep"]), values)

        added = {"sweep": swept, "sweep_count": count}
        _drawing(session, inputs | added, build, api_name="sweep")


def _grid_tab(session: PlaySession, inputs: Inputs) -> None:
    """One seed, lambda x beta; a scale that no model takes stays at its default."""
    by_semantics, by_control = session.guided_by_semantics, session.guided_by_control
    defaults = session.defaults
    varied = by_control and session.controls  # otherwise beta guides by one value
    with gr.Tab("Guidance"):
        gr.HTML("<p>The first seed, at every pair of guidance scales.</p>")
        with gr.Row():
            lambdas = gr.Textbox(
                LAMBDAS if by_semantics else f"{defaults.semantic_scale:g}",
                label="lambda",
                visible=by_semantics,
            )
            betas = gr.Textbox(
                BETAS if varied else f"{defaults.control_scale:g}",
                label="beta",
                visible=by_control,
            )

        def build(form: Mapping[str, Any]) -> Sheet:
            scales = read_values("lambda", form["lambdas"]), read_values("beta", form["betas"])
            return session.grid(session.read(form), *scales)

        _drawing(session, inputs | {"lambdas": lambdas, "betas": betas}, build, api_name="grid")


def _drawing(session: PlaySession, inputs: Inputs, build: BuildSheet, *, api_name: str) -> None:
    """Buttons and results of one tab."""
    names = list(inputs)

    def draw(*values: Any) -> Iterator[tuple[str, str, str, str]]:
        form = dict(zip(names, values, strict=True))
        for update in updates(session, lambda: _with_notes(session, form, build(form))):
            yield update.status, update.gallery, update.command, update.program

    with gr.Row(elem_classes="play-buttons"):
        start = gr.Button("Draw", variant="primary", elem_id=f"{api_name}-draw", min_width=90)
        stop = gr.Button("Stop", elem_id=f"{api_name}-stop", min_width=90)
        copies = [
            gr.Button(label, elem_id=f"{api_name}-{name}", min_width=120)
            for label, name in COPY_BUTTONS
        ]
    status = gr.HTML(elem_id=f"{api_name}-status")
    gallery = gr.HTML(PLACEHOLDER.format(session.prompt_hint), elem_id=f"{api_name}-gallery")
    with gr.Accordion("Command and Python program", open=False):
        codes = [
            gr.Code(
                label=label,
                language=language,
                lines=1,
                max_lines=16,
                interactive=False,
                wrap_lines=True,
                buttons=[],
            )
            for label, language in (("Command", "shell"), ("Python", "python"))
        ]
    triggers = [start.click]
    if api_name == "images" and session.kind == "text":
        triggers.append(inputs["prompt"].submit)
    drawn = gr.on(
        triggers,
        draw,
        list(inputs.values()),
        [status, gallery, *codes],
        api_name=api_name,
        preprocess=False,
        show_progress="hidden",
        concurrency_id="draw",
        concurrency_limit=1,
    )
    stop.click(None, cancels=[drawn])
    stop.click(None, js=STOP.replace("STATUS", f"{api_name}-status"))
    for button, code, (label, name) in zip(copies, codes, COPY_BUTTONS, strict=True):
        program = COPY.replace("BUTTON", f"{api_name}-{name}").replace("LABEL", label)
        button.click(None, [code], js=program)


def _with_notes(
    session: PlaySession, form: Mapping[str, Any], sheet: Sheet
) -> tuple[Sheet, tuple[str, ...]]:
    return sheet, session.notes(session.read(form))
