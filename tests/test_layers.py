# SPDX-License-Identifier: Apache-2.0
"""The layering of docs/project/architecture.md, checked from the imports."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "pippin"

# A module imports only from its own folder and from folders above it in this list.
LAYERS = [
    {"system"},
    {"control"},
    {"config", "settings", "rng", "types"},
    {"plugins"},
    {"images"},
    {"diffusion"},
    {"nn"},
    {"encoders"},
    {"data"},
    {"conditioning"},
    {"denoisers"},
    {"model"},
    {"transfer"},
    {"objective"},
    {"recipes"},
    {"distributed"},
    {"runs"},
    {"sampling"},
    {"evaluation"},
    {"training"},
    {"planning"},
    {"interop"},
    {"bench"},
    {"preflight"},
    {"studies"},
    {"reports"},
    {"app"},
    {"publish"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Imports that the order allows and the design forbids; configurations are exempt.
FORBIDDEN = {
    "images": {"config", "rng"},
    "nn": {"diffusion", "encoders", "data", "conditioning"},
    "encoders": {"nn", "diffusion"},
    "data": {"nn", "diffusion"},
    "conditioning": {"data", "encoders", "diffusion"},
    "denoisers": {"conditioning", "data", "encoders", "diffusion"},
    "model": {"data", "encoders", "diffusion"},
    "transfer": {"data", "encoders", "conditioning"},
    "objective": {"data", "encoders", "denoisers"},
    "recipes": {"images", "nn", "conditioning", "model", "transfer"},
    "distributed": {"encoders", "diffusion", "conditioning"},
    "runs": {"nn", "transfer", "objective"},
    "sampling": {"objective", "transfer"},
    "sampling/guidance": {"data", "encoders", "recipes", "runs"},
    "sampling/solvers": {"data", "encoders", "recipes", "runs"},
    "sampling/sampler": {"data", "encoders", "recipes", "runs"},
    "evaluation": {"transfer", "conditioning", "denoisers"},
    "training/loop": {"data", "encoders", "recipes", "sampling", "evaluation"},
    "training/prefetch": {"data", "encoders", "recipes", "runs", "sampling", "evaluation"},
    "planning": {"encoders", "runs", "sampling"},
    "interop": {"runs", "training", "evaluation"},
    "preflight": {"nn", "transfer", "objective", "training", "interop"},
    "studies": {"planning", "interop", "bench", "preflight"},
    "reports": {"sampling", "training", "planning", "interop", "bench", "preflight"},
    "app": {"training", "planning", "interop", "bench", "preflight", "studies", "reports"},
    "publish": {"training", "planning", "bench", "preflight", "app"},
}
CONFIGURATIONS = [p.relative_to(PACKAGE) for p in PACKAGE.rglob("config.py")]
# Modules under their earlier names, for programs that import them.
EARLIER_NAMES = {
    "data/import_shards",
    "data/import_sources",
    "image_files",
    "run/folder",
    "run/sample_folder",
    "run/stages",
    "study/executors",
    "study/results",
}


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if name_of(p) not in EARLIER_NAMES)


def name_of(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


@cache
def nodes(path):
    """All nodes of a file's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imports(path):
    """Full names of all modules that a file imports, including inside functions."""
    return imported_names(path, nodes(path))


def imported_names(path, nodes):
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def run_time_imports(path):
    """Modules of the package that a file imports when it runs, including inside functions."""
    tests = [
        n for n in nodes(path) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)
    ]
    types_only = {id(node) for test in tests for part in test.body for node in ast.walk(part)}
    run = [node for node in nodes(path) if id(node) not in types_only]
    files = {own_module(name) for name in imported_names(path, run)} - {None}
    return {name_of(PACKAGE / file) for file in files if not is_package(file)}


def layer(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def own_module(name):
    """File of pippin's module that an imported name is, or is in; None for other packages."""
    first, *rest = name.split(".")
    if first != "pippin":
        return None
    for depth in range(len(rest), 0, -1):
        base = PACKAGE.joinpath(*rest[:depth])
        found = [f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()]
        if found:
            return found[0].relative_to(PACKAGE)
    return Path("__init__.py")


def layers_imported(names):
    """The entries of the list that imported names are in; a folder's ``config.py`` is exempt."""
    files = {own_module(name) for name in names} - {None, Path("__init__.py")}
    exempt = set(CONFIGURATIONS) - {Path("config.py")}
    # ``from a import b`` gives a and a.b: a package alone has no content.
    return {file.parts[0].removesuffix(".py") for file in files - exempt if not is_package(file)}


def is_package(file):
    return file.name == "__init__.py"


def test_only_a_configuration_is_exempt_from_the_order():
    assert (
        layers_imported(["pippin.training.config", "pippin.training.config.TrainConfig"]) == set()
    )
    assert layers_imported(["pippin.training.loop.config", "pippin.config"]) == {
        "training",
        "config",
    }
    assert layers_imported(["torch", "pippin.training", "pippin.rng.normal"]) == {"rng"}
    assert layers_imported(["pippin.cli.parsing.options.config"]) == {"cli"}


def names_of_the_package(path):
    """Names that a file imports from ``pippin`` itself, whose modules no layer shows."""
    from_package = [name for name in imports(path) if own_module(name) == Path("__init__.py")]
    return set(from_package) - {"pippin", "pippin.__version__"}


def test_no_module_imports_by_way_of_the_package():
    """``from pippin import train`` imports, on first use, from a layer that the order forbids."""
    names = {name_of(path): names_of_the_package(path) for path in modules()}
    assert not {name: found for name, found in names.items() if found}


def test_every_module_belongs_to_a_layer():
    earlier = {name.split("/")[0] for name in EARLIER_NAMES} - set(RANK)
    result = {layer(path) for path in PACKAGE.rglob("*.py")} - {"__init__"} - earlier
    assert result == set(RANK)


def broken_rules(path):
    """Rules that the imports of a module break."""
    own, imported = layer(path), layers_imported(imports(path))
    below = {name for name in imported if RANK[name] > RANK[own]}
    beside = {n for n in imported if RANK[n] == RANK[own] and n != own}
    if own in LAYERS[RANK["config"]]:
        beside -= LAYERS[RANK["config"]]
    forbidden = imported & (FORBIDDEN.get(own, set()) | FORBIDDEN.get(name_of(path), set()))
    if below:
        yield f"{name_of(path)} imports from the lower layers {below}"
    if beside:
        yield f"{name_of(path)} imports from {beside}, which stands beside it"
    if forbidden:
        yield f"{name_of(path)} must not know {forbidden}"


def test_imports_point_up_the_list_only():
    checked = [path for path in modules() if path.name != "__init__.py"]
    broken = [rule for path in checked for rule in broken_rules(path)]
    assert len(checked) > 400 and not broken, "\n".join(broken)


def check_for_cycles(paths):
    """Raise CycleError, which names the modules, where some import each other."""
    TopologicalSorter({name_of(path): run_time_imports(path) for path in paths}).prepare()


def test_no_modules_import_each_other_at_run_time():
    """An import inside a function that avoids such a cycle hides what depends on what."""
    check_for_cycles(modules())


def test_a_cycle_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    own_module.cache_clear()
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pippin.third\n"
    for name, text in {
        "first.py": "import pippin.second\n",
        "second.py": "def run():\n    from pippin.third import run\n",
        "third.py": for_types.replace("third", "first"),
        "fourth.py": "from pippin.fifth import run\n",
        "fifth.py": "def run():\n    import pippin.fourth\n",
    }.items():
        (tmp_path / name).write_text(text)
    check_for_cycles([tmp_path / f"{name}.py" for name in ("first", "second", "third")])
    with pytest.raises(CycleError, match="fourth"):
        check_for_cycles([tmp_path / f"{name}.py" for name in ("fourth", "fifth")])
    own_module.cache_clear()


def test_a_broken_rule_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    for name, text in {
        "rng.py": "",
        "images/files.py": "import pippin.rng\nimport pippin.nn.own\n",
        "nn/own.py": "from pippin.rng import normal\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    own_module.cache_clear()
    assert [*broken_rules(tmp_path / "images" / "files.py")] == [
        "images/files imports from the lower layers {'nn'}",
        "images/files must not know {'rng'}",
    ]
    assert not [*broken_rules(tmp_path / "nn" / "own.py")]
    own_module.cache_clear()


@pytest.mark.parametrize("name", [name for name in FORBIDDEN if "/" in name])
def test_modules_with_rules_of_their_own_exist(name):
    assert PACKAGE.joinpath(f"{name}.py").is_file()


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=str)
def test_configuration_imports_configurations_only_and_no_torch(path):
    own = list(path.parts[:-1])
    for name in imports(PACKAGE / path):
        first, *rest = name.split(".")
        assert first not in ("torch", "jaxtyping")
        file = own_module(name)
        if file is None or is_package(file) or path == Path("config.py"):
            continue
        known = file in CONFIGURATIONS or layer(PACKAGE / file) in {"settings", "control"}
        assert known or rest[:1] == own[:1], f"{path} imports {name}"


def test_metrics_know_no_run():
    """Metrics read images, features and predictions; ``evaluation/runs`` samples for them."""
    known = ("pippin.runs", "pippin.sampling", "pippin.evaluation.runs")
    for path in (PACKAGE / "evaluation" / "metrics").rglob("*.py"):
        found = [name for name in imports(path) if name.startswith(known)]
        assert not found, f"{name_of(path)} imports {found}"


def test_packages_import_nothing_by_themselves():
    for path in PACKAGE.rglob("__init__.py"):
        if path.parent != PACKAGE:  # whose names are imported when asked for: test_public.py
            assert not list(imports(path)), path


def test_no_folder_has_more_than_15_modules_without_folders_of_its_own():
    for folder in {path.parent for path in modules()} - {PACKAGE}:
        count = sum(path.parent == folder and path.stem != "__init__" for path in modules())
        assert count <= 15 or any(one.is_dir() for one in folder.glob("[!_]*")), folder


def test_no_name_is_used_three_times():
    """A folder of a denoiser has the same four names; every folder may have a config.py."""
    names = [p.name for p in modules() if p.parent.parent != PACKAGE / "denoisers"]
    excepted = {"__init__.py", "config.py"}
    assert not {name for name in names if names.count(name) > 2} - excepted


DENOISER_KINDS = {p.parent.name for p in PACKAGE.glob("denoisers/*/model.py")}
DENOISER_CLASSES = {
    node.name
    for path in PACKAGE.glob("denoisers/**/*.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef)
    and (path.name in ("config.py", "model.py") or path.parent.name == "denoisers")
}


def denoiser_questions(nodes):
    """Lines that ask of which denoiser something is, by class or by kind."""
    for node in nodes:
        asked, answers = [], set()
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "isinstance",
            "issubclass",
        ):
            asked, answers = node.args[1:], DENOISER_CLASSES
        elif isinstance(node, ast.Compare):
            asked, answers = [node.left, *node.comparators], DENOISER_KINDS
        elif isinstance(node, ast.MatchValue):
            asked, answers = [node.value], DENOISER_KINDS
        parts = [part for entry in asked for part in ast.walk(entry)]
        values = {getattr(part, "id", getattr(part, "value", None)) for part in parts}
        if {value for value in values if isinstance(value, str)} & answers:
            yield node.lineno if hasattr(node, "lineno") else asked[0].lineno


def test_the_search_for_questions_finds_them():
    code = """
isinstance(x, MDTv2Config | int)
x.kind == "dit"
x in ("unet", "other")
isinstance(x, int) or x == "text"
"""
    assert {"dit", "unet"} <= DENOISER_KINDS and "DenoiserConfig" in DENOISER_CLASSES
    assert list(denoiser_questions(ast.walk(ast.parse(code)))) == [2, 3, 4]


def test_denoisers_differ_by_methods_and_declarations_only():
    others = [path for path in modules() if layer(path) != "denoisers"]
    asked = {name_of(path): [*denoiser_questions(nodes(path))] for path in others}
    found = {name: lines for name, lines in asked.items() if lines}
    assert not found, "declare it in src/pippin/denoisers/config.py"


def test_every_file_states_its_licence():
    for path in [*PACKAGE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        assert first == "# SPDX-License-Identifier: Apache-2.0", path
