import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('alerts', '0002_email_tests_and_deleted_channels'),
        ('budgets', '0007_discarded_batches_rejected_payloads'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='EscalationPolicy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200)),
                ('position', models.PositiveIntegerField(default=0)),
                ('matchers', models.JSONField(blank=True, default=list, help_text="As a silence's; empty: every incident")),
                ('steps', models.JSONField(help_text='[{"notify": [{"kind": "channel" | "schedule" | "person", "name": …}], "wait_minutes": 5}, …]')),
                ('repetitions', models.PositiveIntegerField(default=0, help_text='How often the steps begin anew after the last')),
                ('reminder_minutes', models.PositiveIntegerField(blank=True, default=60, help_text='From one reminder of who acknowledged to the next; empty: none', null=True)),
                ('unacknowledge_minutes', models.PositiveIntegerField(blank=True, help_text='After so long without a word from who acknowledged, nobody has it any more; empty: never', null=True)),
                ('is_enabled', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'ordering': ['position', 'name'],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='escalation_policy_has_a_name'),
                    models.CheckConstraint(condition=models.Q(('steps', []), _negated=True), name='escalation_policy_has_a_step'),
                    models.CheckConstraint(condition=models.Q(('repetitions__lte', 9)), name='escalation_policy_at_most_ten_rounds'),
                    models.CheckConstraint(condition=models.Q(models.Q(('reminder_minutes', None), ('reminder_minutes__gte', 5), _connector='OR'), models.Q(('unacknowledge_minutes', None), ('unacknowledge_minutes__gte', 5), _connector='OR')), name='escalation_policy_waits_at_least_5_minutes'),
                ],
            },
        ),
        migrations.CreateModel(
            name='FollowUp',
            fields=[
                ('incident', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='follow_up', serialize=False, to='alerts.incident')),
                ('policy', models.JSONField(help_text='The frozen escalation policy; empty: all channels at once', null=True)),
                ('step', models.PositiveSmallIntegerField(default=0, help_text='The next step of the policy, from 0')),
                ('round', models.PositiveSmallIntegerField(default=0, help_text='How often the steps were begun, from 0')),
                ('next_step_at', models.DateTimeField(help_text='Empty: no step is to come', null=True)),
                ('told_at', models.DateTimeField(help_text='When anybody was last told anything', null=True)),
                ('news_at', models.DateTimeField(help_text='Since when something is known that nobody was told', null=True)),
                ('held_since', models.DateTimeField(help_text='Since when a message is held back', null=True)),
                ('held_by', models.CharField(blank=True, default='', help_text='The silence or maintenance window', max_length=300)),
                ('heard_at', models.DateTimeField(help_text='When who acknowledged it last said something', null=True)),
                ('next_at', models.DateTimeField(help_text='When it is to be looked at next; empty: when something happens to it', null=True)),
            ],
            options={
                'indexes': [
                    models.Index(condition=models.Q(('next_at__isnull', False)), fields=['next_at'], name='follow_up_due'),
                ],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(models.Q(('held_by', ''), ('held_since', None)), models.Q(('held_since__isnull', False), models.Q(('held_by', ''), _negated=True)), _connector='OR'), name='follow_up_says_what_holds_it'),
                ],
            },
        ),
        migrations.CreateModel(
            name='LivingAlert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('next_at', models.DateTimeField()),
                ('sent_at', models.DateTimeField(help_text='When it last arrived', null=True)),
                ('sent_count', models.PositiveIntegerField(default=0)),
                ('error', models.TextField(blank=True, default='', help_text='Why the last try failed; empty where it did not')),
            ],
            options={
                'indexes': [
                    models.Index(fields=['next_at'], name='living_alert_due'),
                ],
            },
        ),
        migrations.CreateModel(
            name='MaintenanceWindow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200)),
                ('matchers', models.JSONField(help_text="As a silence's; empty: every incident of the team")),
                ('reason', models.TextField(blank=True, default='')),
                ('time_zone', models.CharField(help_text='IANA name, e.g. Europe/Berlin', max_length=100)),
                ('starts_on', models.DateField(help_text='Of the first window, in its time zone')),
                ('starts_at', models.TimeField(help_text='Of every window, in its time zone')),
                ('duration_minutes', models.PositiveIntegerField()),
                ('recurrence', models.CharField(blank=True, default='', help_text='RRULE of RFC 5545; empty: once', max_length=500)),
                ('is_enabled', models.BooleanField(default=True)),
                ('author', models.CharField(help_text='A person or a key', max_length=300)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'ordering': ['name'],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='maintenance_window_has_a_name'),
                    models.CheckConstraint(condition=models.Q(('duration_minutes__gte', 1), ('duration_minutes__lte', 10080)), name='maintenance_window_lasts_a_minute_to_a_week'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Schedule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200)),
                ('time_zone', models.CharField(help_text='IANA name, e.g. Europe/Berlin', max_length=100)),
                ('starts_on', models.DateField(help_text='The day of the first hand-over, in its time zone; nobody before')),
                ('hands_over_at', models.TimeField(help_text='The time of day of every hand-over, in its time zone')),
                ('turn_days', models.PositiveSmallIntegerField(default=7, help_text='From one hand-over to the next')),
                ('hours', models.JSONField(blank=True, default=list, help_text='[{"days": ["mon", …], "from": "09:00", "to": "17:00"}, …]; empty: around the clock')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'ordering': ['name'],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='schedule_has_a_name'),
                    models.CheckConstraint(condition=models.Q(('turn_days__gte', 1), ('turn_days__lte', 56)), name='schedule_turn_is_a_day_to_eight_weeks'),
                ],
            },
        ),
        migrations.CreateModel(
            name='ScheduleOverride',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('author', models.CharField(help_text='A person or a key', max_length=300)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'ordering': ['starts_at', 'id'],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('ends_at__gt', models.F('starts_at'))), name='schedule_override_ends_after_it_starts'),
                ],
            },
        ),
        migrations.CreateModel(
            name='ScheduleTurn',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField()),
            ],
            options={
                'ordering': ['position'],
            },
        ),
        migrations.CreateModel(
            name='Silence',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('matchers', models.JSONField(help_text='[{"name": "feature", "operator": "=", "value": "support-chat"}], all must fit')),
                ('reason', models.TextField()),
                ('author', models.CharField(help_text='A person or a key', max_length=300)),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('ended_by', models.CharField(blank=True, default='', help_text='Who ended it before its time', max_length=300)),
            ],
            options={
                'ordering': ['-ends_at', '-id'],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('ends_at__gte', models.F('starts_at'))), name='silence_ends_after_it_starts'),
                    models.CheckConstraint(condition=models.Q(('reason', ''), _negated=True), name='silence_has_a_reason'),
                    models.CheckConstraint(condition=models.Q(('matchers', []), _negated=True), name='silence_matches_something_named'),
                ],
            },
        ),
        migrations.RemoveConstraint(
            model_name='alertrule',
            name='alert_rule_once',
        ),
        migrations.RemoveConstraint(
            model_name='alertrule',
            name='alert_rule_target_fits_its_kind',
        ),
        migrations.RemoveConstraint(
            model_name='channel',
            name='channel_kind_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='incidentevent',
            name='incident_event_kind_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='notification',
            name='notification_once_per_event_and_severity',
        ),
        migrations.RemoveConstraint(
            model_name='notification',
            name='notification_event_is_known',
        ),
        migrations.AddField(
            model_name='alertrule',
            name='component',
            field=models.CharField(blank=True, help_text='By name; empty: every component', max_length=200, null=True),
        ),
        migrations.AddField(
            model_name='alertrule',
            name='is_default',
            field=models.BooleanField(default=False, help_text='Made by an evaluation, not by a person'),
        ),
        migrations.AddField(
            model_name='alertrule',
            name='name',
            field=models.CharField(default='', help_text="Once per feature; a default rule's is its kind and milestone", max_length=200),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='alertrule',
            name='parameters',
            field=models.JSONField(blank=True, default=dict, help_text='What the kind asks for, by name'),
        ),
        migrations.AddField(
            model_name='alertrule',
            name='severity',
            field=models.CharField(blank=True, choices=[('ticket', 'Ticket'), ('page', 'Page')], help_text='Empty: what its kind decides', max_length=10, null=True),
        ),
        migrations.AddField(
            model_name='channel',
            name='owner',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='channels', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='incident',
            name='attribution',
            field=models.JSONField(help_text='How the components share in it, and by what: causes.Attribution', null=True),
        ),
        migrations.AddField(
            model_name='incident',
            name='changes',
            field=models.JSONField(default=list, help_text='What changed in the two hours before: [{kind, at, text}], newest first'),
        ),
        migrations.AddField(
            model_name='incident',
            name='is_flapping',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='incident',
            name='reopened_at',
            field=models.DateTimeField(help_text='The last time that it came back', null=True),
        ),
        migrations.AddField(
            model_name='incident',
            name='reopenings',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='notification',
            name='because',
            field=models.CharField(blank=True, default='', help_text="Why this channel: a policy's step, a schedule", max_length=300),
        ),
        migrations.AddField(
            model_name='notification',
            name='occurrence',
            field=models.PositiveIntegerField(default=0, help_text='Counts what is told several times'),
        ),
        migrations.AlterField(
            model_name='alertrule',
            name='kind',
            field=models.CharField(choices=[('burn_rate', 'Burn rate'), ('component_overrun', 'Component overrun'), ('timeouts', 'Timeouts'), ('error_budget', 'Error budget'), ('threshold', 'Static threshold'), ('trend', 'Trend'), ('forecast', 'Forecast'), ('no_data', 'No data'), ('unallocated_component', 'Unallocated component')], max_length=30),
        ),
        migrations.AlterField(
            model_name='channel',
            name='kind',
            field=models.CharField(choices=[('webhook', 'Webhook'), ('email', 'Email'), ('slack', 'Slack'), ('pagerduty', 'PagerDuty'), ('opsgenie', 'Opsgenie'), ('teams', 'Microsoft Teams'), ('discord', 'Discord'), ('telegram', 'Telegram'), ('alertmanager', 'Prometheus Alertmanager'), ('apprise', 'Apprise')], max_length=20),
        ),
        migrations.AlterField(
            model_name='incidentevent',
            name='kind',
            field=models.CharField(choices=[('opened', 'Opened'), ('evidence', 'A rule joined or left'), ('severity_raised', 'Severity raised'), ('cause_changed', 'Cause changed'), ('acknowledged', 'Acknowledged'), ('unacknowledged', 'Nobody has it any more'), ('resolved', 'Resolved'), ('reopened', 'Came back'), ('flapping', 'Comes and goes'), ('merged', 'Merged'), ('noted', 'Note'), ('told', 'Who was told')], max_length=20),
        ),
        migrations.AlterField(
            model_name='notification',
            name='event',
            field=models.CharField(choices=[('incident.opened', 'Opened'), ('incident.updated', 'What is known has changed'), ('incident.repeated', 'Still open'), ('incident.reopened', 'Came back'), ('incident.acknowledged', 'Acknowledged'), ('incident.reminder', 'Reminder of who has it'), ('incident.unacknowledged', 'Nobody has it any more'), ('incident.resolved', 'Resolved'), ('incident.test', 'Test')], max_length=30),
        ),
        # What there is so far was made by evaluations, which name their rules so.
        migrations.RunSQL(
            """
            UPDATE alerts_alertrule SET is_default = true, name = kind || coalesce(' ' || milestone, '')
                || CASE environment WHEN 'production' THEN '' ELSE ' (' || environment || ')' END
            """,
            migrations.RunSQL.noop,
        ),
        migrations.AddIndex(
            model_name='incident',
            index=models.Index(fields=['-resolved_at'], name='incident_resolved_lately'),
        ),
        migrations.AddConstraint(
            model_name='alertrule',
            constraint=models.UniqueConstraint(fields=('feature', 'name'), name='alert_rule_name_once_per_feature'),
        ),
        migrations.AddConstraint(
            model_name='alertrule',
            constraint=models.UniqueConstraint(condition=models.Q(('is_default', True)), fields=('feature', 'environment', 'kind', 'milestone'), name='alert_rule_default_once', nulls_distinct=False),
        ),
        migrations.AddConstraint(
            model_name='alertrule',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='alert_rule_has_a_name'),
        ),
        migrations.AddConstraint(
            model_name='alertrule',
            constraint=models.CheckConstraint(condition=models.Q(('component', ''), _negated=True), name='alert_rule_component_is_not_empty'),
        ),
        migrations.AddConstraint(
            model_name='alertrule',
            constraint=models.CheckConstraint(condition=models.Q(('severity', None), ('severity__in', ['ticket', 'page']), _connector='OR'), name='alert_rule_severity_is_known'),
        ),
        migrations.AddConstraint(
            model_name='alertrule',
            constraint=models.CheckConstraint(condition=models.Q(('milestone', None), ('milestone__in', ['first_token', 'complete']), _connector='OR'), name='alert_rule_milestone_is_known'),
        ),
        migrations.AddConstraint(
            model_name='alertrule',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('component', None), ('kind__in', ['burn_rate', 'error_budget', 'forecast']), ('milestone__isnull', False)), models.Q(('kind__in', ['component_overrun', 'timeouts']), ('milestone', None)), models.Q(('component', None), ('kind', 'unallocated_component'), ('milestone', None)), models.Q(('component', None), ('kind__in', ['threshold', 'trend']), ('milestone__isnull', False)), models.Q(('component__isnull', False), ('kind__in', ['threshold', 'trend']), ('milestone', None)), models.Q(('kind', 'no_data'), models.Q(('milestone', None), ('component', None), _connector='OR')), _connector='OR'), name='alert_rule_target_fits_its_kind'),
        ),
        migrations.AddConstraint(
            model_name='channel',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['webhook', 'email', 'slack', 'pagerduty', 'opsgenie', 'teams', 'discord', 'telegram', 'alertmanager', 'apprise'])), name='channel_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='incident',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('reopened_at', None), ('reopenings', 0)), models.Q(('reopened_at__isnull', False), ('reopenings__gte', 1)), _connector='OR'), name='incident_reopened_at_exactly_when_reopened'),
        ),
        migrations.AddConstraint(
            model_name='incidentevent',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['opened', 'evidence', 'severity_raised', 'cause_changed', 'acknowledged', 'unacknowledged', 'resolved', 'reopened', 'flapping', 'merged', 'noted', 'told'])), name='incident_event_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='notification',
            constraint=models.UniqueConstraint(fields=('incident', 'channel', 'event', 'severity', 'occurrence'), name='notification_once_per_event_severity_and_occurrence'),
        ),
        migrations.AddConstraint(
            model_name='notification',
            constraint=models.CheckConstraint(condition=models.Q(('event__in', ['incident.opened', 'incident.updated', 'incident.repeated', 'incident.reopened', 'incident.acknowledged', 'incident.reminder', 'incident.unacknowledged', 'incident.resolved', 'incident.test'])), name='notification_event_is_known'),
        ),
        migrations.AddField(
            model_name='escalationpolicy',
            name='team',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='escalation_policies', to='budgets.team'),
        ),
        migrations.AddField(
            model_name='livingalert',
            name='channel',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='alerts.channel'),
        ),
        migrations.AddField(
            model_name='livingalert',
            name='incident',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='alerts.incident'),
        ),
        migrations.AddField(
            model_name='maintenancewindow',
            name='team',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='maintenance_windows', to='budgets.team'),
        ),
        migrations.AddField(
            model_name='schedule',
            name='team',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='schedules', to='budgets.team'),
        ),
        migrations.AddField(
            model_name='scheduleoverride',
            name='person',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='scheduleoverride',
            name='schedule',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='overrides', to='alerts.schedule'),
        ),
        migrations.AddField(
            model_name='scheduleturn',
            name='person',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='scheduleturn',
            name='schedule',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='turns', to='alerts.schedule'),
        ),
        migrations.AddField(
            model_name='silence',
            name='team',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='silences', to='budgets.team'),
        ),
        migrations.AddConstraint(
            model_name='escalationpolicy',
            constraint=models.UniqueConstraint(fields=('team', 'name'), name='escalation_policy_name_once_per_team'),
        ),
        migrations.AddConstraint(
            model_name='livingalert',
            constraint=models.UniqueConstraint(fields=('incident', 'channel'), name='living_alert_once_per_channel'),
        ),
        migrations.AddConstraint(
            model_name='maintenancewindow',
            constraint=models.UniqueConstraint(fields=('team', 'name'), name='maintenance_window_name_once_per_team'),
        ),
        migrations.AddConstraint(
            model_name='schedule',
            constraint=models.UniqueConstraint(fields=('team', 'name'), name='schedule_name_once_per_team'),
        ),
        migrations.AddIndex(
            model_name='scheduleoverride',
            index=models.Index(fields=['schedule', 'ends_at'], name='schedule_override_by_end'),
        ),
        migrations.AddConstraint(
            model_name='scheduleturn',
            constraint=models.UniqueConstraint(fields=('schedule', 'position'), name='schedule_turn_position_once'),
        ),
        migrations.AddIndex(
            model_name='silence',
            index=models.Index(fields=['team', '-ends_at'], name='silence_of_team_by_end'),
        ),
        # What is open goes on being told of: by the clock, as if it had opened with this version. Last, for what a
        # transaction wrote keeps it from changing the table.
        migrations.RunSQL(
            """
            INSERT INTO alerts_followup (incident_id, step, round, held_by, told_at, heard_at, next_at)
            SELECT i.id, 0, 0, '', (SELECT max(n.created_at) FROM alerts_notification n WHERE n.incident_id = i.id),
                   i.acknowledged_at, now()
            FROM alerts_incident i WHERE i.state <> 'resolved'
            """,
            migrations.RunSQL.noop,
        ),
    ]
