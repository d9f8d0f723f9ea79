# SPDX-License-Identifier: MIT
"""The file of rows, written while a run goes on, from which an interrupted run can be continued.

{"machine": ..., "versions": ..., ...}     the first line: conditions, which must be the same to continue
{"set": "kodak", "image": ...}             a line for each image and codec, appended as soon as it is measured
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gmcodec.bench.measure import Row
from gmcodec.errors import BenchError, OutputExistsError


class Records:
    """The rows of a run, in memory and in a file.

    Raises OutputExistsError if the file exists and neither ``resume`` nor ``force`` is given, BenchError if it was
    measured under other conditions.
    """

    def __init__(self, path: Path, conditions: dict[str, Any], *, resume: bool = False, force: bool = False) -> None:
        self.path = path
        self.rows: dict[tuple, Row] = {}
        if path.exists() and not (resume or force):
            raise OutputExistsError(f"{path} holds a run; --resume continues it, --force starts again")
        if resume and path.exists() and path.stat().st_size:
            self._read(conditions)
        else:
            path.write_text(json.dumps(conditions) + "\n", "utf-8")

    def _read(self, conditions: dict[str, Any]) -> None:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]  # the last line may be cut off
        first, *lines = whole.decode("utf-8").splitlines() or ["{}"]
        before = json.loads(first)
        changed = [name for name in conditions if before.get(name) != json.loads(json.dumps(conditions[name]))]
        if changed:
            raise BenchError(f"{self.path} was measured with other {', '.join(changed)}; --force starts again")
        for line in lines:
            self._keep(Row.from_json(json.loads(line)))
        self.path.write_bytes(whole)

    def _keep(self, row: Row) -> None:
        self.rows[row.key] = row

    def append(self, row: Row) -> None:
        """Keep a finished row, and append it to the file."""
        self._keep(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row.as_json()) + "\n")

    def get(self, row: Row) -> Row | None:
        """The measured row with the same key as ``row``, or None."""
        return self.rows.get(row.key)
