"""Discord, by a webhook of a channel, as one embed.

Source: Discord's "Execute Webhook", "Embed Limits" (title 256 characters, description 4096, footer 2048, all together
6000), "Allowed Mentions" and "Rate Limits" (429 with retry_after in seconds, in the body and as a header).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from alerts.channels.fields import Field
from alerts.channels.message import Message
from alerts.channels.services import COLOURS, Post, Service, Verdict, cut, document_in, host_of, judge
from alerts.outbound import Answer
from alerts.wording import letter
from budgets.features import instant

MAX_TITLE_CHARACTERS = 256
MAX_DESCRIPTION_CHARACTERS = 4000

FIELDS = (
    Field(
        name="url",
        label="Webhook URL",
        expected="a text such as https://discord.com/api/webhooks/…/…",
        hint="In Discord: the channel's settings → Integrations → Webhooks → New Webhook → Copy Webhook URL. "
        "Who has it can post, so it is not shown again.",
        example="https://discord.com/api/webhooks/…/…",
        max_characters=2000,
        is_secret=True,
    ),
)


def post_of(config: Mapping[str, Any], message: Message, now: datetime) -> Post:
    content = letter(message.incident, message.story)
    links = " · ".join(f"[{escaped(text)}]({_address(address)})" for text, address in content.links)
    lines = [escaped(cut(sentence, 600)) for sentence in content.sentences]
    while len(description := "\n".join([*lines, links])) > MAX_DESCRIPTION_CHARACTERS and lines:
        lines.pop()
    footer = f"Latency Dashboard, channel {' '.join(message.channel.split())}"
    embed = {
        "title": _title(content.lead),
        "url": message.incident["url"],
        "description": description,
        "color": COLOURS[message.tone],
        "timestamp": instant(message.timestamp),
        "footer": {"text": cut(footer, 300)},
    }
    return Post(config["url"], {"embeds": [embed], "allowed_mentions": {"parse": []}})


def verdict(answer: Answer) -> Verdict | None:
    document = document_in(answer)
    if answer.status == 429:
        asked = document.get("retry_after")
        retry_after_s = float(asked) if isinstance(asked, (int, float)) and asked >= 0 else None
        return Verdict("Discord answered 429: too many messages.", retry_after_s=retry_after_s)
    # Its own codes tell Discord's word from that of a proxy: 10015 is a webhook that was deleted.
    if answer.status in (400, 401, 403, 404) and isinstance(document.get("code"), int):
        said = str(document.get("message", ""))[:300]
        return Verdict(f"Discord refuses it: {said} (code {document['code']}).", True)
    return judge(answer)


def escaped(text: str) -> str:
    r"""As Discord shows it literally.

    >>> escaped("*a* <@7> [x](y) `z` a_b")
    '\\*a\\* \\<\\@7\\> \\[x\\]\\(y\\) \\`z\\` a\\_b'
    """
    return re.sub(r"([\\*_~`|<>\[\]()#@:-])", r"\\\1", text)


def _title(text: str) -> str:
    """Escaped and within the limit, and never ending between a backslash and what it escapes."""
    short = text
    while len(title := escaped(short)) > MAX_TITLE_CHARACTERS:
        short = cut(short, len(short) - max(1, (len(title) - MAX_TITLE_CHARACTERS) // 2))
    return title


def _address(url: str) -> str:
    """A link ends at a bracket."""
    return quote(url, safe="/%:@!$&'*+,;=~-._?#")


KIND = Service(
    label="Discord",
    fields=FIELDS,
    post_of=post_of,
    describe=lambda config: f"Discord by {host_of(config['url'])}",
    judge=verdict,
)
