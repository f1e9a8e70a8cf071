# SPDX-License-Identifier: Apache-2.0
"""Measures of denoising held-out images of a run."""

from dataclasses import replace

from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.sampling.load import load_run

LOG_SNRS = (-2.0, 0.0, 3.0)


def test_a_run_is_profiled_in_every_field_that_it_reads(finished_run, tmp_path):
    run = load_run(finished_run)
    config = replace(
        run.recipe.evaluation, parts=("control-profile",), profile_log_snrs=LOG_SNRS, scales=()
    )
    run = replace(run, recipe=replace(run.recipe, evaluation=config))
    run.components.recipe = run.recipe
    names = [one.name for one in evaluate_run(run, tmp_path)]
    for field in run.read_names:
        wanted = [f"control profile {field} at log-SNR {one:g}" for one in LOG_SNRS]
        assert set(wanted) <= set(names)
