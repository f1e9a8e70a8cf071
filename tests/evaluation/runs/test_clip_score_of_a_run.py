# SPDX-License-Identifier: Apache-2.0
"""CLIP score of a run, of a folder of samples and of a preset; the text encoder is a tiny T5."""

import json
from dataclasses import replace

import pytest
import transformers
from clip_checkpoint import WORDS, save_clip, save_tokenizer
from markupsafe import escape
from PIL import Image
from rich.console import Console

from pippin.cli.main import main
from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.data.config import NoDataConfig
from pippin.encoders.config import TextConfig
from pippin.evaluation.runs import zero_shot
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.reports.report import render_report
from pippin.sampling import sample
from pippin.sampling.load import load_run
from pippin.sampling.sample_folder import SampleFolder, read_manifest
from pippin.training.train import train


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(save_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    encoder = tmp_path_factory.mktemp("t5")
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    transformers.T5EncoderModel(config).save_pretrained(encoder)
    save_tokenizer(encoder)
    text = TextConfig(source=(str(encoder),), folder=str(tmp_path_factory.mktemp("text")))
    rule = TextSemantic(token_features=16, num_tokens=8)
    conditioning = replace(recipe.conditioning, semantic=rule, rules={"text": "attention"})
    folder = tmp_path_factory.mktemp("runs") / "text"
    recipe = replace(recipe, conditioning=conditioning, text=text)
    train(recipe, folder, console=Console(quiet=True))
    return folder


def with_clip(folder, clip):
    run = load_run(folder, console=Console(quiet=True))
    evaluation = replace(run.recipe.evaluation, clip=clip)
    recipe = replace(run.recipe, evaluation=evaluation)
    return load_run(folder, console=Console(quiet=True), recipe=recipe)


def test_the_page_of_a_text_run_shows_its_previews_with_their_captions(trained, tmp_path):
    captions = load_run(trained, console=Console(quiet=True)).components.held_out_captions.first
    names = sorted(path.name for path in (trained / "previews").iterdir())
    assert names == ["000000032.png", "000000064.png", "manifest.json"]
    rows = json.loads((trained / "previews" / "manifest.json").read_text())["images"]
    assert [row["prompt"] for row in rows] == list(captions[:36]) and len(rows) > 1
    assert [row["seed"] for row in rows] == list(range(len(rows)))
    page = render_report(trained, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<figcaption>64 images seen" in page
    assert f"<li>{escape(captions[0])} (seed 0)</li>" in page


def test_clip_score_needs_no_pooled_vector_and_draws_nothing_twice(trained, clip, monkeypatch):
    run = with_clip(trained, clip)
    assert run.components.held_out_captions.vectors() is None
    measures = evaluate_run(run, trained)
    found = {(one.name, one.subject): one for one in measures if "CLIP" in one.name}
    assert set(found) == {
        (name, subject)
        for name in ("CLIP score", "CLIP score shuffled")
        for subject in ("arm", "real")
    }
    for one in found.values():
        assert one.low <= one.value <= one.high
        assert one.n == len(run.components.held_out_source)
        assert one.protocol["clip_text_tokens"] == 12
    assert "sampling.steps" in found["CLIP score", "arm"].protocol
    files = read_manifest(trained / "evaluation" / "captions").files
    assert len(files) == len(run.components.held_out_source)
    monkeypatch.setattr("pippin.sampling.sample._draw_share", None)  # to draw would be an error
    from pippin.evaluation.runs.captions import clip_for, held_out_clip_measures

    again = held_out_clip_measures(run, clip_for(run), trained / "evaluation" / "captions")
    assert [one.value for one in again] == [one.value for one in found.values()]


def test_which_clip_is_no_setting_of_the_recipe(trained, clip):
    from pippin.config import fingerprint

    assert fingerprint(with_clip(trained, clip).recipe) == fingerprint(
        with_clip(trained, None).recipe
    )


def test_a_clip_that_cannot_work_is_refused_before_anything_is_drawn(
    trained, finished_run, clip, tmp_path
):
    with pytest.raises(ConfigError, match=r"this model reads none: leave --clip .* out"):
        evaluate_run(with_clip(finished_run, clip), tmp_path / "a")
    with pytest.raises(ValueError, match=r"has no config\.json"):
        evaluate_run(with_clip(trained, str(tmp_path)), tmp_path / "b")
    assert not (tmp_path / "b" / "evaluation" / "samples").exists()


def test_a_folder_of_prompts_has_a_score_and_other_folders_say_why_not(
    trained, clip, tmp_path, capsys
):
    out = tmp_path / "samples"
    options = ["--clip", clip, "--input-size", "32", "--kid-subset-size", "4", "--device", "cpu"]
    options += ["--data.max-pictures", "24", "--data.resolution", "32"]
    prompts = ["--prompts", "red apple", "blue car", "--seeds", "0:8", "--steps", "2"]
    assert main(["sample", str(trained), "--out", str(out), *prompts]) == 0
    assert main(["evaluate", str(out), *options]) == 0
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    (score,) = (line for line in lines if line["name"] == "CLIP score")
    assert score["n"] == 8 and score["protocol"]["measure.sampling.steps"] == 2
    (out / "manifest.json").unlink()
    capsys.readouterr()
    assert main(["evaluate", str(out), *options]) == 2
    assert "needs the caption of every image" in capsys.readouterr().err
    assert main(["evaluate", str(out), *options, "--features", "clip"]) == 0
    table = capsys.readouterr().out
    assert "CMMD-clip" in table and "FD-clip" in table and "CLIP score" not in table


def test_distances_in_features_of_clip_need_no_captions(finished_run, clip, tmp_path):
    run = with_clip(finished_run, clip)
    evaluation = replace(
        run.recipe.evaluation, features="clip", parts=("quality",), num_samples=8, neighbours=2
    )
    run = load_run(
        finished_run,
        console=Console(quiet=True),
        recipe=replace(run.recipe, evaluation=evaluation),
    )
    found = {one.name: one for one in evaluate_run(run, tmp_path)}
    assert found["CMMD-clip"].value > 0 and found["CMMD-clip"].n == 8
    assert not any(name.startswith("CLIP score") for name in found)


@pytest.fixture
def coco(tmp_path):
    """Nine images of other sizes than the model's, with captions."""
    folder = tmp_path / "coco"
    folder.mkdir()
    rows = ["file_name,caption"]
    for number in range(9):
        colour = (25 * number, 255 - 25 * number, 90)
        Image.new("RGB", (50 + number, 40), colour).save(folder / f"{number}.png")
        rows.append(f'{number}.png,"red car, {number}"')
    (folder / "metadata.csv").write_text("\n".join(rows))
    return folder


def test_the_preset_measures_on_the_captions_of_another_folder(
    trained, clip, coco, tmp_path, capsys, monkeypatch
):
    options = ["--preset", "coco-zero-shot", "--data.path", str(coco), "--clip", clip]
    options += ["--data.index-folder", str(tmp_path / "index"), "--data.resolution", "48"]
    options += ["--input-size", "32", "--sampling.steps", "2", "--sampling.batch-size", "4"]
    assert main(["evaluate", str(trained), *options]) == 0
    assert "9 of the 30000 requested" in capsys.readouterr().err
    lines = [json.loads(x) for x in (trained / "results.jsonl").read_text().splitlines()]
    found = {(x["name"], x["subject"]): x for x in lines if x["name"].startswith("zero-shot ")}
    for name in ("FD-efflite0", "KID-efflite0", "CLIP score"):
        one = found[f"zero-shot {name}", "arm"]
        assert one["n"] == 9
        assert one["protocol"]["measure.preset"] == "coco-zero-shot"
        assert one["protocol"]["measure.zero_shot.resolution"] == 48
        assert one["protocol"]["measure.sampling.steps"] == 2
    assert not any("FID" in name for name, _ in found)
    assert found["zero-shot FD-efflite0", "arm"]["protocol"]["measure.reference_samples"] == 9
    assert ("zero-shot CLIP score shuffled", "real") in found
    manifest = read_manifest(trained / "evaluation" / "coco-zero-shot")
    assert len(manifest.files) == 9 and manifest.complete
    assert {row["prompt"] for row in manifest.images} == {f"red car, {n}" for n in range(9)}
    monkeypatch.setattr("pippin.sampling.sample._draw_share", None)  # all are drawn already
    assert main(["evaluate", str(trained), *options]) == 0


def test_the_preset_needs_no_images_of_the_models_own(trained, coco, tmp_path):
    """As a converted model has none."""
    out = tmp_path / "exported"
    assert main(["export", str(trained), str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    del config["content_sha256"]
    config["data"] = NoDataConfig(resolution=32).to_dict()
    (out / "config.json").write_text(json.dumps(config))
    options = ["--preset", "coco-zero-shot", "--data.path", str(coco), "--num-samples", "8"]
    options += ["--data.index-folder", str(tmp_path / "index"), "--data.resolution", "32"]
    options += ["--input-size", "32", "--sampling.steps", "2"]
    assert main(["evaluate", str(out), *options]) == 0
    assert "zero-shot KID-efflite0" in (out / "results.jsonl").read_text()


@pytest.mark.parametrize(("from_training", "first"), [(False, 0), (True, 20_000_000)])
def test_the_presets_seeds_depend_on_the_training_seed_where_all_others_do(
    finished_run, tmp_path, monkeypatch, from_training, first
):
    run, drawn = load_run(finished_run, console=Console(quiet=True)), []
    evaluation = replace(run.recipe.evaluation, seed_from_training=from_training)
    run = replace(run, recipe=replace(run.recipe, seed=2, evaluation=evaluation))

    def draw_into(run, prompts, seeds, sampling, place, **settings):
        drawn.extend(seeds)
        return SampleFolder(place, {})

    monkeypatch.setattr(sample, "draw_into", draw_into)
    files = zero_shot._draw(run, ["a red car", "a blue car"], tmp_path / "samples")
    assert drawn == [first, first + 1]
    assert [int(file.name.split("-")[1]) for file in files] == drawn


def test_the_presets_numbers():
    from pippin.evaluation.config import PRESETS

    preset = PRESETS["coco-zero-shot"]
    assert preset.data.resolution == 256 and preset.steps == 50
    assert preset.evaluation.num_samples == 30_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "imagenet"], "unknown preset 'imagenet'; choose from: coco-zero-shot"),
        (["--preset=coco-zero-shot", "--sampling.size", "16x32"], "makes 16 x 32"),
        (["--preset=coco-zero-shot", "--neighbours", "50"], "9 images are too few"),
        (["--preset=coco-zero-shot", "--data.path", "flat"], "9 of 9 images of flat have no"),
    ],
)
def test_a_preset_that_cannot_work_is_refused(
    trained, coco, tmp_path, capsys, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in coco.glob("*.png"):
        (flat / file.name).write_bytes(file.read_bytes())
    place = [] if "--data.path" in options else ["--data.path", str(coco)]
    assert main(["evaluate", str(trained), *options, *place]) == 2
    assert message in capsys.readouterr().err


def test_a_preset_needs_a_model_of_text(finished_run, coco, capsys):
    options = ["--preset", "coco-zero-shot", "--data.path", str(coco)]
    assert main(["evaluate", str(finished_run), *options]) == 2
    assert "samples for captions, and this model reads none" in capsys.readouterr().err
