# SPDX-License-Identifier: Apache-2.0
"""Starts that are refused before anything is spent: no cache, no folder, one message."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from noise_images import write_noise

from pippin.cli.main import main
from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError, replace_at
from pippin.data.cache.shard_claims import LOCK
from pippin.data.config import CacheConfig, ImagesConfig
from pippin.data.importing.config import ShardsConfig
from pippin.encoders.config import TextConfig
from pippin.preflight import checks, start
from pippin.preflight.checks import CHECKS, check_before_start
from pippin.preflight.resolved import resolved_plan
from pippin.preflight.start import Gpu, Start
from pippin.runs.folder import RunFolder

RULE = TextSemantic(token_features=384, num_tokens=8)


@pytest.fixture
def photos(recipe, tmp_path):
    """A recipe on a folder of images, whose caches would go below the same folder."""
    for number in range(8):
        write_noise(tmp_path / "photos" / f"{number}.png", number, (20, 20))
    places = tmp_path / "caches"
    data = ImagesConfig(
        path=str(tmp_path / "photos"), resolution=32, views=1, index_folder=str(places)
    )
    text = TextConfig(folder=str(places))
    return replace(recipe, data=data, text=text, cache=CacheConfig(folder=str(places)))


def of_text(recipe):
    conditioning = replace(recipe.conditioning, semantic=RULE, rules={"text": "attention"})
    return replace(recipe, conditioning=conditioning)


def captioned(folder, head="file_name,caption"):
    rows = "".join(f"{number}.png,owl {number}\n" for number in range(8))
    (folder / "photos" / "metadata.csv").write_text(f"{head}\n{rows}")


def begin(recipe, folder, **options):
    check_before_start(Start(recipe, recipe, RunFolder(folder / "run"), **options))


SETTINGS = {
    "settings": ("sampling.weights", "ema-share-0.3", r"sampling\.weights ema-share-0\.3 is no"),
    "device": ("train.device", "cuda:77", "device 'cuda:77' cannot be used .* try auto or cpu"),
    "initial weights": ("init.run", "nowhere/run", "init.run: .*nowhere/run"),
    "autoencoder": (
        "autoencoder.source",
        "pippin/none",
        "no autoencoder 'pippin/none' .*openmoji",
    ),
    "captions": ("data.path", "nowhere", "data.path must be a folder of images; nowhere is not"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_setting_is_refused_by_its_check(photos, tmp_path, monkeypatch, name):
    path, value, message = SETTINGS[name]
    wrong = replace_at(photos, path, value)
    failed = checks.failures(Start(wrong, wrong, RunFolder(tmp_path / "run")))
    assert [entry.name for entry in failed] == [name]
    with pytest.raises((ValueError, ConfigError), match=message):
        begin(wrong, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


@pytest.mark.parametrize(
    ("captions", "change", "message"),
    [
        (
            "file_name,caption",
            {"text.captions": {"nix": 1.0}},
            "captions names nix .* name, class",
        ),
        ("file_name,prompt", {}, "Rename the column 'prompt' to caption"),
        (
            "file_name,caption",
            {"conditioning.semantic.token_features": 300},
            r"token_features is 300; .* gives 384: type --conditioning\.semantic\.token-features",
        ),
        (
            "file_name,caption",
            {"conditioning.semantic.num_tokens": 600},
            "reads at most 512 tokens: type --conditioning.semantic.num-tokens 512",
        ),
        ("file_name,caption", {"text.source": ("nowhere/encoder",)}, "nowhere/encoder"),
    ],
)
def test_captions_and_text_encoders_are_compared_with_the_recipe(
    photos, tmp_path, monkeypatch, captions, change, message
):
    monkeypatch.setenv("PIPPIN_OFFLINE", "1")
    captioned(tmp_path, captions)
    wrong = of_text(photos)
    begin(wrong if captions.endswith("caption") else photos, tmp_path)
    for path, value in change.items():
        wrong = replace_at(wrong, path, value)
    with pytest.raises(ValueError, match=message):
        begin(wrong, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


def test_first_images_that_are_all_unusable_are_refused(photos, tmp_path):
    begin(photos, tmp_path)
    with pytest.raises(
        ConfigError, match=r"(?s)none of 8 images .* too small: 20 x 20 .*--data\.min"
    ):
        begin(replace_at(photos, "data.min_side", 64), tmp_path)
    for number in range(7):
        (tmp_path / "photos" / f"{number}.png").write_bytes(b"damaged")
    begin(photos, tmp_path)  # one is good: the scan of all images counts the rest
    (tmp_path / "photos" / "7.png").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"(?s)none of 8 images .*`pippin data check"):
        begin(photos, tmp_path)


def test_folders_that_cannot_be_written_are_refused(photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    inside = replace_at(photos, "cache.folder", str(tmp_path / "file" / "caches"))
    with pytest.raises(ConfigError, match=r"--cache\.folder .* is needed, and .*/file is a file"):
        begin(inside, tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=r"--folder .*/run cannot be written: no permission"):
        begin(photos, tmp_path)


def test_folders_that_need_not_be_written_may_be_read_only(photos, tmp_path, monkeypatch):
    """The index of a folder, caches that are there, and those that the recipe does not have."""
    monkeypatch.setattr("os.access", lambda path, mode: "shelf" not in str(path))
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for setting, allowed in {
        "data.index_folder": True,
        "text.folder": True,  # the recipe reads classes
        "cache.folder": False,
    }.items():
        elsewhere = replace_at(photos, setting, str(shelf))
        if allowed:
            begin(elsewhere, tmp_path)
            continue
        with pytest.raises(ConfigError, match=r"--cache\.folder .*shelf cannot be written"):
            begin(elsewhere, tmp_path)
        begin(replace_at(elsewhere, "cache.enabled", False), tmp_path)
        cache = shelf / ("0" * 16)
        cache.mkdir()
        (cache / LOCK).write_text("")
        begin(elsewhere, tmp_path)
    captioned(tmp_path)
    with pytest.raises(ConfigError, match=r"--text\.folder .*shelf cannot be written"):
        begin(replace_at(of_text(photos), "text.folder", str(shelf)), tmp_path)


def unread(photos, folder, source):
    """A cache build from shards, of which nothing is known."""
    recipe = replace_at(of_text(photos), "data.path", str(folder))
    return Start(recipe, recipe, None, shards=ShardsConfig(source=str(source)))


def test_shards_are_looked_for_and_their_images_are_not(photos, tmp_path, monkeypatch):
    shard = tmp_path / "0.tar"
    shard.write_bytes(b"")
    before = {path.name for path in tmp_path.iterdir()}
    new = unread(photos, tmp_path / "own", shard)
    text = "\n".join(resolved_plan(new))
    assert f"those of the shards of {shard}, unread yet" in text
    assert str(tmp_path / "own") in text and "disk" not in text.replace("memory, disk", "")
    with pytest.raises(ConfigError, match="there is no such file or folder"):
        check_before_start(unread(photos, tmp_path / "own", tmp_path / "1.tar"))
    with pytest.raises(ConfigError, match=r"photos is not empty: give a new folder as --data\.p"):
        check_before_start(unread(photos, tmp_path / "photos", shard))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=r"--data\.path .*/own cannot be written"):
        check_before_start(unread(photos, tmp_path / "own", shard))
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_folder_of_another_run_is_refused(recipe, finished_run):
    other = replace_at(recipe, "train.learning_rate", 0.5)
    with pytest.raises(ValueError, match="already holds a run; resume it"):
        check_before_start(Start(recipe, recipe, RunFolder(finished_run)))
    with pytest.raises(ValueError, match="was started with other settings"):
        check_before_start(Start(other, other, RunFolder(finished_run), resume=True))
    check_before_start(Start(recipe, recipe, RunFolder(finished_run), resume=True))


def test_a_disk_that_is_too_small_is_refused_unless_the_caches_are_there(
    recipe, finished_run, tmp_path, monkeypatch
):
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(start.shutil, "disk_usage", lambda folder: free._replace(free=20_000))
    with pytest.raises(ConfigError) as refused:
        begin(recipe, tmp_path)
    text = str(refused.value)
    for part in ("0.02 MB free", "24 images in 2 views", "3 checkpoints of", "--data.views 1"):
        assert part in text
    begin(recipe, tmp_path, ignore_plan=True)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(start.shutil, "disk_usage", lambda folder: free._replace(free=1))
    check_before_start(Start(recipe, recipe, None))  # the caches of the finished run are there
    new = replace_at(recipe, "cache.folder", str(tmp_path / "caches"))
    with pytest.raises(ConfigError, match="24 images in 2 views"):
        check_before_start(Start(new, new, None))
    for path, value in (("cache.dtype", "float16"), ("data.seed", 9)):  # the caches are of others
        other = replace_at(recipe, path, value)
        with pytest.raises(ConfigError, match="24 images in 2 views"):
            check_before_start(Start(other, other, None))


def test_memory_beyond_that_of_the_gpu_is_refused_with_options_that_fit(
    recipe, tmp_path, monkeypatch
):
    small = replace(recipe, train=replace(recipe.train, batch_size=4096))
    enough = Start(small, small, RunFolder(tmp_path / "run"))
    gpu = Gpu(name="Tesla T4", memory=enough.memory // 4)
    monkeypatch.setattr(Start, "gpu", gpu)
    with pytest.raises(
        ConfigError, match=r"(?s)Tesla T4 has .* --train\.micro-batch-size"
    ) as refused:
        begin(small, tmp_path)
    line = next(x for x in str(refused.value).splitlines() if x.startswith("  --train.micro"))
    micro = int(line.split()[1])
    fits = replace(small, train=replace(small.train, micro_batch_size=micro))
    begin(fits, tmp_path)
    for allowed in ({"ignore_plan": True}, {"elsewhere": True}):
        begin(small, tmp_path, **allowed)
    assert not list(tmp_path.iterdir())


def test_several_failures_are_one_message(photos, tmp_path):
    wrong = replace_at(photos, "autoencoder.source", "pippin/none")
    wrong = replace_at(wrong, "sampling.weights", "ema-share-0.3")
    wrong = replace_at(wrong, "evaluation.size_curve", (64,))
    with pytest.raises(ConfigError) as refused:
        begin(wrong, tmp_path)
    head, *lines = str(refused.value).splitlines()
    assert head == "3 checks failed; nothing was written:"
    assert [line.split(":")[0] for line in lines] == [
        "1. settings",
        "2. settings",
        "3. autoencoder",
    ]


def test_checks_name_earlier_ones_only():
    for place, check in enumerate(CHECKS):
        assert set(check.needs) <= {other.name for other in CHECKS[:place]}


def saved(recipe, folder):
    folder.mkdir(exist_ok=True)
    recipe.save(folder / "mine.json")
    return ["--config", str(folder / "mine.json")]


def test_verbs_refuse_before_anything_is_begun(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = saved(replace_at(photos, "autoencoder.source", "pippin/none"), tmp_path / "given")
    for verb in (["train"], ["data", "prepare"]):
        for more in ([], ["--dry-run"]):
            assert main([*verb, *given, *more]) == 2
            assert "no autoencoder 'pippin/none' is shipped" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "given"}


def test_a_dry_run_prints_the_plan_and_writes_nothing(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fresh = replace(recipe, cache=CacheConfig(folder=str(tmp_path / "caches")))
    given = saved(fresh, tmp_path / "given")
    assert main(["train", *given, "--folder", "run", "--dry-run"]) == 0
    text = capsys.readouterr().out
    for part in ("4 of 16 images (64", "1 rank on CPU", "24 images in 2 views", "run (starts)"):
        assert part in text
    assert main(["data", "prepare", *given, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "24 images in 2 views" in text and "checkpoints" not in text
    assert {path.name for path in tmp_path.iterdir()} == {"given"}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 2.00 GiB\nmore"),
    ],
)
def test_exhausted_memory_ends_with_settings_that_take_less(
    recipe, tmp_path, capsys, monkeypatch, error
):
    def exhausted(*given, before, **options):
        before(given[0], given[0])
        raise error

    monkeypatch.setattr("pippin.training.train.train", exhausted)
    given = saved(recipe, tmp_path / "given")
    run = tmp_path / "run"
    assert main(["train", *given, "--folder", str(run)]) == 1
    text = capsys.readouterr().err
    assert f"not enough memory ({str(error).splitlines()[0]}); the plan" in text
    assert "--train.micro-batch-size" in text and "--train.gradient-checkpointing 1" in text
    assert f"--folder {run} --resume auto" in text


def test_a_finished_run_keeps_what_it_took_beside_its_plan(recipe, tmp_path, capsys):
    short = replace(recipe, cache=CacheConfig(folder=str(tmp_path / "caches")))
    given = saved(short, tmp_path / "given")
    run = tmp_path / "run"
    assert main(["train", *given, "--folder", str(run)]) == 0
    said = capsys.readouterr().out
    kept = json.loads((run / "plan.json").read_text())
    checkpoints, caches = kept["checkpoints"], kept["caches"]
    assert checkpoints["measured"] == pytest.approx(checkpoints["planned"], rel=0.2)
    assert caches["measured"] == pytest.approx(caches["planned"], rel=0.2)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    seconds = sum(16 / line["images_per_second"] for line in log if "images_per_second" in line)
    assert kept["hours"] == {"planned": None, "measured": pytest.approx(seconds / 3600)}
    assert kept["memory"]["planned"] is None and kept["memory"]["measured"] > 1e8
    assert "caches: planned " in said and "hours: planned unknown, measured " in said
    before = (run / "plan.json").read_bytes()
    assert main(["train", *given, "--folder", str(run), "--resume"]) == 0
    assert (run / "plan.json").read_bytes() == before
    assert main(["report", str(run)]) == 0
    page = Path(run / "report.html").read_text()
    assert "checkpoints" in page and "planned" in page
