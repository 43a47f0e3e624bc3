"""A real SMTP server that plays the mail server of an installation."""

from __future__ import annotations

import socketserver
import ssl
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

HANG = "hang"
DRIP = "drip"
CLOSE = "close"


@dataclass(frozen=True)
class ReceivedMail:
    """A mail that was taken: its envelope and its bytes."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.content, policy=policy.default)  # type: ignore[return-value]

    @property
    def subject(self) -> str:
        """As it is read: Django begins a long one on a line of its own, whose space is no part of it."""
        return str(self.message["Subject"]).strip()

    def part(self, kind: str) -> str:
        """The text of the "plain" or "html" part."""
        part = self.message.get_body(preferencelist=(kind,))
        assert part is not None
        return part.get_content()


@dataclass
class _Dialogue:
    sender: str = ""
    recipients: list[str] = field(default_factory=list)


class MailServer:
    """Takes mail at 127.0.0.1 and records it, unless it was told to answer a command otherwise.

    with MailServer() as server:
        server.answer("RCPT", "450 4.2.1 later", "550 5.1.1 unknown")  # the first two; then 250
        server.answer("DATA", HANG)
        ...
        (mail,) = server.mails

    Commands are GREETING, EHLO, AUTH, MAIL, RCPT, DATA, CONTENT (the full stop after the mail) and QUIT. HANG
    says nothing until the server is closed, DRIP a letter every 50 ms without an end, CLOSE hangs up.
    """

    def __init__(self, *, extensions: tuple[str, ...] = (), tls: ssl.SSLContext | None = None) -> None:
        self.extensions, self.tls = extensions, tls
        self.mails: list[ReceivedMail] = []
        self.commands: list[str] = []
        self.closing = threading.Event()
        self._replies: defaultdict[str, deque[str]] = defaultdict(deque)
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="mail server", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def answer(self, command: str, *replies: str) -> None:
        """The replies to the next of these commands, one each."""
        self._replies[command].extend(replies)

    def reply_to(self, command: str, usual: str) -> str:
        waiting = self._replies[command]
        return waiting.popleft() if waiting else usual

    def close(self) -> None:
        """Ends the server and every connection that hangs. Repeating is harmless."""
        if not self.closing.is_set():
            self.closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self) -> MailServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False  # so that closing joins them, and no test leaves one behind

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is what some tests are about; anything else is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Ended(Exception):
    """The connection is over."""


def _handler(server: MailServer) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        timeout = 30  # a client that connects and says nothing holds up no test run

        def handle(self) -> None:
            try:
                self._reply("GREETING", "220 mail.example.test ESMTP")
                dialogue = _Dialogue()
                while line := self.rfile.readline():
                    self._obey(line.decode("utf-8").strip(), dialogue)
            except _Ended:
                pass

        def _obey(self, line: str, dialogue: _Dialogue) -> None:
            server.commands.append(line)
            match line.split(" ")[0].upper():
                case "EHLO":
                    lines = ["mail.example.test", *server.extensions]
                    usual = "\r\n".join(f"250-{each}" for each in lines[:-1])
                    self._reply("EHLO", f"{usual}\r\n250 {lines[-1]}".strip())
                case "STARTTLS":
                    self._reply("STARTTLS", "220 go ahead")
                    assert server.tls is not None
                    self.request = server.tls.wrap_socket(self.request, server_side=True)
                    self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)
                case "AUTH":
                    self._reply("AUTH", "235 2.7.0 welcome")
                case "MAIL":
                    dialogue.sender, dialogue.recipients = line.split("<")[1].split(">")[0], []
                    self._reply("MAIL", "250 2.1.0 ok")
                case "RCPT":
                    if self._reply("RCPT", "250 2.1.5 ok").startswith("250"):
                        dialogue.recipients.append(line.split("<")[1].split(">")[0])
                case "DATA":
                    if self._reply("DATA", "354 go on").startswith("354"):
                        self._take(dialogue)
                case "RSET":
                    self._reply("RSET", "250 2.0.0 ok")
                case "QUIT":
                    self._reply("QUIT", "221 2.0.0 bye")
                    raise _Ended
                case _:
                    self._reply("?", "502 5.5.2 no such command")

        def _take(self, dialogue: _Dialogue) -> None:
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line[1:] if line.startswith(b".") else line)
            reply = server.reply_to("CONTENT", "250 2.0.0 queued as 4XyZ")
            if reply.startswith("250"):
                mail = ReceivedMail(dialogue.sender, tuple(dialogue.recipients), b"".join(lines))
                server.mails.append(mail)
            self._say(reply)

        def _reply(self, command: str, usual: str) -> str:
            reply = server.reply_to(command, usual)
            self._say(reply)
            return reply

        def _say(self, reply: str) -> None:
            if reply == HANG:
                server.closing.wait()
                raise _Ended
            if reply == CLOSE:
                raise _Ended
            if reply == DRIP:
                while not server.closing.wait(0.05):
                    self.wfile.write(b"2")
                raise _Ended
            self.wfile.write(f"{reply}\r\n".encode())

    return Handler


@pytest.fixture
def mail_server(settings: Any) -> Iterator[MailServer]:
    """The mail server that this installation is configured to use, of this test alone."""
    with MailServer() as server:
        use_mail_server(settings, server)
        yield server


def use_mail_server(settings: Any, server: MailServer, **more: Any) -> None:
    """Configures the installation as EMAIL_URL would."""
    settings.EMAIL_IS_CONFIGURED = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.DEFAULT_FROM_EMAIL = "Latency Dashboard <alerts@latency.example.com>"
    for name, value in more.items():
        setattr(settings, name, value)
