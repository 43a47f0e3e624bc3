"""Slack, by an incoming webhook; Mattermost and Rocket.Chat take the same.

Sources: Slack's "Sending messages using incoming webhooks", "Reference: Block Kit" (a section's text has at most
3000 characters, a context block at most 10 elements) and "Formatting text for app surfaces" (which characters are
escaped).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from alerts.channels.fields import Field
from alerts.channels.message import Message
from alerts.channels.services import COLOURS, Post, Service, Verdict, cut, host_of, judge, unmentioned
from alerts.outbound import Answer
from alerts.wording import letter

MAX_SECTION_CHARACTERS = 3000
# What Slack answers, beside a 4xx, when no later try can succeed: the webhook, its channel or its team is gone,
# or the message is one that it never takes.
PERMANENT = frozenset(
    {
        "action_prohibited",
        "channel_is_archived",
        "channel_not_found",
        "invalid_blocks",
        "invalid_payload",
        "invalid_token",
        "no_active_hooks",
        "no_service",
        "no_service_id",
        "no_team",
        "no_text",
        "posting_to_general_channel_denied",
        "team_disabled",
        "too_many_attachments",
        "user_not_found",
    }
)

FIELDS = (
    Field(
        name="url",
        label="Webhook URL",
        expected="a text such as https://hooks.slack.com/services/T…/B…/…",
        hint="In Slack: api.slack.com/apps → your app → Incoming Webhooks → Add New Webhook to Workspace. "
        "Who has it can post, so it is not shown again.",
        example="https://hooks.slack.com/services/T…/B…/…",
        max_characters=2000,
        is_secret=True,
    ),
)


def post_of(config: Mapping[str, Any], message: Message, now: datetime) -> Post:
    """The lead as the message's own text, which notifications show; the rest at the coloured side of it."""
    content = letter(message.incident, message.story)
    links = " · ".join(f"<{_address(address)}|{escaped(text)}>" for text, address in content.links)
    blocks: list[dict[str, Any]] = []
    if content.sentences:
        blocks.append({"type": "section", "text": _text(content.sentences)})
    blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": links, "verbatim": True}})
    footer = escaped(f"Latency Dashboard, channel {' '.join(message.channel.split())}")
    blocks.append(
        {"type": "context", "elements": [{"type": "mrkdwn", "text": cut(footer, 2000), "verbatim": True}]}
    )
    return Post(
        config["url"],
        {
            "text": _joined([content.lead]),
            "attachments": [{"color": f"#{COLOURS[message.tone]:06x}", "blocks": blocks}],
            "unfurl_links": False,
            "unfurl_media": False,
        },
    )


def verdict(answer: Answer) -> Verdict | None:
    said = answer.excerpt.strip()
    if 400 <= answer.status < 500 and answer.status != 429 and said in PERMANENT:
        return Verdict(f"Slack answered {answer.status} {said}, which no other try would change.", True)
    return judge(answer)


def escaped(text: str) -> str:
    """As Slack shows it literally: no link, no mention of anybody.

    >>> escaped("<!channel> & <b>")
    '&lt;!channel&gt; &amp; &lt;b&gt;'
    """
    text = unmentioned(text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _text(sentences: tuple[str, ...]) -> dict[str, Any]:
    # verbatim: URLs, channels and people that are only written about are not made into links and mentions.
    return {"type": "mrkdwn", "text": _joined(sentences), "verbatim": True}


def _joined(sentences: tuple[str, ...] | list[str]) -> str:
    """Sentences a line each, as many as fit; none is cut within what an escape stands for."""
    text = ""
    for sentence in sentences:
        short = sentence
        while len(line := escaped(short)) > MAX_SECTION_CHARACTERS:
            short = cut(short, len(short) // 2)
        if len(text) + len(line) + 1 > MAX_SECTION_CHARACTERS:
            break
        text += f"\n{line}" if text else line
    return text


def _address(url: str) -> str:
    """A link ends at | and >."""
    return quote(url, safe="/%:@!$&'()*+,;=~-._?#[]").replace("&", "&amp;")


KIND = Service(
    label="Slack",
    fields=FIELDS,
    post_of=post_of,
    describe=lambda config: f"Slack by {host_of(config['url'])}",
    judge=verdict,
)
