# SPDX-License-Identifier: Apache-2.0
"""An export that was killed, or found no room, goes on; files of others stay."""

import errno
import os
import shutil

import pytest
import torch

from pippin.cli.main import main
from pippin.runs.exports import NOTE, check_export_folder, writing_export
from pippin.runs.trained import export, load_trained_weights
from pippin.system import files
from pippin.system.formats import write_versioned_json
from pippin.system.lock import FolderBusyError

FACTS = {"weights": "ema", "images_seen": 64, "lineage": ()}


class KilledError(BaseException):
    """Stands for SIGKILL: nothing is cleared up."""


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(finished_run):
    return load_trained_weights(str(finished_run))


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "model"
    export(trained, folder)
    return folder


def killed_at(number):
    """``os.replace`` that is killed as the file of this number is to get its name."""
    done, real = [], os.replace

    def replace(source, target):
        done.append(target)
        if len(done) == number:
            shutil.copy(source, f"{source}.kept")  # what clearing up is about to remove
            raise KilledError
        real(source, target)

    return replace


def put_back(folder):
    for path in folder.rglob("*.kept"):
        path.rename(str(path).removesuffix(".kept"))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_export_that_was_killed_goes_on(finished_run, whole, tmp_path, monkeypatch, number):
    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(files.os, "replace", killed_at(number))
        main(["export", str(finished_run), str(out)])
    put_back(out)
    assert any(name.endswith(".writing") for name in names(out))
    assert main(["export", str(finished_run), str(out)]) == 0
    assert names(out) == names(whole)
    found, wanted = load_trained_weights(str(out)), load_trained_weights(str(whole))
    assert found.sha256 == wanted.sha256 and found.recipe == wanted.recipe


def test_so_does_one_that_found_no_room_for_its_last_file(
    finished_run, whole, tmp_path, monkeypatch, capsys
):
    def full(path, *content):
        if path.name == "config.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_versioned_json(path, *content)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("pippin.config.write_versioned_json", full)
        assert main(["export", str(finished_run), str(out)]) == 1
    assert "config.json: No space left on device; free some space" in capsys.readouterr().err
    assert (out / "model.safetensors").exists()
    assert main(["export", str(finished_run), str(out)]) == 0
    assert names(out) == names(whole)


def test_what_earlier_versions_left_without_a_note_is_known(trained, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "out")
    (out / "config.json").unlink()
    (out / ".model.safetensors.4242.writing").write_bytes(b"half")
    export(trained, out)
    assert names(out) == names(whole)


def test_a_folder_with_nothing_but_half_a_file_is_empty(trained, whole, tmp_path):
    (tmp_path / ".model.safetensors.4242.writing").write_bytes(b"half")
    export(trained, tmp_path)
    assert names(tmp_path) == names(whole)


@pytest.mark.parametrize(
    "name", ["notes.txt", ".hidden", "model.safetensors", ".writing", ".a.b.writing", NOTE]
)
def test_other_files_are_refused_and_stay(trained, tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not empty; choose another folder"):
        export(trained, tmp_path)
    assert names(tmp_path) == {name} and (tmp_path / name).read_bytes() == b"mine"


def test_a_file_that_was_added_to_an_unfinished_export_stays(trained, whole, tmp_path):
    with pytest.raises(KilledError), writing_export(tmp_path, FACTS):
        raise KilledError
    (tmp_path / "notes.txt").write_text("mine")
    export(trained, tmp_path)
    assert names(tmp_path) == names(whole) | {"notes.txt"}


def test_what_is_left_of_other_weights_is_refused(trained, whole, tmp_path):
    with pytest.raises(KilledError), writing_export(tmp_path, {**FACTS, "images_seen": 32}):
        raise KilledError
    with pytest.raises(ValueError, match=r"unfinished export of other weights: remove it"):
        export(trained, tmp_path)
    left = shutil.copytree(whole, tmp_path / "left")
    (left / "config.json").unlink()
    with (
        pytest.raises(ValueError, match="of other weights"),
        writing_export(left, {**FACTS, "weights": "raw"}),
    ):
        raise AssertionError


def test_a_link_for_a_note_is_not_followed(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "mine").write_text("{}")
    (out / NOTE).symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match="is not empty"):
        check_export_folder(out)
    assert (tmp_path / "mine").read_text() == "{}"


def test_other_formats_go_on_too(tmp_path, monkeypatch):
    """To diffusers, and from it."""
    import diffusers

    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}
    diffusers.DiTTransformer2DModel(
        **sizes, sample_size=16, num_embeds_ada_norm=3
    ).save_pretrained(tmp_path / "theirs")
    converted = ["convert", str(tmp_path / "theirs"), str(tmp_path / "ours")]
    converted += ["--from", "diffusers", "--autoencoder", "pippin/openmoji-f4"]
    back = ["export", str(tmp_path / "ours"), str(tmp_path / "back"), "--to", "diffusers"]
    for command, last in ((converted, 3), (back, 4)):
        for number in (last, 2):  # the note is the first file
            with monkeypatch.context() as patch, pytest.raises(KilledError):
                patch.setattr(files.os, "replace", killed_at(number))
                main(command)
            put_back(tmp_path)
        assert main(command) == 0
        assert not [name for name in names(tmp_path) if "writing" in name or NOTE in name]
    assert main(back) == 2


@pytest.mark.parametrize("facts", [{"weights": "ema"}, {"weights": "raw"}])
def test_two_exports_into_one_folder_are_not_mixed(facts, tmp_path):
    out = tmp_path / "out"
    with writing_export(out, {"weights": "ema"}):
        staged = out / f".model.safetensors.{os.getpid()}.writing"
        staged.write_bytes(b"half")
        with pytest.raises(FolderBusyError), writing_export(out, facts):
            raise AssertionError("two write")
        assert staged.exists()
        staged.rename(out / "model.safetensors")
    with pytest.raises(ValueError, match="is not empty"), writing_export(out, facts):
        raise AssertionError("it writes over")
    assert names(out) == {"model.safetensors"}
