"""Every code that an error or a rejected item can have, with what it means.

The OpenAPI document and docs/reference/errors.md are made from these tables, and tests compare them with the
codes that stand in the source: a new code is written down here, or the tests fail.
"""

from __future__ import annotations

from typing import NamedTuple

from budgets.items import ComponentCall, MeasurementItem, RequestItem


class ErrorCode(NamedTuple):
    """The HTTP status that a code comes with, and a sentence for people."""

    status: int
    meaning: str


# Any operation may answer with these, whatever was asked.
EVERYWHERE = {
    "bad_request": ErrorCode(
        400, "The request itself is malformed, e.g. for a host that is not served here."
    ),
    "invalid_request": ErrorCode(400, "A parameter is missing or has the wrong type."),
    "unauthorized": ErrorCode(401, "No key was sent, or one that is wrong, expired or revoked."),
    "missing_scope": ErrorCode(403, "The key lacks the scope that the operation needs."),
    "internal_error": ErrorCode(500, "Something went wrong on our side; it was logged."),
    "database_unavailable": ErrorCode(503, "PostgreSQL does not answer. Nothing was stored; try again."),
}

# Any operation that takes a body may answer with these.
OF_BODIES = {
    "malformed_json": ErrorCode(400, "The body is not JSON. NaN and Infinity are no JSON."),
    "body_cut_off": ErrorCode(400, "The connection broke before the whole body had come."),
    "body_too_large": ErrorCode(413, "The body has over 1 MiB on the wire, or over 8 MiB inflated."),
}

OF_INGEST = {
    "invalid_body": ErrorCode(400, "The body is no object with the lists measurements and requests."),
    "empty_body": ErrorCode(400, "The body holds neither measurements nor requests."),
    "nothing_usable": ErrorCode(400, "Every item was rejected; the reasons stand in rejected."),
    "malformed_gzip": ErrorCode(400, "The body is announced as gzip and cannot be inflated."),
    "invalid_idempotency_key": ErrorCode(400, "Idempotency-Key has no 1 to 255 printable characters."),
    "idempotency_key_in_flight": ErrorCode(409, "A request under the same key is being stored just now."),
    "too_many_measurements": ErrorCode(413, "The body holds over 10 000 measurements."),
    "unsupported_media_type": ErrorCode(415, "Content-Type is not application/json in UTF-8."),
    "unsupported_encoding": ErrorCode(415, "Content-Encoding is neither gzip nor identity."),
    "idempotency_key_reused": ErrorCode(422, "The same key came with another payload within 24 h."),
    "backlog_full": ErrorCode(429, "Too many of the team's measurements wait to be rolled up."),
}

OF_DECLARING = {
    "invalid_document": ErrorCode(400, "A field is missing, unknown or of the wrong type."),
    "wrong_team": ErrorCode(400, "The document names another team than the key's."),
    "invalid_slug": ErrorCode(400, "The feature's slug has other characters than letters, digits, - and _."),
    "invalid_name": ErrorCode(400, "The name has no 1 to 200 characters."),
    "invalid_kind": ErrorCode(400, "The kind of feature is not known."),
    "invalid_runbook_url": ErrorCode(400, "The runbook's address is no web address."),
    "invalid_text": ErrorCode(400, "A text contains U+0000."),
    "too_many_components": ErrorCode(400, "A feature has at most 50 components."),
    "invalid_component": ErrorCode(400, "A component's name has no 1 to 200 characters."),
    "duplicate_component": ErrorCode(400, "A component is listed twice."),
    "invalid_milestone": ErrorCode(400, "The milestone is neither first_token nor complete."),
    "duplicate_milestone": ErrorCode(400, "A milestone stands twice."),
    "invalid_budget": ErrorCode(400, "A latency budget is not above 0, or over seven days."),
    "invalid_objective": ErrorCode(400, "An objective is not between 0 and 1, or has over 6 decimals."),
    "invalid_window": ErrorCode(400, "The window is none of those that there are."),
    "invalid_allocation": ErrorCode(400, "An allocation is not above 0, or over seven days."),
    "unknown_component": ErrorCode(400, "An allocation names a component that is not listed."),
    "component_allocated_twice": ErrorCode(400, "A component is allocated under both milestones."),
    "allocation_exceeds_budget": ErrorCode(400, "The allocations add up to more than the latency budget."),
    "first_token_exceeds_complete": ErrorCode(400, "first_token's latency budget is over complete's."),
    "unknown_feature": ErrorCode(404, "The key's team has no such feature."),
}

OF_READING = {
    "invalid_cursor": ErrorCode(400, "The cursor is no next_cursor of this list."),
    "invalid_instant": ErrorCode(400, "An instant is neither RFC 3339 with a zone nor Unix seconds."),
    "milestone_required": ErrorCode(400, "The feature has several milestones, or none: name one."),
    "unknown_target": ErrorCode(400, "The target is no milestone and no component of the feature."),
    "invalid_range": ErrorCode(400, "The range ends before it begins."),
    "invalid_step": ErrorCode(400, "The step is none of 60, 3600 and 86400."),
    "step_not_kept": ErrorCode(400, "Rollups of that step are no longer kept for that range."),
    "window_not_kept": ErrorCode(400, "No rollups are kept that are fine enough for that window."),
    "too_many_points": ErrorCode(400, "The range holds too many steps of that length."),
}

OF_ANNOTATIONS = {
    "invalid_annotation": ErrorCode(400, "An annotation cannot be made like that; fields says why."),
    "unknown_annotation": ErrorCode(404, "The key's team has no such annotation."),
    "too_many_annotations": ErrorCode(429, "The team made 500 annotations within 24 h."),
}

OF_ALERTS = {
    "invalid_state": ErrorCode(400, "The state of incidents is not known."),
    "invalid_note": ErrorCode(400, 'The body is not {"note": "…"} with at most 5000 characters.'),
    "unknown_incident": ErrorCode(404, "The key's team has no such incident."),
    "invalid_channel": ErrorCode(400, "A channel cannot be saved like that; fields says why."),
    "unknown_channel": ErrorCode(404, "The key's team has no such channel."),
    "invalid_silence": ErrorCode(400, "A silence cannot be made like that; fields says why."),
    "unknown_silence": ErrorCode(404, "The key's team has no such silence."),
    "invalid_maintenance_window": ErrorCode(
        400, "A maintenance window cannot be saved like that; fields says why."
    ),
    "unknown_maintenance_window": ErrorCode(404, "The key's team has no such maintenance window."),
    "invalid_schedule": ErrorCode(400, "An on-call schedule cannot be saved like that; fields says why."),
    "unknown_schedule": ErrorCode(404, "The key's team has no such on-call schedule."),
    "invalid_override": ErrorCode(
        400, "An override of a schedule cannot be made like that; fields says why."
    ),
    "unknown_override": ErrorCode(404, "The schedule has no such override, or it was taken back."),
    "invalid_escalation_policy": ErrorCode(
        400, "An escalation policy cannot be saved like that; fields says why."
    ),
    "unknown_escalation_policy": ErrorCode(404, "The key's team has no such escalation policy."),
    "named_by_policy": ErrorCode(409, "An escalation policy names it: take it out there first."),
    "invalid_rule": ErrorCode(400, "A rule cannot be saved like that; fields says why."),
    "default_rule": ErrorCode(409, "A default rule can be switched off and not deleted."),
    "unknown_rule": ErrorCode(404, "The feature has no such rule."),
}

# No operation answers with these: they tell of the address or the method.
OF_ADDRESSES = {
    "forbidden": ErrorCode(403, "That is not allowed."),
    "not_found": ErrorCode(404, "There is nothing at this address."),
    "method_not_allowed": ErrorCode(
        405, "The address does not take that method; Allow names those it takes."
    ),
}

ERRORS: dict[str, ErrorCode] = {
    **EVERYWHERE,
    **OF_BODIES,
    **OF_INGEST,
    **OF_DECLARING,
    **OF_READING,
    **OF_ANNOTATIONS,
    **OF_ALERTS,
    **OF_ADDRESSES,
}

# What pages and commands say no with; the API never answers with these.
BEYOND_THE_API = {
    "account_exists": "An invitation cannot make an account of that e-mail address: there is one.",
    "changed_meanwhile": "A feature was saved by somebody else since it was opened.",
    "for_another_account": "An invitation is for another e-mail address than that of who is logged in.",
    "invalid_invitation": "Nobody can be invited like that: the e-mail address or the role.",
    "invalid_key": "A key cannot be made like that: its name, its team or its scopes.",
    "invalid_reason": "Batches are discarded with a reason of 1 to 500 characters.",
    "invalid_report": "A report cannot be mailed like that: its period, its time zone or its environment.",
    "invalid_team": "A team cannot be made like that: its name, or its name in addresses.",
    "last_admin": "A team keeps at least one admin.",
    "no_batches": "There is no batch to discard, or all of them are discarded already.",
    "no_latency_budget": "A page was asked for a milestone that has no latency budget.",
    "no_secret": "A channel of that kind signs nothing.",
    "raw_incomplete": "A range cannot be rebuilt, because its raw measurements are no longer complete.",
    "slug_taken": "There is a feature of that slug already.",
    "test_under_way": "Another test of the channel waits for its answer.",
    "too_many_batches": "More batches than can be discarded at once.",
    "too_many_mails": "The address, or where it was asked from, had its share of mails of this hour.",
    "unknown_member": "The person is not in the team any more.",
    "unknown_milestone": "A page was asked for a milestone that the feature does not have.",
    "unknown_role": "A role is viewer, editor or admin.",
}

_OF_FIELDS = dict.fromkeys(
    f"invalid_{field}"
    for item in (MeasurementItem, RequestItem, ComponentCall)
    for field in item.__struct_fields__
)

# Why an item of a POST was refused, while the others were stored.
REJECTIONS: dict[str, str] = {
    **{
        code: f"{code.removeprefix('invalid_')} has the wrong type, or a value that it cannot have."
        for code in _OF_FIELDS
    },
    "missing_field": "A field that every item needs is missing.",
    "invalid_item": "The item is no object.",
    "malformed_item": "The item cannot be read as JSON in UTF-8.",
    "nested_too_deeply": "The item nests deeper than 100 levels.",
    "invalid_text": "A text contains U+0000 or half of a pair of surrogates.",
    "target_required": "Neither component nor milestone is named.",
    "target_ambiguous": "Both component and milestone are named.",
    "unknown_feature": "The key's team has no such feature: declare it first.",
    "feature_archived": "The feature is archived.",
    "unknown_milestone": "The milestone is neither first_token nor complete.",
    "too_many_environments": "The feature has 10 environments already.",
    "negative_duration": "duration_ms is below 0.",
    "duration_too_long": "duration_ms is over seven days.",
    "ended_in_the_future": "It ended more than 60 s ahead of its receipt.",
    "too_old": "It ended before the raw retention begins.",
    "empty_request": "A request has neither milestones nor components.",
    "milestone_required": "A request that is not ok does not name the milestone at which it ended.",
    "milestones_out_of_order": "first_token comes after complete.",
}
