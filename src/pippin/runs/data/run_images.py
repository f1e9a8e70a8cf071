# SPDX-License-Identifier: Apache-2.0
"""Images of a run: their sources, classes and record, also those of a trained model."""

from functools import cached_property

from rich.console import Console

from pippin.config import ConfigError
from pippin.data.config import DataConfig, ImagesConfig, NoDataConfig, OpenMojiConfig
from pippin.data.record import DataRecord, record_data
from pippin.data.source import ImageSource
from pippin.data.sources.factory import build_source
from pippin.data.sources.images import ImageFolderSource
from pippin.data.sources.openmoji_table import CLASSES
from pippin.recipes.recipe import Recipe
from pippin.runs.inputs import captions_read
from pippin.runs.training_record import TrainingRecord, refuse_reordered_classes
from pippin.system.progress import Progress


class RunImages:
    """The images that a recipe names, each split opened on first use.

    Args:
        recipe: the recipe.
        console: for progress and messages.
        located: the recipe with resolved paths, see :func:`pippin.runs.folder.locate`; None = the
            paths of the recipe.
        training_record: record of a trained model; None for a model to train.
    """

    def __init__(
        self,
        recipe: Recipe,
        console: Console,
        *,
        located: Recipe | None = None,
        training_record: TrainingRecord | None = None,
    ) -> None:
        self.recipe, self.console = recipe, console
        self.located, self.training_record = located or recipe, training_record

    @property
    def data(self) -> DataConfig:
        """Configuration of the images, with resolved paths.

        Raises:
            ConfigError: the recipe is that of a model without images.
        """
        data = self.located.data
        if isinstance(data, NoDataConfig):
            raise ConfigError(
                "this model was trained elsewhere and has no images: it can be sampled, "
                "and other runs can start from it (pippin train RECIPE --init.run); to evaluate "
                "its samples, use pippin evaluate SAMPLES --data.path FOLDER"
            )
        return data

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Class id -> name: for a trained model as it was trained, whatever the folder holds now.

        For an older run without recorded names, a note says which names are used.
        """
        data = self.recipe.data
        if self.training_record is not None and self.training_record.inputs is not None:
            return self.training_record.inputs.data.class_names
        if isinstance(data, NoDataConfig):
            return tuple(map(str, range(data.num_classes)))
        if isinstance(data, OpenMojiConfig):  # independent of the installed art
            return CLASSES
        if self.training_record is not None:
            return self.training_record.class_names_of_folder(
                self._folder_names, self._folder, self.console
            )
        return self.train_source.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes; for a trained model it is known without the images."""
        if self.training_record is not None and self.training_record.num_classes is not None:
            return self.training_record.num_classes
        unnamed = self.training_record is not None and self.training_record.inputs is None
        if unnamed and isinstance(self.recipe.data, ImagesConfig):  # a model of no classes
            return 1
        return len(self.class_names)

    @property
    def probe_side(self) -> int:
        """A side in pixels that at least half of the training images can show."""
        if self.training_record is not None and self.training_record.inputs is not None:
            return self.training_record.inputs.data.probe_side
        return self.train_source.probe_side

    @cached_property
    def train_source(self) -> ImageSource:
        """Training images.

        Raises:
            ValueError: the images of a trained model are missing, or have other classes than it.
        """
        if self.training_record is not None:
            self.training_record.check_images_exist(self.recipe, self.located)
            if self.training_record.inputs is None:
                refuse_reordered_classes(
                    self._train_source, self.recipe, self.training_record.source
                )
            self.training_record.check_images(
                self.data_record, self.recipe, self._folder, self.console
            )
        return self._train_source

    @property
    def _folder(self) -> str:
        """Description of the data set for messages."""
        return getattr(self.data, "path", "") or f"data.kind {self.data.kind}"

    def _folder_names(self) -> tuple[str, ...]:
        if self.training_record is not None:
            self.training_record.check_images_exist(self.recipe, self.located)
        source = self._train_source
        return getattr(source, "earlier_class_names", None) or source.class_names

    @cached_property
    def _train_source(self) -> ImageSource:
        with Progress(self.console, "scanning images", unit="files", brief=True) as progress:
            return build_source(self.data, "train", progress.update)

    @cached_property
    def held_out_source(self) -> ImageSource:
        """Held-out images, never trained on.

        Raises:
            ValueError: as :attr:`train_source`.
        """
        _ = self.train_source
        return self._held_out_source

    @cached_property
    def _held_out_source(self) -> ImageSource:
        if isinstance(self._train_source, ImageFolderSource):  # one scan of the folder serves both
            return self._train_source.with_split("held-out")
        return build_source(self.data, "held-out")

    @cached_property
    def data_record(self) -> DataRecord:
        """Record of the current images."""
        kinds = captions_read(self.recipe)
        return record_data(self._train_source, self._held_out_source, kinds)
