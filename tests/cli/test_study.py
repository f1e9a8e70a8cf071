# SPDX-License-Identifier: Apache-2.0
"""`pippin report` and `pippin study`."""

import pytest

from pippin.cli import report
from pippin.cli import study as study_verb
from pippin.config import ConfigError
from pippin.studies.runner import Summary
from pippin.studies.shipped.table import STUDIES, get_study


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
    with pytest.raises(ConfigError, match="no study 'contrl'; near it are control,"):
        get_study("contrl")


def test_a_folder_without_images_is_refused_before_the_first_run(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "splits" / "train").mkdir(parents=True)
    (tmp_path / "splits" / "train" / "a.png").touch()
    for place, message in (
        ("nowhere", "nowhere is not there"),
        ("empty", "hold no image"),
        ("splits", r"names of splits .*--data\.path .*/splits/train"),
    ):
        given = ["--scale", "paper", "--data-path", str(tmp_path / place)]
        with pytest.raises(ValueError, match=message):
            study_verb.main(["run", "control", "--folder", str(tmp_path / "study"), *given])
    assert not (tmp_path / "study").exists()


def test_a_folder_for_embedded_images_is_refused_with_a_way():
    with pytest.raises(ConfigError, match=r"remove --data-path photos; .*--scale paper"):
        study_verb.main(["run", "control", "--data-path", "photos"])


@pytest.mark.parametrize(
    ("given", "wanted", "said"),
    [
        (["0:5"], (0, 1, 2, 3, 4), ""),
        (["3", "0:2", "1"], (3, 0, 1), ""),
        (["5"], (5,), "one training seed (5): no verdict; --seeds 0 1 2 3 4, or 0:5, for five"),
        ([], (), ""),
    ],
)
def test_seeds_are_numbers_and_ranges(given, wanted, said, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(study_verb, "run", lambda *given, **_: seen.append(given[2]) or 0)
    assert study_verb.main(["run", "control", *(["--seeds", *given] if given else [])]) == 0
    assert seen == [wanted]
    assert capsys.readouterr().err.strip() == said


def test_seeds_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"must look like .*; got 'five'"):
        study_verb.main(["run", "control", "--seeds", "five"])


def test_a_study_is_fitted_to_the_machine_by_options(monkeypatch, tmp_path, capsys):
    seen = []

    def ran(study, *rest):
        seen.append(study)
        return Summary(statuses={}, interrupted=False)

    monkeypatch.setattr("pippin.studies.runner.run_study", ran)
    monkeypatch.setattr("pippin.reports.report.render_report", lambda folder: folder)
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
