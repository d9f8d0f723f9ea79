# SPDX-License-Identifier: MIT
"""Check the array types in signatures of gmcodec, at every call of a public function while the tests run.

Annotations stay strings at run time, so those that name a type of gmcodec/arrays.py are evaluated here, with jaxtyping,
when a module is imported.  After LIMIT calls a function is believed, since some are called once a pixel.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import inspect
import re
import sys
import types
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np

LIMIT = 300
ARRAY = re.compile(r"\w+\[np\.ndarray, '[^']*'\]|\w+\[np\.ndarray, \"[^\"]*\"\]")
NAMES = {name: getattr(jaxtyping, name) for name in dir(jaxtyping) if re.match(r"(U?Int|Float|Bool|Shaped)", name)}
checked: set[str] = set()  # functions that were called, and whose arrays were as their signatures say


def array_types(annotation: Any) -> tuple[Any, ...]:
    """What ``isinstance`` takes, of an annotation that is one array type or a tuple of them; () for any other."""
    text = str(annotation).removesuffix(" | None")
    parts = ARRAY.findall(text)
    if text not in (", ".join(parts), f"tuple[{', '.join(parts)}]"):
        return ()
    return tuple(eval(part, {**NAMES, "np": np}) for part in parts)  # noqa: S307


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, checking its arrays."""
    hints = getattr(function, "__annotations__", {})
    expected = {name: found for name, hint in hints.items() if (found := array_types(hint))}
    if not expected:
        return function
    signature, name = inspect.signature(function), f"{function.__module__}.{function.__qualname__}"
    calls = 0

    def check(values: dict[str, Any]) -> None:
        with jaxtyping.jaxtyped("context"):
            for argument, value in values.items():
                arrays = value if isinstance(value, tuple) else [value]
                for array, kind in zip(arrays, expected.get(argument, ()), strict=False):
                    if array is not None and not isinstance(array, kind):
                        shape = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array)
                        raise TypeError(f"{name}: {argument} is {shape}, not {hints[argument]}")

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        result = function(*args, **kwargs)  # first: it may refuse what it is given
        calls += 1
        if calls <= LIMIT:
            check({**signature.bind(*args, **kwargs).arguments, "return": result})
            checked.add(name)
        return result

    return inner


def watch(module: types.ModuleType) -> None:
    """Watch all functions of a module and methods of its classes."""
    for owner in (module, *(o for o in vars(module).values() if isinstance(o, type))):
        for name, value in list(vars(owner).items()):
            if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
                setattr(owner, name, watched(value))


class Finder(importlib.abc.MetaPathFinder):
    """Finds modules of gmcodec as always, and watches them once they are loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith("gmcodec."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


class Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        super().exec_module(module)
        watch(module)


def install() -> None:
    """Watch modules that are imported from now on."""
    sys.meta_path.insert(0, Finder())
