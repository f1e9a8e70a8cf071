# SPDX-License-Identifier: Apache-2.0
"""Search of code for expressions that take the name of a metric apart."""

import ast
from collections.abc import Iterator

PARSERS = {
    *("startswith", "endswith", "partition", "rpartition", "split", "rsplit"),
    *("removeprefix", "removesuffix", "find", "index"),
}
CLASSES = {"Metric", "Measure", "MetricKind", "ImageMetric", "Row"}
"""Classes of objects with the name of a metric."""
OBJECTS = {"metric", "measure", "row", "kind", "m"}
"""Variables that hold such objects, or names, wherever they come from."""
NAMES = {"metric", "primary"}
"""Attributes that hold a name, or an object whose ``name`` it is."""
COLLECTIONS = {"metrics", "companions"}
"""Attributes that hold several names."""


def parsed_names(text: str) -> list[str]:
    """Expressions that take a metric's name apart: ``measure.name.startswith("KID")``.

    A name is an attribute of :data:`NAMES`, or ``name`` of an object by :data:`OBJECTS` or by its
    annotation, or a variable of the same function that is assigned one, whatever it is called.
    Taken apart is a name by a method of :data:`PARSERS`, ``re``, a slice, or ``"text" in name``.

    Not found: names that come from a call, a container or another function's argument without
    annotation, and functions that a name is given to.
    """
    tree = ast.parse(text)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    scopes = [tree, *(node for node in ast.walk(tree) if isinstance(node, functions))]
    return sorted({ast.unparse(node) for scope in scopes for node in _Scope(scope).parsed()})


class _Scope:
    """One function, or a whole module."""

    def __init__(self, scope: ast.AST) -> None:
        self.nodes = list(ast.walk(scope))
        self.objects = set(OBJECTS)
        self.names = set(NAMES)
        if isinstance(scope, ast.Module):  # variables of functions are not the module's
            return
        self.objects |= {
            node.arg
            for node in self.nodes
            if isinstance(node, ast.arg) and ast.unparse(node.annotation or node) in CLASSES
        }
        count = 0
        while count < len(self.names):
            count = len(self.names)
            self.names |= {target for target, value in self._bindings() if self._is_name(value)}

    def _bindings(self) -> Iterator[tuple[str, ast.expr]]:
        """(variable, value or one of the values) of assignments and loops."""
        for node in self.nodes:
            if isinstance(node, ast.Assign):
                pairs = [(target, node.value) for target in node.targets]
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
                pairs = [(node.target, node.value)]
            elif isinstance(node, ast.For | ast.comprehension):
                many = isinstance(node.iter, ast.Attribute) and node.iter.attr in COLLECTIONS
                pairs = [(node.target, ast.Name(id="metric"))] * many
            else:
                continue
            yield from ((t.id, value) for t, value in pairs if isinstance(t, ast.Name))

    def _is_name(self, value: ast.expr) -> bool:
        if isinstance(value, ast.Name):
            return value.id in self.names
        if isinstance(value, ast.Attribute) and value.attr == "name":
            owner = value.value
            known = getattr(owner, "id", "") in self.objects | self.names
            return known or getattr(owner, "attr", "") in OBJECTS
        if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "str":
            return any(map(self._is_name, value.args))
        return isinstance(value, ast.Attribute) and value.attr in NAMES

    def parsed(self) -> Iterator[ast.expr]:
        """Expressions that take a name apart."""
        for node in self.nodes:
            parts: list[ast.expr] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                parts = [node.func.value] if node.func.attr in PARSERS else []
                parts += node.args if getattr(node.func.value, "id", "") == "re" else []
            elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
                parts = node.comparators if isinstance(node.left, ast.Constant) else []
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
                parts = [node.value]
            if any(map(self._is_name, parts)):
                assert isinstance(node, ast.expr)
                yield node
