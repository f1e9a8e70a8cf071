# SPDX-License-Identifier: Apache-2.0
"""A custom metric, declared in this module alone: measured, checked, tabled, explained."""

from dataclasses import replace

import pytest
import torch

from pippin import ImageMetric, declare_metric
from pippin.config import ConfigError
from pippin.evaluation.image_meter import ImageMeter
from pippin.evaluation.image_metric import image_metrics
from pippin.evaluation.metric_registry import find_metric
from pippin.reports.markdown import markdown
from pippin.reports.report import render_report
from pippin.reports.report_data import open_source
from pippin.reports.tables.results_table import result_lines
from pippin.studies.execution import execute as own_execution
from pippin.studies.runner import refuse_unmeasured, run_study

TOY = ImageMetric(
    name="toy redness",
    label="redness (toy)",
    description="Share of red in the light of an image; a toy.",
    unit="share",
    better="higher",
    leads=True,
    values=lambda images: (
        images[:, 0].double().mean((1, 2)) / images.double().mean((1, 2, 3)).clamp(min=1) / 3
    ),
    protocol=lambda images: {"toy_side": images.shape[-1]},
)


@pytest.fixture(autouse=True)
def declared():
    declare_metric(TOY)


def measured(images: torch.Tensor, subject: str = "arm"):
    meter = ImageMeter([TOY])
    assert [torch.equal(batch, images) for batch in meter.watch([images])] == [True]
    (measure,) = meter.measures(seed=0, subject=subject)
    return measure


def coloured(red: int, seed: int = 0) -> torch.Tensor:
    images = torch.full((6, 3, 8, 8), 60, dtype=torch.uint8)
    images[:, 0] = torch.randint(
        red, red + 20, (6, 8, 8), generator=torch.Generator().manual_seed(seed)
    )
    return images


def test_the_evaluation_measures_it():
    assert TOY in image_metrics()
    measure = measured(coloured(60))
    assert (measure.name, measure.unit, measure.better) == ("toy redness", "share", "higher")
    assert measure.metric == TOY() == find_metric("toy redness")
    assert 1 / 3 <= measure.value < 0.45 and measure.low < measure.value < measure.high
    assert measure.protocol == {"seed": 0, "toy_side": 8}


def test_a_metric_without_one_number_for_each_image_is_refused():
    odd = replace(TOY, values=lambda images: images.double().mean())
    with pytest.raises(ValueError, match=r"one number for each of 6 images; .* the shape \(\)"):
        list(ImageMeter([odd]).watch([coloured(0)]))


@pytest.mark.parametrize("convert", [torch.Tensor.byte, torch.Tensor.bool])
def test_integers_and_truth_values_are_numbers(convert):
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 8, 8)
    whole = replace(TOY, values=lambda images: convert(images[:, 0, 0, 0]))
    meter = ImageMeter([whole])
    list(meter.watch([images[:4], images[4:]]))
    (measure,) = meter.measures(seed=0)
    assert measure.value == (2.5 if convert is torch.Tensor.byte else 5 / 6)


def test_a_study_may_declare_it_and_its_misspelling_is_refused(study):
    refuse_unmeasured(replace(study, primary="toy redness", companions=()), own_execution)
    with pytest.raises(ConfigError, match="did you mean toy redness"):
        refuse_unmeasured(replace(study, primary="toy rednes", companions=()), own_execution)
    drift_only = replace(study.base, evaluation=replace(study.base.evaluation, parts=("drift",)))
    with pytest.raises(ConfigError, match=r"evaluation\.parts lacks quality"):
        refuse_unmeasured(
            replace(study, base=drift_only, primary="toy redness", companions=()), own_execution
        )


def test_table_and_glossary_have_it(study, tmp_path):
    def execute(recipe, folder):
        recipe.save(folder / "config.json")
        redder = recipe.conditioning.rules["label"] == "attention"
        return [
            measured(coloured(120 if redder else 60, recipe.seed)),
            measured(coloured(100), subject="real"),
        ]

    own = replace(study, primary="toy redness", companions=(), smallest_effect=0.01)
    run_study(own, tmp_path, execute, lambda text: None)
    source = open_source(tmp_path)
    (line,) = result_lines(source)
    assert (line.metric, line.role) == (TOY(), "primary")
    assert line.better == "↑ higher is better" and line.unit == "share"
    page = render_report(tmp_path).read_text(encoding="utf-8")
    assert "redness (toy)" in page and "a toy." in page
    assert "redness (toy)" in markdown(source)
