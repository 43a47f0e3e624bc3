"""Telegram, by a bot that writes into a chat.

Source: Telegram's "Bot API": sendMessage (a text of 1 to 4096 characters after entities are parsed), "HTML style"
(<, > and & are written as entities), "Making requests" (ok, error_code, description) and ResponseParameters
(retry_after, migrate_to_chat_id). The token stands in the URL, so it is masked like a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any

from alerts.channels.fields import Field
from alerts.channels.message import Message
from alerts.channels.services import Post, Service, Verdict, api_url, cut, document_in, judge, unmentioned
from alerts.outbound import Answer
from alerts.wording import letter

API = "https://api.telegram.org"
# Of UTF-16, in which Telegram counts, with room for the links' own texts.
MAX_UNITS = 3900

FIELDS = (
    Field(
        name="token",
        label="Bot token",
        expected="a bot's token, such as 110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
        hint="From @BotFather in Telegram: /newbot. Add the bot to the chat.",
        pattern=r"[0-9]{3,20}:[A-Za-z0-9_-]{30,80}",
        is_secret=True,
    ),
    Field(
        name="chat_id",
        label="Chat",
        expected="a chat's number, such as -1001234567890, or the name of a public channel, such as @alerts",
        hint="-100… of a group, or @name of a public channel. A group's number stands in the bot's getUpdates "
        "after somebody has written there.",
        example="-1001234567890",
        pattern=r"-?[0-9]{1,20}|@[A-Za-z0-9_]{4,32}",
        is_number_allowed=True,
    ),
    Field(
        name="topic_id",
        label="Topic (optional)",
        expected="the number of a topic of a forum",
        hint="Of a group with topics: the number in the topic's link.",
        pattern=r"[0-9]{1,18}",
        is_required=False,
        is_number_allowed=True,
    ),
    api_url("Telegram", API),
)


def post_of(config: Mapping[str, Any], message: Message, now: datetime) -> Post:
    content = letter(message.incident, message.story)
    left = MAX_UNITS
    lines = []
    for sentence in (content.lead, *content.sentences):
        short = cut(sentence, 900)
        left -= _units(short) + 1
        if left < 0:
            break
        lines.append(escape(unmentioned(short), quote=True))
    links = [f'<a href="{escape(address, quote=True)}">{escape(text)}</a>' for text, address in content.links]
    text = "\n".join([f"<b>{lines[0]}</b>", *lines[1:], " · ".join(links)])
    document: dict[str, Any] = {
        "chat_id": config["chat_id"],
        "text": text,
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }
    if "topic_id" in config:
        document["message_thread_id"] = int(config["topic_id"])
    return Post(f"{config.get('api_url', API).rstrip('/')}/bot{config['token']}/sendMessage", document)


def verdict(answer: Answer) -> Verdict | None:
    document = document_in(answer)
    if document.get("ok") is not False:
        return judge(answer)
    parameters = document.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    said = f"Telegram refuses it: {str(document.get('description', ''))[:300]}"
    if isinstance(moved := parameters.get("migrate_to_chat_id"), int):
        # Whoever saves the channel with the new number within the day gets the message.
        return Verdict(f"{said}. The group has the number {moved} now: change the channel's chat.")
    asked = parameters.get("retry_after")
    retry_after_s = float(asked) if isinstance(asked, int) and asked >= 0 else None
    return Verdict(said, answer.status in (400, 401, 403, 404), retry_after_s)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


KIND = Service(
    label="Telegram",
    fields=FIELDS,
    post_of=post_of,
    describe=lambda config: f"Telegram, chat {config['chat_id']}",
    judge=verdict,
)
