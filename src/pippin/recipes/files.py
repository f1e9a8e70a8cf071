# SPDX-License-Identifier: Apache-2.0
"""Recipes as YAML or JSON files, to read, edit and train."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pippin.config import ConfigError
from pippin.recipes.recipe import Recipe
from pippin.system.formats import check_versioned_json
from pippin.system.regular_files import read_regular

if TYPE_CHECKING:
    import yaml

YAML_SUFFIXES = (".yaml", ".yml")
EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
"""Numbers with an exponent; YAML 1.1, which PyYAML reads, takes ``1e-4`` for text."""


def load_recipe(path: Path) -> Recipe:
    """Load a recipe from a YAML file, or from JSON such as a run's config.json.

    Raises:
        ConfigError: not YAML or JSON, or an unknown, missing or wrong setting; it is named.
        FormatError: the file is of a newer version.
        OSError: the file is missing or cannot be read.
    """
    if path.suffix not in YAML_SUFFIXES:
        return Recipe.load(path)
    values = check_versioned_json(_parse_yaml(path), Recipe.FORMAT, path)
    try:
        return Recipe.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path} is {error}") from error


def recipe_json(recipe: Recipe) -> str:
    """All settings as JSON, which :func:`load_recipe` reads; without checksum, to be edited."""
    return json.dumps(recipe.to_dict(), indent=2)


def recipe_yaml(recipe: Recipe) -> str:
    """All settings as YAML, which :func:`load_recipe` reads."""
    import yaml

    plain = json.loads(json.dumps(recipe.to_dict()))  # tuples become lists
    text: str = yaml.dump(plain, Dumper=_dumper(), sort_keys=False, width=99, allow_unicode=True)
    return text.rstrip("\n")


def _parse_yaml(path: Path) -> Any:
    import yaml

    text = read_regular(path)
    try:
        return yaml.load(text, Loader=_loader())
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not YAML: {reason}") from error


def _loader() -> "type[yaml.SafeLoader]":
    """YAML reader that knows ``1e-4`` and refuses a repeated key."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Reader of recipes."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            """Refuse a repeated key, of which YAML would keep the last."""
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise ValueError(f"duplicate key {key!r}; remove one of them")
            return super().construct_mapping(node, deep=deep)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789."))
    return Loader


def _dumper() -> "type[yaml.SafeDumper]":
    """YAML writer with short lists on one line."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writer of recipes."""

        def represent_list(self, data: Iterable[Any]) -> Any:
            """A list of plain values in brackets."""
            values = list(data)
            flow = not any(isinstance(value, dict | list) for value in values)
            return self.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)

    Dumper.add_representer(list, Dumper.represent_list)
    return Dumper
