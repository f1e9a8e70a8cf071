# SPDX-License-Identifier: Apache-2.0
"""Labels for a model of an earlier version, which kept no class names."""

import pytest
from noise_images import write_noise

from pippin.data.config import ImagesConfig
from pippin.data.sources.images import ImageFolderSource
from pippin.recipes.table import get_recipe
from pippin.runs.training_record import refuse_reordered_classes


def source(folder, labels):
    for number in range(12):
        write_noise(folder / f"{number}.png", number, (36, 36))
    rows = [f"{number}.png,{labels[number % len(labels)]}" for number in range(12)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    return ImageFolderSource(ImagesConfig(path=str(folder), held_out_share=0.25), "train")


def test_images_whose_class_ids_have_moved_are_refused(tmp_path):
    recipe = get_recipe("folder/mmdit-disentangled")
    moved = source(tmp_path / "moved", ["0.0", "10.0", "2.0"])
    with pytest.raises(ValueError, match=r"runs/a .*10\.0, 2\.0.*2, 10.*class ids"):
        refuse_reordered_classes(moved, recipe, "runs/a")
    refuse_reordered_classes(source(tmp_path / "same", ["a", "b"]), recipe, "runs/a")


def test_a_model_that_reads_no_classes_may_see_them(tmp_path):
    recipe = get_recipe("folder/mmdit-unconditional")
    refuse_reordered_classes(source(tmp_path / "moved", ["0.0", "10.0", "2.0"]), recipe, "runs/a")
