# SPDX-License-Identifier: MIT
"""A constant has one name and one value, wherever in the package it stands."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from pathlib import Path

import pytest

import gmcodec

ROOT = Path(gmcodec.__file__).parent
OTHERS = {"FAMILY", "T"}  # what a package of models is known by; a type variable


def constants(path: Path) -> set[str]:
    """Names in capitals that the module at ``path`` gives a value itself."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [n for target in targets if target for n in ast.walk(target) if isinstance(n, ast.Name)]
        found |= {n.id for n in names if n.id.isupper() and n.id not in OTHERS}
    return found


def repeated() -> dict[str, list[str]]:
    """Names that more than one module gives a value, and the modules."""
    modules = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for name in constants(path):
            modules[name].append(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
    return {name: found for name, found in modules.items() if len(found) > 1}


@pytest.mark.parametrize("name", sorted(repeated()))
def test_one_name_is_one_value(name: str) -> None:
    first, *others = (getattr(importlib.import_module(module), name) for module in repeated()[name])
    assert all(type(other) is type(first) and other == first for other in others)
