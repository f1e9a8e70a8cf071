# SPDX-License-Identifier: Apache-2.0
# %% [markdown]
# # First comparison
#
# This notebook draws with a shipped model, sweeps a control, and compares two ways of
# conditioning: it trains both models and reads the table and the figures. Everything works
# offline.
# Install pippin and a notebook server: `pip install . jupyterlab ipywidgets`.
#
# The source is `examples/first_comparison.py`; `python scripts/notebook.py` writes the notebook.

# %%
from dataclasses import replace
from pathlib import Path

import torch

from pippin import (
    Study,
    draw,
    execute,
    get_recipe,
    load_run,
    render_report,
    run_study,
    show_images,
)
from pippin.reports.figures.curves import learning_curves
from pippin.reports.report_data import open_source
from pippin.studies.shipped.control import CONTROL_ARMS, control_axes
from pippin.studies.shipped.demo import start_axis

# %% [markdown]
# The budget of `pippin demo`. Smaller numbers give a notebook that runs in seconds and says
# nothing about the two models.

# %% tags=["parameters"]
IMAGES = 4096  # training images of each arm
BATCH_SIZE = 32
SOURCE_IMAGES = None  # images of the data set; None = all
SAMPLES = 200  # samples that are measured
STEPS = 16  # steps of the solver
DEVICE = "auto"
FOLDER = Path("studies/first-comparison")

# %% [markdown]
# ## Draw with a shipped model
#
# A loaded run shows its facts. The model reads classes; `label_id` finds the id of a name.

# %%
MODELS = {arm: f"pippin/openmoji-mmdit-{arm}" for arm in ("entangled", "disentangled")}
run = load_run(MODELS["disentangled"])
run

# %%
sampling = replace(run.recipe.sampling, solver="dpm++", steps=STEPS)
names = ["flags", "food-drink", "symbols", "objects"]
labels = [run.label_id(name) for name in names]
show_images(draw(run, labels, seeds=range(4), config=sampling), names, zoom=3)

# %% [markdown]
# ## Sweep a control
#
# Training images have different original sizes, and the model was told the size of each. Ask for
# another size at equal seeds: only sharpness should change.

# %%
SIZES, SEEDS = (32, 64, 256), range(3)
rows = []
for size in SIZES:
    control = replace(sampling.control, original_size=(size, size))
    config = replace(sampling, control=control)
    rows.append(draw(run, [run.label_id("food-drink")] * len(SEEDS), SEEDS, config))
captions = [f"seed {seed}, size {size}" for size in SIZES for seed in SEEDS]
show_images(torch.cat(rows), captions, columns=len(SEEDS), zoom=3)

# %% [markdown]
# ## Train two arms
#
# The arms of a study differ in declared axes and in nothing else. Here the class enters by
# modulation or by attention, and the size acts equally at all noise levels or late. Each arm
# starts from its own shipped model, which was trained under an equal budget. `check` refuses a
# comparison that is not fair.

# %%
base = get_recipe("openmoji/mmdit-disentangled")
base = replace(
    base,
    data=replace(base.data, views=1, max_pictures=SOURCE_IMAGES),
    train=replace(base.train, images=IMAGES, batch_size=BATCH_SIZE, device=DEVICE),
    sampling=sampling,
    evaluation=replace(
        base.evaluation,
        parts=("held-out", "quality", "real"),
        num_samples=SAMPLES,
        kid_subset_size=min(100, SAMPLES),
        input_size=64,
    ),
)
study = Study(
    name="first-comparison",
    title="Entangled or disentangled conditioning",
    question="Does the class by attention, with late control, draw better images?",
    base=base,
    axes=control_axes() | {"start": start_axis(MODELS)},
    combinations={arm: CONTROL_ARMS[arm] | {"start": arm} for arm in MODELS},
    seeds=(0,),
    primary="KID-efflite0",
    smallest_effect=0.5,
    companions=("held-out loss",),
)
study.check()

# %% [markdown]
# The next cell trains and measures both arms. Run it again after a stop: finished runs are kept.

# %%
summary = run_study(study, FOLDER, execute, progress=print)
summary

# %% [markdown]
# ## Read the table
#
# Brackets are 95 % intervals over the choice of samples. One seed gives no verdict: another
# training could end elsewhere. `seeds=(0, 1, 2, 3, 4)` gives an interval over training seeds.

# %%
results = open_source(FOLDER)
results

# %% [markdown]
# ## Read the figures
#
# The training loss of both arms, and the samples of both at equal seeds.

# %%
learning_curves(results)[0]

# %%
arms = {arm: load_run(FOLDER / "runs" / f"{arm}-seed0") for arm in MODELS}
samples = torch.cat([draw(arm, labels, range(4), sampling) for arm in arms.values()])
show_images(samples, [f"{arm}: {name}" for arm in arms for name in names], columns=4, zoom=3)

# %% [markdown]
# The page has all samples, metrics and settings, and the commands that repeat the study.

# %%
render_report(FOLDER)
