"""Microsoft Teams, by the webhook of a workflow ("When a Teams webhook request is received"), as an Adaptive Card.

Sources: Microsoft's "Create incoming webhooks with Workflows" (a message with attachments of type
application/vnd.microsoft.card.adaptive; 202), the Adaptive Cards schema 1.4, and "Limits": 28 KB a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from alerts.channels.fields import Field
from alerts.channels.message import Message
from alerts.channels.services import Post, Service, Verdict, cut, document_in, host_of, judge
from alerts.outbound import Answer
from alerts.wording import letter

# Ten of these stay below 28 KB also where every character takes four bytes.
MAX_SENTENCE_CHARACTERS = 500
STYLES = {
    "page": "attention",
    "ticket": "warning",
    "taken": "accent",
    "over": "good",
    "silent": "emphasis",
}

FIELDS = (
    Field(
        name="url",
        label="Workflow URL",
        expected="the URL of a workflow, such as https://….logic.azure.com/workflows/…",
        hint="In Teams: the channel's … → Workflows → Post to a channel when a webhook request is received. "
        "Who has it can post, so it is not shown again.",
        example="https://….logic.azure.com/workflows/…",
        max_characters=2000,
        is_secret=True,
    ),
)


def post_of(config: Mapping[str, Any], message: Message, now: datetime) -> Post:
    """Texts stand in RichTextBlocks, whose runs are shown as they are: a TextBlock would read Markdown in names."""
    content = letter(message.incident, message.story)
    body: list[dict[str, Any]] = [
        {
            "type": "Container",
            "style": STYLES[message.tone],
            "bleed": True,
            "items": [_run(content.lead, weight="Bolder")],
        },
        *(_run(sentence) for sentence in content.sentences),
        _run(f"Latency Dashboard, channel {' '.join(message.channel.split())}", isSubtle=True, size="Small"),
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": cut(content.lead, MAX_SENTENCE_CHARACTERS),
        "body": body,
        "actions": [
            {"type": "Action.OpenUrl", "title": text, "url": address} for text, address in content.links
        ],
        "msteams": {"width": "Full"},
    }
    return Post(
        config["url"],
        {
            "type": "message",
            "attachments": [
                {
                    "contentType": "application/vnd.microsoft.card.adaptive",
                    "contentUrl": None,
                    "content": card,
                }
            ],
        },
    )


def _run(text: str, **look: Any) -> dict[str, Any]:
    run = {"type": "TextRun", "text": cut(text, MAX_SENTENCE_CHARACTERS), **look}
    return {"type": "RichTextBlock", "inlines": [run]}


def verdict(answer: Answer) -> Verdict | None:
    """The connectors that workflows replace say 200 also to what they could not post."""
    if answer.status == 200 and "failed with error" in answer.excerpt:
        return Verdict("Teams answered 200 and said that it could not post the message.")
    error = document_in(answer).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    if answer.status == 404 and code == "WorkflowNotFound":
        return Verdict("The workflow was deleted (WorkflowNotFound).", True)
    return judge(answer)


KIND = Service(
    label="Microsoft Teams",
    fields=FIELDS,
    post_of=post_of,
    describe=lambda config: f"Microsoft Teams by {host_of(config['url'])}",
    judge=verdict,
)
