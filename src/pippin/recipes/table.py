# SPDX-License-Identifier: Apache-2.0
"""Recipes by name, and as YAML or JSON files."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pippin.config import ConfigError
from pippin.plugins import find_registered
from pippin.recipes import custom as folder
from pippin.recipes import openmoji, paper, published, published_flow, shapes
from pippin.recipes.openmoji import with_text
from pippin.recipes.recipe import Recipe
from pippin.system.files import read_regular
from pippin.system.formats import check_versioned_json

if TYPE_CHECKING:
    import yaml


RECIPES: dict[str, Callable[[], Recipe]] = {
    "openmoji/mmdit-disentangled": openmoji.mmdit_disentangled,
    "openmoji/mmdit-entangled": openmoji.mmdit_entangled,
    "openmoji/mmdit-attention-modulation": openmoji.mmdit_attention_modulation,
    "openmoji/mmdit-sdxl-style": openmoji.mmdit_sdxl_style,
    "openmoji/dit-disentangled": openmoji.dit_disentangled,
    "openmoji/dit-entangled": openmoji.dit_entangled,
    "openmoji/dit-meanflow": openmoji.dit_meanflow,
    "openmoji/mdtv2-disentangled": openmoji.mdtv2_disentangled,
    "openmoji/mdtv2-entangled": openmoji.mdtv2_entangled,
    "openmoji/pixart-disentangled": openmoji.pixart_disentangled,
    "openmoji/pixart-entangled": openmoji.pixart_entangled,
    "openmoji/unet-disentangled": openmoji.unet_disentangled,
    "openmoji/unet-entangled": openmoji.unet_entangled,
    "openmoji/jit-disentangled": openmoji.jit_disentangled,
    "openmoji/jit-entangled": openmoji.jit_entangled,
    "openmoji/jit-pixels": openmoji.jit_pixels,
    "openmoji/jit-pixels-disentangled": openmoji.jit_pixels_disentangled,
    "openmoji/ddt-disentangled": openmoji.ddt_disentangled,
    "openmoji/ddt-entangled": openmoji.ddt_entangled,
    "openmoji/mmdit-disentangled-text": lambda: with_text(openmoji.mmdit_disentangled()),
    "openmoji/mmdit-disentangled-text-styles": openmoji.mmdit_disentangled_text_styles,
    "openmoji/mmdit-entangled-text": openmoji.mmdit_entangled_text,
    "openmoji/dit-disentangled-text": lambda: with_text(openmoji.dit_disentangled()),
    "openmoji/mdtv2-disentangled-text": lambda: with_text(openmoji.mdtv2_disentangled()),
    "openmoji/pixart-disentangled-text": lambda: with_text(openmoji.pixart_disentangled()),
    "openmoji/unet-disentangled-text": lambda: with_text(openmoji.unet_disentangled()),
    "openmoji/jit-disentangled-text": lambda: with_text(openmoji.jit_disentangled()),
    "openmoji/ddt-disentangled-text": lambda: with_text(openmoji.ddt_disentangled()),
    **shapes.recipes(),
    "folder/mmdit-disentangled-text": lambda: with_text(folder.mmdit_disentangled()),
    "folder/mmdit-disentangled": folder.mmdit_disentangled,
    "folder/mmdit-entangled": folder.mmdit_entangled,
    "folder/mmdit-unconditional": folder.mmdit_unconditional,
    "folder/dit-disentangled": folder.dit_disentangled,
    "folder/dit-entangled": folder.dit_entangled,
    "folder/mmdit-b-256": folder.mmdit_b_256,
    "folder/dit-b-256": folder.dit_b_256,
    "folder/mmdit-b-256-text": folder.mmdit_b_256_text,
    "folder/pixart-b-256-text": folder.pixart_b_256_text,
    "published/dit-xl-256": published.dit_xl_256,
    "published/dit-xl-512": published.dit_xl_512,
    "published/sit-xl-256": published.sit_xl_256,
    "published/lightningdit-xl-256": published.lightningdit_xl_256,
    "published/mdtv2-xl-256": published.mdtv2_xl_256,
    "published/pixart-xl-256": published.pixart_xl_256,
    "published/pixart-xl-512": published.pixart_xl_512,
    "published/mmdit-sd3-d24-256": published.mmdit_sd3_d24_256,
    "published/ldm-4-imagenet-256": published.ldm_4_imagenet_256,
    "published/jit-b-256": published_flow.jit_b_256,
    "published/ddt-xl-256": published_flow.ddt_xl_256,
    "published/meanflow-b-256": published_flow.meanflow_b_256,
    **paper.recipes(),
}


def get_recipe(name: str) -> Recipe:
    """Recipe of a name.

    Raises:
        ConfigError: no such recipe; the message suggests similar names.
    """
    recipe = find_registered(
        RECIPES,
        name,
        f"no recipe {name!r}",
        "`pippin train --help` lists all; type --import MODULE for the module that adds a recipe "
        "of your own",
    )
    return replace(recipe(), family=name.partition("/")[0])


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
