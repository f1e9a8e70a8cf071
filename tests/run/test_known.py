# SPDX-License-Identifier: Apache-2.0
"""What a model of an earlier version, which kept no class names, may be shown."""

from types import SimpleNamespace

import pytest

from pippin.recipes.table import get_recipe
from pippin.run.known import refuse_reordered

NOW, EARLIER = ("0", "1", "2", "10"), ("0.0", "1.0", "10.0", "2.0")


def source(earlier):
    return SimpleNamespace(class_names=NOW, earlier_class_names=earlier)


def test_images_whose_class_ids_have_moved_are_refused():
    recipe = get_recipe("folder/mmdit-disentangled")
    with pytest.raises(ValueError, match=r"runs/a .*10\.0, 2\.0.*2, 10.*class ids"):
        refuse_reordered(source(EARLIER), recipe, "runs/a")
    refuse_reordered(source(None), recipe, "runs/a")


def test_a_model_that_reads_no_classes_may_see_them():
    recipe = get_recipe("folder/mmdit-unconditional")
    refuse_reordered(source(EARLIER), recipe, "runs/a")
