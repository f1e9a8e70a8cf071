# SPDX-License-Identifier: Apache-2.0
"""Paths of recipes, as they lead from other folders."""

from dataclasses import replace

import pytest

from pippin.config import ConfigError
from pippin.data.config import ImagesConfig
from pippin.encoders.config import AutoencoderConfig, TextConfig
from pippin.runs.folder import (
    locate,
    path_settings,
    resolved_paths,
    unchanged_paths,
    with_data_path,
)
from pippin.training.config import InitConfig


@pytest.fixture
def own(recipe):
    return replace(
        recipe,
        data=ImagesConfig(path="photos", index_folder="caches"),
        autoencoder=AutoencoderConfig(source="runs/ae"),
        text=TextConfig(source=("pippin/minilm", "encoders/clip", "some/hub-name")),
        init=InitConfig(run="models/start"),
    )


def test_all_paths_are_found_and_names_of_the_package_are_none(own):
    assert {"data.path", "autoencoder.source", "init.run", "cache.folder"} <= set(
        path_settings(own)
    )
    assert path_settings(own)["text.source.1"] == "encoders/clip"
    assert "text.source.0" not in path_settings(own)
    shipped = replace(
        own,
        autoencoder=AutoencoderConfig(source="pippin/openmoji-f4"),
        init=InitConfig(run="@start"),
    )
    assert not {"autoencoder.source", "init.run"} & set(path_settings(shipped))


def test_relative_paths_lead_where_they_did_from_any_folder(own, tmp_path, monkeypatch):
    for name in ("photos", "runs/ae", "encoders/clip", "caches", "models/start"):
        (tmp_path / "project" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    places = resolved_paths(own)
    assert "text.source.2" not in places  # a name of the hub
    monkeypatch.chdir(tmp_path)
    found = locate(own, places)
    project = tmp_path / "project"
    assert found.data.path == str(project / "photos")
    assert found.data.index_folder == str(project / "caches")
    assert found.autoencoder.source == str(project / "runs/ae")
    assert found.text.source == ("pippin/minilm", str(project / "encoders/clip"), "some/hub-name")
    assert found.init.run == str(project / "models/start")
    assert locate(own) == own


def test_places_that_are_gone_leave_what_was_given(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    gone, there = {"data.path": "/nowhere/photos"}, {"data.path": str(tmp_path / "here")}
    assert locate(own, gone).data.path == "photos"
    assert locate(own, gone, there).data.path == str(tmp_path / "here")


def test_a_folder_that_cannot_be_written_to_is_no_cache(own, tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr("pippin.runs.folder.os.access", lambda *_: False)
    assert locate(own, {"cache.folder": str(tmp_path / "theirs")}) == own


def test_a_setting_that_was_given_anew_has_no_recorded_place(own):
    other = replace(own, data=replace(own.data, path="elsewhere"))
    places = {"data.path": "/a/photos", "init.run": "/a/start"}
    assert unchanged_paths(other, own, places) == {"init.run": "/a/start"}


def test_only_images_of_a_folder_can_lie_elsewhere(own, recipe):
    assert with_data_path(own, "moved").data.path == "moved"
    assert with_data_path(recipe, None) == recipe
    with pytest.raises(ConfigError, match=r"--data\.path moved has no effect.*openmoji"):
        with_data_path(recipe, "moved")
