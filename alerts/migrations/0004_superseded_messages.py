"""Messages that a newer one makes pointless, and a look at the open incidents of which nobody could be told."""

from django.db import migrations, models

# The sweep looks at them from now on, so that whoever can be told by then is told.
LOOK_AT_UNTOLD = """
    UPDATE alerts_followup SET next_at = statement_timestamp()
    FROM alerts_incident i
    WHERE i.id = incident_id AND i.state = 'open' AND told_at IS NULL AND next_at IS NULL
"""


class Migration(migrations.Migration):
    dependencies = [
        ("alerts", "0003_rules_silences_escalation"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="notification",
            name="notification_state_is_known",
        ),
        migrations.AlterField(
            model_name="notification",
            name="state",
            field=models.CharField(
                choices=[
                    ("pending", "Waiting to be sent"),
                    ("delivered", "Delivered"),
                    ("undeliverable", "Given up"),
                    ("superseded", "Superseded by a newer one"),
                ],
                default="pending",
                max_length=15,
            ),
        ),
        migrations.AddConstraint(
            model_name="notification",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["pending", "delivered", "undeliverable", "superseded"])),
                name="notification_state_is_known",
            ),
        ),
        migrations.RunSQL(LOOK_AT_UNTOLD, migrations.RunSQL.noop),
    ]
