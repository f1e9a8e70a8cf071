# SPDX-License-Identifier: Apache-2.0
"""Metrics: names, parameters, words, and the registry."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from metric_names import parsed_names

from pippin.config import ConfigError
from pippin.evaluation.distances import metric_of_features
from pippin.evaluation.image_metric import ImageMetric
from pippin.evaluation.metric import OTHER, MetricKind
from pippin.evaluation.metric_parameters import CurvePosition, Number, Parameter
from pippin.evaluation.metric_registry import declare_metric, find_metric, metric_kinds, near_names
from pippin.evaluation.metrics.declared.best_setting import AT_BEST_SCALE, SEARCH_AT_REQUEST
from pippin.evaluation.metrics.declared.captions import CLIP_SCORE
from pippin.evaluation.metrics.declared.distances import FD, FID, KID, SFD, SFID
from pippin.evaluation.metrics.declared.distances import INCEPTION_LIKE_SCORE as IS_LIKE
from pippin.evaluation.metrics.declared.distances import INCEPTION_SCORE as IS
from pippin.evaluation.metrics.declared.drift import DRIFT, EFFECT, LPIPS
from pippin.evaluation.metrics.declared.scene import ACCURACY
from pippin.evaluation.metrics.declared.zero_shot import ZERO_SHOT
from pippin.reports.tables.paper_numbers import FIGURES

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "pippin"


def kept_rows() -> list[dict]:
    """One measure for each name, unit and direction in the kept results."""
    rows = {}
    for path in sorted(ROOT.glob("results/*/results.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(text)
            if row["kind"] == "measure":
                rows[row["metric"], row["unit"], row["better"]] = row
    return list(rows.values())


def test_every_kept_name_has_a_metric_with_its_name_words_unit_and_direction():
    rows = kept_rows()
    assert len(rows) > 150
    for row in rows:
        metric = find_metric(row["metric"])
        assert metric.kind is not OTHER and metric.name == row["metric"]
        assert metric.label and metric.description
        assert metric.unit == row["unit"], metric
        assert metric.target or metric.better == row["better"], metric


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (KID(features="efflite0"), "KID-efflite0"),
        (FD(features="inception-ab12cd34"), "FD-inception-ab12cd34"),
        (DRIFT(control="grain"), "drift grain"),
        (DRIFT(control="grain", position=CurvePosition("beta", 0.5)), "drift grain at beta 0.5"),
        (EFFECT(control="flip", position=CurvePosition("size", 24)), "effect flip at 24"),
        (LPIPS(of=DRIFT(control="flip")), "LPIPS drift flip"),
        (AT_BEST_SCALE(of=FID()), "FID at best scale"),
        (
            SEARCH_AT_REQUEST(of=FD(features="efflite0"), request=32, at=1.5),
            "search FD-efflite0 at request 32 scale 1.5",
        ),
        (ACCURACY(attribute="all", shuffled="shuffled"), "accuracy all shuffled"),
        (ACCURACY(attribute="size", captions="long"), "accuracy size long"),
        (ZERO_SHOT(of=CLIP_SCORE(shuffled="shuffled")), "zero-shot CLIP score shuffled"),
    ],
)
def test_a_name_and_its_metric_are_inverse(metric, name):
    assert str(metric) == metric.name == name
    assert find_metric(name) == metric and hash(find_metric(name)) == hash(metric)


def test_every_example_belongs_to_one_kind_and_has_words():
    examples = [metric for kind in metric_kinds() for metric in kind.examples()]
    assert len({metric.name for metric in examples}) == len(examples) > 150
    assert {metric.kind for metric in examples} == {*metric_kinds()}
    for metric in examples:
        owners = [kind for kind in metric_kinds() if kind.match(metric.name)]
        assert owners == [metric.kind], metric
        assert metric.label and metric.description
        assert metric.better in ("lower", "higher", "neither")
        assert "{" not in metric.label + metric.description + metric.unit
        assert not re.search(
            r"\b[Tt]he same (error|features|over)", metric.description
        )  # as what?


def test_parameters_are_typed():
    point = find_metric("effect original_size at beta 2")
    assert (point.kind, point.control, point.at) == (EFFECT, "original_size", 2.0)
    assert point.position == CurvePosition("beta", 2.0)
    assert point.target and point.better == "neither" and point.unit == "nat"
    inner = find_metric("KID-dinov2 at best scale")
    assert inner.of == KID(features="dinov2") and inner.features == "dinov2"
    assert inner.in_features("inception").name == "KID-inception at best scale"
    assert find_metric("coverage").in_features("inception").name == "coverage"
    assert find_metric("FD-efflite0").in_features("dinov2").name == "FD-dinov2"
    assert find_metric("FID").features == "inception"


@pytest.mark.parametrize(
    "name",
    ["smell", "drift", "eps-error at log-SNR 1.2.3", "eps-error at log-SNR 2.0", "KID- subsets",
     "accuracy al", "search coverage at scale 2", "density at best scale", "", "a\nb", "{x}"],
)  # fmt: skip
def test_any_other_name_is_kept_and_shown(name):
    metric = find_metric(name)
    assert metric.kind is OTHER and metric.name == metric.label == name
    assert metric.leads and metric.group == "other" and metric.description == ""


@pytest.mark.parametrize(("any_features", "official"), [(FD, FID), (SFD, SFID), (IS_LIKE, IS)])
def test_published_inception_features_have_an_official_name(any_features, official):
    """A run with the published weights never writes ``FD-inception``."""
    assert any_features(features="efflite0").in_features("inception") == official()
    in_best = ZERO_SHOT(of=any_features(features="efflite0")).in_features("inception")
    assert in_best.name == f"zero-shot {official.name}"
    assert metric_of_features(any_features, "inception") == official()
    other = any_features.name.format(features="inception-ab12cd34")
    assert metric_of_features(any_features, "inception-ab12cd34").name == other
    assert find_metric(other).kind is any_features
    assert find_metric(any_features.name.format(features="inception")).kind is OTHER


def test_missing_and_wrong_parameters_are_refused():
    with pytest.raises(TypeError, match=r"needs \['control'\]; got \[\]"):
        DRIFT()
    with pytest.raises(TypeError, match=r"'FID' takes \[\]"):
        FID(features="efflite0")


LEVEL = {"level": Number(examples=(1.0,))}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"name": "glow {level}"}, r'\{level\} of its name has no parameter; .*s=\{"level"'),
        ({"name": "{control} or {control}"}, "each placeholder stands once; got '{control} or"),
        ({"name": ""}, "each placeholder stands once; got ''"),
        ({"name": "glow {}"}, "must be a plain name such as {control}; got 'glow {}'"),
        ({"name": "glow {level:g}", "parameters": LEVEL}, "plain name .*; got 'glow {level:g}'"),
        ({"name": "glow {"}, "braces of its name are unbalanced .*: 'glow {'"),
        ({"name": "glow", "label": "glow {at}"}, r"\{at\} of its label is not one .* has: none"),
        ({"name": "glow {at}", "description": "{level}"}, r"its description .*, which has: at;"),
    ],
)  # fmt: skip
def test_placeholders_without_parameter_are_refused_when_declared(declared, message):
    with pytest.raises(ConfigError, match=message):
        MetricKind(**{"description": "Glow.", "better": "lower"} | declared)


def test_the_metric_of_a_function_takes_no_placeholder():
    glow = {"description": "Glow.", "better": "lower", "values": lambda images: images}
    with pytest.raises(ConfigError, match="takes no placeholder; got: at; declare an ImageMetric"):
        ImageMetric(name="glow {at}", **glow)
    assert ImageMetric(name="glow 1", **glow)().name == "glow 1"


def test_near_names_are_longer_or_similar_ones():
    assert near_names("KID")[0].startswith("KID-")
    assert near_names("FIDD")[0] == "FID"
    assert near_names("zzzzzz") == []


def test_a_name_of_another_metric_is_refused():
    taken = MetricKind(name="drift {thing}", description="", better="lower",
                       parameters={"thing": DRIFT.placeholders["control"]})  # fmt: skip
    with pytest.raises(ConfigError, match="is the name of a metric already"):
        declare_metric(taken)
    with pytest.raises(ConfigError, match="'coverage' is the name of a metric already"):
        declare_metric(MetricKind(name="coverage", description="mine", better="lower"))
    assert find_metric("drift grain").kind is DRIFT


@pytest.mark.parametrize("name", ["FI{thing}", "drift {thing}"])
def test_a_kind_without_examples_takes_no_name_of_another(name):
    kind = MetricKind(name=name, description="", better="lower", parameters={"thing": Parameter()})
    with pytest.raises(ConfigError, match="is the name of a metric already"):
        declare_metric(kind)
    assert find_metric("drift grain").kind is DRIFT


def test_a_later_declaration_of_one_name_replaces_the_first():
    kinds = [MetricKind(name="glow", description=text, better="lower") for text in "ab"]
    for kind in kinds:
        declare_metric(kind)
    assert find_metric("glow").description == "b"
    assert sum(kind.name == "glow" for kind in metric_kinds()) == 1


def test_declarations_import_no_torch():
    """Reports read them on machines that only have results."""
    code = (
        "import sys; from pippin.evaluation.metric_registry import find_metric; "
        "assert find_metric('sharpness').description; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_published_figures_name_declared_metrics():
    assert {find_metric(figure.metric).kind for figure in FIGURES} == {FID, CLIP_SCORE}


READERS = [
    path
    for folder in ("evaluation", "reports", "runs", "sampling", "studies")
    for path in sorted((SOURCE / folder).rglob("*.py"))
]


def test_no_module_takes_a_name_apart():
    """As far as the search sees: see :func:`metric_names.parsed_names` for its limits."""
    assert len(READERS) > 120
    found = {path.name: parsed_names(path.read_text(encoding="utf-8")) for path in READERS}
    assert found == {path.name: [] for path in READERS}


def test_the_search_finds_names_under_any_variable():
    code = """
def f(entry: Measure):
    text = other = entry.name
    if text.startswith("KID"):
        return [short[:3] for short in study.companions]
    for word in contrast.metrics:
        re.search("a", word)
    return "drift" in line.metric.name or str(row.metric).partition(" ")


def g(text):
    return text.split() + line.metric.label.split() + [entry.name for entry in names]
"""
    assert parsed_names(code) == [
        "'drift' in line.metric.name",
        "re.search('a', word)",
        "short[:3]",
        "str(row.metric).partition(' ')",
        "text.startswith('KID')",
    ]


def test_only_the_declarations_use_regular_expressions():
    """All others of these folders read something else than names of metrics."""
    regular = {
        path.relative_to(SOURCE).as_posix()
        for path in READERS
        if "import re\n" in path.read_text(encoding="utf-8")
    }
    assert regular == {
        "evaluation/metric.py",
        "reports/figures/gallery.py",  # rows of drift strips
        "reports/page.py",  # HTML
        "reports/repetition.py",  # words of commands
        "reports/tables/contrast_table.py",  # code in backticks
        "reports/tables/latex.py",  # characters of LaTeX
        "runs/checkpoint_folders.py",  # numbers of folders
        "runs/data/missing_captions.py",  # names of columns
        "runs/exports.py",  # hashes
        "runs/folder.py",  # image files
        "runs/hub_source.py",  # names of repositories
        "runs/storage/average_snapshots.py",  # image counts of files
        "sampling/config.py",  # sizes of images
        "sampling/sample_folder.py",  # image files
        "studies/fairness.py",  # names of arms
    }
