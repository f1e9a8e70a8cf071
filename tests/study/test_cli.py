# SPDX-License-Identifier: Apache-2.0
"""`pippin report` and `pippin study`."""

import pytest

from pippin.cli import report
from pippin.cli import study as study_verb
from pippin.config import ConfigError
from pippin.studies.table import STUDIES, get_study
from pippin.study.runner import Summary


def test_report(finished, capsys):
    assert report.main([str(finished)]) == 0
    assert capsys.readouterr().out.strip() == str(finished / "report.html")
    assert (finished / "report.html").is_file()


def test_report_of_two(finished, finished_once, tmp_path, capsys):
    out = tmp_path / "pages" / "two.html"
    assert report.main([str(finished), str(finished_once), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out) and out.is_file()


@pytest.mark.parametrize("count", [0, 3])
def test_report_of_another_number_is_refused(finished, count):
    with pytest.raises(ValueError, match=f"one folder, or two .*; got {count}"):
        report.main([str(finished)] * count)


def test_list_names_every_study(capsys):
    assert study_verb.main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in STUDIES)


@pytest.mark.parametrize(("argv", "code"), [([], 2), (["--help"], 0), (["go", "x"], 2)])
def test_usage(argv, code, capsys):
    assert study_verb.main(argv) == code
    assert "usage" in capsys.readouterr().out


def test_unknown_study():
    with pytest.raises(ConfigError, match="no study 'x'; there are: demo"):
        get_study("x")


def test_a_study_is_fitted_to_the_machine_by_options(monkeypatch, tmp_path, capsys):
    seen = []

    def ran(study, *rest):
        seen.append(study)
        return Summary(statuses={}, interrupted=False)

    monkeypatch.setattr("pippin.study.runner.run_study", ran)
    monkeypatch.setattr("pippin.study.report.render_report", lambda folder: folder)
    options = "--train.micro-batch-size 16 --sampling.batch-size 8 --cache.folder elsewhere"
    features = "--features.kind inception --features.weights inception.pth"
    argv = f"run resolution --scale gpu-hour --folder {tmp_path} {options} {features}"
    assert study_verb.main(argv.split()) == 0
    (study,) = seen
    for one in [*study.arms().values(), study.starts["low"]]:
        assert (one.train.micro_batch_size, one.sampling.batch_size) == (16, 8)
        assert one.cache.folder == "elsewhere"
    assert study.primary == "KID-inception"
    assert study.base.evaluation.inception == "inception.pth"
