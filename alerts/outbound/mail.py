"""One mail to the mail server of this installation, within one deadline.

Django's backend makes the connection as EMAIL_URL says. What the server answered is kept: which addresses
it refused, and what it calls the mail, by which its administrator finds it again.
"""

from __future__ import annotations

import contextlib
import queue
import smtplib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.smtp import EmailBackend

from .answers import DEADLINE_S, EXCERPT_BYTES, Answer, DeliveryError, readable

SMTP_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
# A log and nothing at all: who waits for an alert must not be told that it was delivered there.
NOWHERE = frozenset(
    {"django.core.mail.backends.console.EmailBackend", "django.core.mail.backends.dummy.EmailBackend"}
)
ACCEPTED = 250


def send_mail(message: EmailMessage, *, deadline_s: float = DEADLINE_S) -> Answer:
    """The server's answer once it has taken the mail for one address or more; raises DeliveryError.

    Permanent is a refusal of every address or of the content by a 5xx: the same mail would be refused again.
    Whatever else fails is tried again, also a 5xx to the login, the sender or the greeting, which are this
    installation's own and which somebody mends.

    Addresses that were refused while another was taken stand in the answer's excerpt. Tried again, the mail
    would come twice to those who have it.
    """
    if not reaches_people():
        raise DeliveryError("This installation has no mail server: EMAIL_URL names none.")
    started = time.perf_counter()
    if settings.EMAIL_BACKEND != SMTP_BACKEND:  # into a file or a list, as development and tests have it
        get_connection().send_messages([message])
        return Answer(ACCEPTED, excerpt=f"Given to {settings.EMAIL_BACKEND}.")
    dialogue = _Dialogue()
    failure = _talk(message, dialogue, deadline_s)
    if dialogue.accepted is None:
        raise _error(failure, dialogue, deadline_s)
    # Whatever went wrong afterwards, the server has the mail.
    said = [
        dialogue.accepted,
        *(f"Refused {address}: {reply}" for address, reply in dialogue.refused.items()),
    ]
    return Answer(
        ACCEPTED, excerpt=readable("\n".join(said)), duration_ms=(time.perf_counter() - started) * 1000
    )


def message_id(text: str) -> str:
    """The Message-ID of a mail that we call so: in the domain of the sender, as mail servers expect it."""
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "localhost"
    return f"<{text}@{domain.encode('idna').decode('ascii')}>"


def reaches_people() -> bool:
    """Whether EMAIL_URL leads anywhere."""
    return settings.EMAIL_IS_CONFIGURED and settings.EMAIL_BACKEND not in NOWHERE


@dataclass(slots=True)
class _Dialogue:
    """What the server said. Written by the thread that talks, read by the one that waits."""

    connection: smtplib.SMTP | None = None
    accepted: str | None = None
    refused: dict[str, str] = field(default_factory=dict)


def _talk(message: EmailMessage, dialogue: _Dialogue, deadline_s: float) -> Exception | None:
    """Sends the mail in a thread of its own, and gives back what went wrong; TimeoutError after the deadline.

    smtplib's timeout starts anew with each byte that comes, and the look-up of a name has none. So the
    connection is cut when the time is over, which ends the thread.
    """
    # A little longer than the deadline, so that it is the deadline that ends a wait.
    backend = _Backend(dialogue=dialogue, timeout=deadline_s + 1)
    outcomes: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def talk() -> None:
        try:
            backend.send_messages([message])
        except Exception as error:
            outcomes.put(error)
        else:
            outcomes.put(None)
        finally:
            if dialogue.connection is not None:
                dialogue.connection.close()  # Django leaves open what failed on the way in

    threading.Thread(target=talk, name=f"mail to {backend.host}", daemon=True).start()
    try:
        return outcomes.get(timeout=deadline_s)
    except queue.Empty:
        connection = dialogue.connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        return TimeoutError()


class _Backend(EmailBackend):
    """Django's, which hands out what the server said."""

    def __init__(self, *, dialogue: _Dialogue, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._dialogue = dialogue

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        dialogue, base = self._dialogue, super().connection_class

        class Connection(base):  # type: ignore[misc,valid-type]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                dialogue.connection = self  # before it connects, so that a greeting that drips can be cut
                super().__init__(*args, **kwargs)

            def data(self, msg: Any) -> tuple[int, bytes]:
                code, reply = super().data(msg)
                if code == ACCEPTED:
                    dialogue.accepted = f"{code} {_text(reply)}"
                return code, reply

            def rcpt(self, recip: str, options: Any = ()) -> tuple[int, bytes]:
                code, reply = super().rcpt(recip, options)
                if code not in (250, 251):
                    dialogue.refused[recip] = f"{code} {_text(reply)}"
                return code, reply

        return Connection


def _error(failure: Exception | None, dialogue: _Dialogue, deadline_s: float) -> DeliveryError:
    """What went wrong, in a sentence that a person in the team can take to whoever runs the mail server."""
    match failure:
        case smtplib.SMTPRecipientsRefused():
            codes = [int(reply.split(" ", 1)[0]) for reply in dialogue.refused.values()]
            said = "; ".join(f"{address}: {reply}" for address, reply in dialogue.refused.items())
            return DeliveryError(
                f"The mail server refused every address. {readable(said)}",
                permanent=all(500 <= code < 600 for code in codes),
                status=min(codes),
            )
        case smtplib.SMTPDataError(smtp_code=code, smtp_error=reply):
            return DeliveryError(
                f"The mail server refused the mail: {code} {_text(reply)}",
                permanent=500 <= code < 600,
                status=_status(code),
            )
        case smtplib.SMTPSenderRefused(smtp_code=code, smtp_error=reply, sender=sender):
            return DeliveryError(
                f"The mail server refused the sender {sender} (DEFAULT_FROM_EMAIL): {code} {_text(reply)}",
                status=_status(code),
            )
        case smtplib.SMTPAuthenticationError(smtp_code=code, smtp_error=reply):
            return DeliveryError(
                f"The mail server refused the login of EMAIL_URL: {code} {_text(reply)}", status=_status(code)
            )
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=reply):
            return DeliveryError(f"The mail server answered {code} {_text(reply)}", status=_status(code))
        case ssl.SSLCertVerificationError():
            return DeliveryError(f"The mail server's certificate is not valid: {failure.verify_message}.")
        case TimeoutError():
            return DeliveryError(f"The mail server gave no answer within {deadline_s:g} s.")
        case None:
            return DeliveryError("The mail was not sent: it has no address.")
        case _:
            return DeliveryError(f"The mail server could not be reached: {readable(str(failure))}")


def _text(reply: bytes | str) -> str:
    text = reply.decode("utf-8", errors="replace") if isinstance(reply, bytes) else reply
    return readable(" ".join(text[:EXCERPT_BYTES].split()))


def _status(code: int) -> int | None:
    """smtplib says -1 of an answer that is none."""
    return code if 100 <= code < 600 else None
