"""What a picture with a palette shows, read back by a decoder of this test's own."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from tests.palettes import MOST_COLOURS, with_palette


def decoded(png: bytes) -> np.ndarray:
    """The red, green and blue of each pixel of a PNG with a palette and without filters."""
    chunks, at = {}, 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        content = png[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + content) == struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0]
        chunks[kind] = content
        at += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()
    return np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)[lines[:, 1:]]


@pytest.mark.parametrize(("colours", "error"), [(1, 0), (MOST_COLOURS, 0), (4_000, 40)])
def test_few_colours_are_kept_and_of_many_the_nearest_is_shown(colours: int, error: int) -> None:
    rng = np.random.default_rng(7)
    some = rng.integers(0, 256, (colours, 3), np.uint8)
    pixels = some[rng.integers(0, colours, (60, 70))]
    rgba = np.dstack([pixels, np.full((60, 70), 255, np.uint8)]).tobytes()
    shown = decoded(with_palette(rgba, 70, 60)).astype(int)
    assert np.abs(shown - pixels).mean() <= error
