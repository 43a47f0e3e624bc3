"""Python's garbage collector, out of the way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_later() -> Iterator[None]:
    """Puts off the search for reference cycles until the block has ended.

    For blocks that make very many objects which live as long as it does: every few thousand of them the collector
    walks through all of them again, and finds nothing. Also usable as a decorator.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
