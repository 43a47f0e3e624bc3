"""The one way in which a verb says no."""

from __future__ import annotations


class Refusal(Exception):
    """What was asked cannot be done, and nothing was changed.

    `code` is for programs, `message` for people: what was expected, what came, what to do. `fields` names
    the fields that are wrong, with a sentence or more for each. `status` is the HTTP status at the edge.
    """

    def __init__(
        self, code: str, message: str, *, status: int = 400, fields: dict[str, list[str]] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.fields = fields or {}

    @classmethod
    def of(cls, code: str, fields: dict[str, list[str]], *, status: int = 400) -> Refusal:
        """What is wrong with these fields, by its sentences; nothing was saved."""
        said = " ".join(sentence for sentences in fields.values() for sentence in sentences)
        return cls(code, f"{said} Nothing was saved.", status=status, fields=fields)

    def document(self) -> dict[str, object]:
        """The error in the shape that every endpoint answers with."""
        return error_document(self.code, self.message, self.fields)


def error_document(code: str, message: str, fields: dict[str, list[str]] | None = None) -> dict[str, object]:
    """`{"error": {"code", "message", "fields"}}`."""
    return {"error": {"code": code, "message": message, "fields": fields or {}}}
