# SPDX-License-Identifier: MIT
"""The record that describes a family of models on disk; the package of every family has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from gmcodec.errors import WeightsError
from gmcodec.models.shared.tensors import Tensors

MAX_CONFIG_NUMBER = 4096  # in an architecture: larger ones could exhaust memory


class Base(NamedTuple):
    """A frozen model whose weights another one shares: its name in the registry, the id of its weights, the model."""

    name: str
    weights_id: bytes
    model: Any


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models on disk.

    kind         the name of the family in weights; permanent
    config       the dataclass of its architecture
    model        the class of its frozen models; they have ``config`` and may have ``base``
    read_config  plain values of JSON -> ``config``; raises KeyError, TypeError, ValueError, WeightsError
    write        frozen model -> tensors by name, without those of the base
    read         inverse of ``write``, given architecture and base: raises KeyError, ValueError, WeightsError
    """

    kind: str
    config: type
    model: type
    read_config: Callable[[Mapping[str, Any]], Any]
    write: Callable[[Any], Tensors]
    read: Callable[[Any, Tensors, Base | None], Any]


def plain_values(values: Mapping[str, Any], config: type) -> dict[str, Any]:
    """Values of JSON with lists as tuples.  Raises WeightsError for a number outside 0..MAX_CONFIG_NUMBER."""
    plain: dict[str, Any] = {name: as_tuples(value) for name, value in values.items()}
    numbers = [plain[f.name] for f in fields(config) if f.type == "int" and f.name in plain]
    numbers += [n for f in fields(config) if f.type == "tuple[int, ...]" for n in plain[f.name]]
    if any(type(value) is not int or not 0 <= value <= MAX_CONFIG_NUMBER for value in numbers):
        raise WeightsError(f"unsound architecture: {dict(values)}")
    return plain


def as_tuples(value: Any) -> Any:
    """Lists of JSON as tuples, nested ones too."""
    return tuple(as_tuples(v) for v in value) if isinstance(value, list) else value
