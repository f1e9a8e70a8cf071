# SPDX-License-Identifier: Apache-2.0
"""Published figures stand beside results of the same setting, and nowhere else."""

from dataclasses import replace

import pytest
from html_page import Page

from pippin.config import fingerprint, replace_at
from pippin.data.config import ImagesConfig
from pippin.recipes.table import get_recipe
from pippin.reports.comparison_page import render_comparison
from pippin.reports.headline import headline
from pippin.reports.markdown import markdown
from pippin.reports.report import render_report
from pippin.reports.report_data import open_source
from pippin.reports.tables.paper_numbers import CAUTION, FIGURES, HEADING, published_figures
from pippin.reports.tables.results_table import result_lines
from pippin.studies.runner import run_study
from pippin.studies.shipped.table import get_study

SETTINGS = [("imagenet-1k", 256, "2.27"), ("imagenet-1k", 512, "2.76"), ("cc12m", 512, "26.17")]


@pytest.fixture
def at(study, execute, tmp_path):
    """A finished study on images of a data set and side."""

    def made(dataset, side):
        data = ImagesConfig(path="photos", dataset=dataset, resolution=side)
        folder = tmp_path / f"{dataset}-{side}"
        run_study(replace(study, base=replace(study.base, data=data)), folder, execute, str)
        return folder

    return made


@pytest.mark.parametrize(("dataset", "side", "value"), SETTINGS)
def test_they_are_shown_where_the_setting_is_the_same(at, dataset, side, value):
    folder = at(dataset, side)
    wanted = [one for one in FIGURES if (one.dataset, one.resolution) == (dataset, side)]
    for text in (render_report(folder).read_text(), markdown(open_source(folder))):
        assert HEADING in text and CAUTION in text
        for one in FIGURES:
            assert (f"{one.metric} {one.value}" in text) == (one in wanted)
        assert value in text
    assert Page(render_report(folder).read_text()).open == []


@pytest.mark.parametrize(("dataset", "side"), [("", 256), ("imagenet-1k", 64), ("cc12m", 256)])
def test_they_are_not_shown_elsewhere(at, dataset, side):
    folder = at(dataset, side)
    for text in (render_report(folder).read_text(), markdown(open_source(folder))):
        assert HEADING not in text


def test_no_figure_enters_a_verdict_or_a_comparison(at, finished, tmp_path):
    with_figures, without = at("imagenet-1k", 256), at("", 256)
    found = [open_source(folder) for folder in (with_figures, without)]
    lines = [result_lines(source) for source in found]
    assert [headline(*pair) for pair in zip(found, lines, strict=True)].count(
        headline(found[1], lines[1])
    ) == 2
    assert [line.arms for line in lines[0]] == [line.arms for line in lines[1]]
    page = render_comparison(with_figures, without, tmp_path / "two.html").read_text()
    assert HEADING not in page and "2.27" not in page


def test_a_run_s_page_shows_them_too(at):
    run = at("imagenet-1k", 512) / "runs" / "entangled-seed0"
    text = render_report(run).read_text()
    assert HEADING in text and "FID 3.04" in text


def test_recipes_and_studies_of_the_paper_state_their_data_set():
    for name, dataset in (("paper/dit-512", "imagenet-1k"), ("paper/cc12m-dit-512", "cc12m")):
        assert get_recipe(name).data.dataset == dataset
    assert get_study("datasets", scale="paper").starts["other"].data.dataset == "imagenet-22k"
    for name, shown in (("table1", 3), ("table1-512", 2), ("table1-text", 0)):
        declared = get_study(name, scale="paper").declaration()
        assert len(published_figures(declared)) == shown
        assert published_figures(get_study(name, scale="cpu").declaration()) == []


def test_the_name_of_a_data_set_changes_no_number():
    recipe = get_recipe("paper/dit-256")
    assert fingerprint(replace_at(recipe, "data.dataset", "")) == fingerprint(recipe)
