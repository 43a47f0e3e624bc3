"""Pictures of pages with 256 colours at most: letters and areas look the same, and the file is half as large."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

MOST_COLOURS = 256
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def with_palette(rgba: bytes, width: int, height: int) -> bytes:
    """A PNG of these pixels, their alpha ignored: every colour where there are few, else the most frequent, and for each
    other one the nearest of those."""
    pixels = np.frombuffer(rgba, "<u4").reshape(height, width) & 0xFFFFFF
    colours, places, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    kept = np.sort(np.argsort(counts)[::-1][:MOST_COLOURS])
    palette = _channels(colours[kept])
    indices = _nearest(_channels(colours), palette)[places].reshape(height, width)
    # Each line begins with the number of its filter; a palette compresses best without one.
    lines = np.zeros((height, width + 1), np.uint8)
    lines[:, 1:] = indices
    return b"".join(
        [
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette.astype(np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        ]
    )


def _channels(colours: NDArray[np.uint32]) -> NDArray[np.int32]:
    """Red, green and blue of each."""
    return np.stack([(colours >> shift) & 0xFF for shift in (0, 8, 16)], axis=-1).astype(np.int32)


def _nearest(colours: NDArray[np.int32], palette: NDArray[np.int32]) -> NDArray[np.uint8]:
    found = np.empty(len(colours), np.uint8)
    for first in range(0, len(colours), 4096):
        part = colours[first : first + 4096, None, :] - palette[None, :, :]
        found[first : first + 4096] = (part**2).sum(axis=-1).argmin(axis=1)
    return found


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
