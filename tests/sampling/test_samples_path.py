# SPDX-License-Identifier: Apache-2.0
"""Samples of other settings, without --out: a folder of their own, and the same one again."""

import re

import pytest
import torch

from pippin.sampling.sample_folder import SampleFolder, SampleRow, free_samples_path, read_manifest

FIRST = {"sampling.solver": "euler", "sampling.steps": 8}
OTHER = {"sampling.solver": "dpm++", "sampling.steps": 16, "model.sha256": "ab"}
ROW = SampleRow(seed=0, prompt=0, class_name="circle")


def sample_into(folder, protocol):
    """One image of a protocol."""
    samples = SampleFolder(folder, protocol)
    samples.begin([ROW])
    samples.add(ROW, torch.zeros(3, 8, 8, dtype=torch.uint8))
    samples.finish([ROW])


@pytest.fixture
def samples(tmp_path):
    sample_into(tmp_path / "samples", FIRST)
    return tmp_path / "samples"


def test_a_new_folder_and_one_of_the_same_protocol_are_used(samples, tmp_path):
    assert free_samples_path(tmp_path / "none", FIRST) == tmp_path / "none"
    assert free_samples_path(samples, FIRST) == samples


def test_another_protocol_gets_a_folder_of_its_name(samples):
    before = {path.name: path.read_bytes() for path in samples.iterdir()}
    other = free_samples_path(samples, OTHER)
    assert re.fullmatch(r"samples-dpm\+\+-16-[0-9a-f]{8}", other.name)
    assert other.parent == samples.parent
    sample_into(other, OTHER)
    assert free_samples_path(samples, OTHER) == other  # and again
    assert read_manifest(other).protocol == OTHER
    assert {path.name: path.read_bytes() for path in samples.iterdir()} == before


def test_protocols_that_differ_elsewhere_do_not_share_it(samples):
    third = OTHER | {"model.sha256": "cd"}
    assert free_samples_path(samples, third) != free_samples_path(samples, OTHER)


def test_a_damaged_manifest_is_not_passed_over(samples):
    (samples / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        free_samples_path(samples, OTHER)
