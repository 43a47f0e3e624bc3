"""What the baseline checks of an item: types, ranges and lengths, as the product does."""

from typing import Any

from rest_framework import serializers

_NAME = {"max_length": 200}
_OPTIONAL = {"required": False, "allow_null": True}


class MeasurementSerializer(serializers.Serializer[Any]):
    feature = serializers.CharField(**_NAME)
    component = serializers.CharField(**_NAME, **_OPTIONAL)
    milestone = serializers.ChoiceField(["first_token", "complete"], **_OPTIONAL)
    started_at = serializers.DateTimeField()
    duration_ms = serializers.FloatField(min_value=0, max_value=604_800_000)
    status = serializers.ChoiceField(["ok", "error", "timeout"], default="ok")
    trace_id = serializers.RegexField(r"^[0-9a-f]{32}$", **_OPTIONAL)
    span_id = serializers.RegexField(r"^[0-9a-f]{16}$", **_OPTIONAL)
    parent_span_id = serializers.RegexField(r"^[0-9a-f]{16}$", **_OPTIONAL)
    environment = serializers.CharField(default="production", **_NAME)
    release = serializers.CharField(default="", allow_blank=True, **_NAME)
    labels = serializers.DictField(**_OPTIONAL)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if (attrs.get("component") is None) is (attrs.get("milestone") is None):
            raise serializers.ValidationError("Exactly one of component and milestone is needed.")
        return attrs
