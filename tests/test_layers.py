# SPDX-License-Identifier: Apache-2.0
"""The layering of docs/project/architecture.md, checked from the imports."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "pippin"

# A module imports only from its own layer and from layers above it in this list.
LAYERS = [
    {"system"},
    {"control"},
    {"config", "muon", "rng", "types"},
    {"plugins"},
    {"image_metadata"},
    {"png_transparency"},
    {"image_files"},
    {"film_grain"},
    {"image_folder"},
    {"diffusion"},
    {"nn"},
    {"encoders"},
    {"data"},
    {"conditioning"},
    {"denoisers"},
    {"model"},
    {"transfer"},
    {"objective", "sampling"},
    {"training"},
    {"evaluation"},
    {"recipes"},
    {"interop"},
    {"run"},
    {"study"},
    {"studies"},
    {"bench"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Imports that the order allows and the design forbids.
FORBIDDEN = {
    "nn": {"conditioning", "data", "encoders", "diffusion"},
    "encoders": {"nn", "diffusion"},
    "data": {"nn", "diffusion"},
    "conditioning": {"data", "encoders", "diffusion"},
    "denoisers": {"conditioning", "data", "encoders", "diffusion"},
    "model": {"data", "encoders", "diffusion"},
    "transfer": {"data", "encoders", "conditioning"},
    "objective": {"data", "encoders", "training"},
    "sampling": {"data", "training", "objective"},
    "training": {"data", "encoders", "evaluation"},
    "evaluation": {"training", "data", "conditioning", "denoisers"},
}
# Modules that may know a forbidden layer after all.
ALLOWED = {"training/autoencoder.py": {"encoders"}}  # trains one
# A configuration may name its neighbours' configurations only.
TORCH_FREE = [p.relative_to(PACKAGE) for p in PACKAGE.rglob("config.py")]


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """Full names of all modules that a file imports, including inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def layers_imported(path):
    names = {name.split(".")[1] for name in imports(path) if name.startswith("pippin.")}
    return {name for name in names if name in RANK}


def test_every_module_belongs_to_a_layer():
    result = {layer(path) for path in modules()} - {"__init__"}
    assert result == set(RANK)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_up_the_list_only(path):
    own = layer(path)
    if own == "__init__":
        return
    below = {name for name in layers_imported(path) if RANK[name] > RANK[own]}
    beside = {n for n in layers_imported(path) if RANK[n] == RANK[own] and n != own}
    if own in {"types", "config", "rng"}:
        beside -= {"types", "config", "rng"}
    assert not below, f"{own} imports from the lower layers {below}"
    assert not beside, f"{own} imports from {beside}, which stands beside it"
    forbidden = layers_imported(path) & FORBIDDEN.get(own, set())
    allowed = {name for name in forbidden if _only_config(path, name)}
    allowed |= ALLOWED.get(path.relative_to(PACKAGE).as_posix(), set())
    assert not forbidden - allowed, f"{own} must not know {forbidden - allowed}"


def _only_config(path, name):
    result = [module for module in imports(path) if module.startswith(f"pippin.{name}")]
    return all(module.startswith(f"pippin.{name}.config") for module in result)


@pytest.mark.parametrize("path", TORCH_FREE, ids=str)
def test_configuration_does_not_import_torch(path):
    assert not [n for n in imports(PACKAGE / path) if n.split(".")[0] in ("torch", "jaxtyping")]


def test_packages_import_nothing_by_themselves():
    for path in PACKAGE.rglob("__init__.py"):
        if path.parent != PACKAGE:  # whose names are imported when asked for: test_public.py
            assert not list(imports(path)), path


def test_every_file_states_its_licence():
    for path in [*modules(), *Path(__file__).parent.rglob("*.py")]:
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        assert first == "# SPDX-License-Identifier: Apache-2.0", path
