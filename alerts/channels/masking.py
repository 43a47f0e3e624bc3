"""Secrets are taken out of what a receiver answered, however it escaped them and wherever it was cut."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

MASK: Final = "•••"
# So many characters that begin a longer secret are hidden too: an answer is cut somewhere.
LEAST_PART_CHARACTERS: Final = 8
# And at the end of a text, where it was cut most likely.
LEAST_END_CHARACTERS: Final = 4
# JSON within HTML within JSON is the most that was seen.
MAX_LAYERS: Final = 4

_ESCAPED = re.compile(
    r"%(?P<percent>[0-9A-Fa-f]{2})"
    r"|\\u(?P<unicode>[0-9A-Fa-f]{4})"
    r"|\\u\{0*(?P<braced>[0-9A-Fa-f]{1,4})\}"
    r"|\\x(?P<hex>[0-9A-Fa-f]{2})"
    r"|&(?:\#[0-9]{1,7}|\#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});"
    r"|\\(?P<itself>[^A-Za-z0-9\s])"
)


class _Piece(NamedTuple):
    """A byte as it is meant, written from `start` to `end` of the text."""

    byte: str
    start: int
    end: int


def masked(text: str, secrets: Sequence[str]) -> str:
    r"""The text without the secrets, also where they are percent-encoded, or escaped as in JSON or HTML, or broken off.

    >>> masked("Cannot POST /T0/s3cret for /T0", ["/T0/s3cret"])
    'Cannot POST ••• for /T0'
    >>> masked(r'{"path": "\/T0\/s3cret"} %2FT0%2Fs3cret', ["/T0/s3cret"])
    '{"path": "•••"} •••'
    """
    wanted = {form for secret in secrets for form in _forms(secret)}
    hidden = [False] * len(text)
    pieces = [_Piece(byte, at, at + 1) for at, one in enumerate(text) for byte in _bytes(one)]
    for _ in range(MAX_LAYERS):
        meant = "".join(piece.byte for piece in pieces)
        for secret in wanted:
            for first, last in _found(secret, meant):
                start, end = pieces[first].start, pieces[last - 1].end
                hidden[start:end] = [True] * (end - start)
        unescaped = _unescaped(pieces)
        if unescaped == pieces:
            break
        pieces = unescaped
    return "".join(_shown(text, hidden))


def _shown(text: str, hidden: Sequence[bool]) -> Iterator[str]:
    for at, one in enumerate(text):
        if not hidden[at]:
            yield one
        elif at == 0 or not hidden[at - 1]:
            yield MASK


def _found(secret: str, text: str) -> Iterator[tuple[int, int]]:
    """Where the secret stands, or so much of its beginning that it counts."""
    least = min(len(secret), LEAST_PART_CHARACTERS)
    at = text.find(secret[:least])
    while at >= 0:
        end = at + least
        while end < len(text) and end - at < len(secret) and text[end] == secret[end - at]:
            end += 1
        yield at, end
        at = text.find(secret[:least], at + 1)
    for length in range(min(least - 1, len(text)), LEAST_END_CHARACTERS - 1, -1):
        if text.endswith(secret[:length]):
            yield len(text) - length, len(text)
            return


def _forms(secret: str) -> list[str]:
    """The secret as it is written, and as what it means."""
    pieces = [_Piece(byte, 0, 0) for one in secret for byte in _bytes(one)]
    forms = []
    for _ in range(MAX_LAYERS):
        forms.append("".join(piece.byte for piece in pieces))
        pieces = _unescaped(pieces)
    return [form for form in dict.fromkeys(forms) if len(form) >= LEAST_END_CHARACTERS]


def _unescaped(pieces: Sequence[_Piece]) -> list[_Piece]:
    """One layer less."""
    found: list[_Piece] = []
    at = 0
    for match in _ESCAPED.finditer("".join(piece.byte for piece in pieces)):
        found += pieces[at : match.start()]
        at = match.end()
        start, end = pieces[match.start()].start, pieces[at - 1].end
        found += [_Piece(byte, start, end) for byte in _meant(match)]
    return [*found, *pieces[at:]]


def _meant(match: re.Match[str]) -> list[str]:
    if encoded := match["percent"] or match["hex"]:
        return [chr(int(encoded, 16))]
    if encoded := match["unicode"] or match["braced"]:
        return _bytes(chr(int(encoded, 16)))
    if match["itself"]:
        return _bytes(match["itself"])
    return [byte for one in html.unescape(match[0]) for byte in _bytes(one)]


def _bytes(character: str) -> list[str]:
    """Of UTF-8, each as the character of its number: a percent sign encodes bytes, JSON code points."""
    return list(character.encode("utf-8", errors="surrogatepass").decode("latin-1"))
