"""Room on disk for what a web process counts, taken before it counts anything.

prometheus_client maps files into memory that are longer than what is on disk. Where the disk is full by the time
that one of their pages is first written, the kernel ends the process by SIGBUS: no request would be told 503.
"""

from __future__ import annotations

import os
from pathlib import Path

# As prometheus_client names them: <type>_<process id>.db, of the types that meters are of.
_TYPES = ("counter", "histogram")
# Every route, method and bucket that there is takes half of it.
_BYTES = 1 << 20


def reserve(folder: str) -> bool:
    """Makes this process's files in the folder, written to their end; False where there is no room for them."""
    try:
        os.makedirs(folder, exist_ok=True)
        for kind in _TYPES:
            _make(Path(folder, f"{kind}_{os.getpid()}.db"))
    except OSError:
        return False
    return True


def _make(file: Path) -> None:
    """Zeros mean that nothing is counted yet. What an earlier process of this id has counted stays."""
    if file.exists():
        return
    draft = file.with_suffix(".draft")
    try:
        draft.write_bytes(bytes(_BYTES))
        draft.rename(file)  # whole, for whoever reads all files of the folder just now
    except OSError:
        draft.unlink(missing_ok=True)
        raise
