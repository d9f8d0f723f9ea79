# SPDX-License-Identifier: MIT
"""One thread of BLAS, for sums of floats that must not depend on how many processors there are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Blas:
    """The limit of BLAS threads, a global of the process, and how many need it."""

    lock = threading.Lock()
    users = 0
    limit: Any = None


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Sums of several threads come in another order."""
    from threadpoolctl import threadpool_limits

    with _Blas.lock:  # the first one sets the limit, the last one lifts it
        if not _Blas.users:
            _Blas.limit = threadpool_limits(1, user_api="blas")
        _Blas.users += 1
    try:
        yield
    finally:
        with _Blas.lock:
            _Blas.users -= 1
            if not _Blas.users:
                _Blas.limit.restore_original_limits()
