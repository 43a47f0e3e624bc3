"""Items that are wrong in every way that JSON allows, for property tests. Their feature is "chat"."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.factories import item, request_item

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "feature",
    "component",
    "milestone",
    "started_at",
    "duration_ms",
    "status",
    "trace_id",
    "span_id",
    "parent_span_id",
    "environment",
    "release",
    "labels",
    "milestones",
    "components",
    "offset_ms",
]
broken_items = json_values | st.builds(
    lambda changes: item("chat") | changes,
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3),
)
broken_requests = json_values | st.builds(
    lambda changes: request_item("chat") | changes,
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3),
)
