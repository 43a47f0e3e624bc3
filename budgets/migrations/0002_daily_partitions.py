"""The tables that are partitioned by day, which Django cannot create by itself.

Partitions are made by budgets.partitions: ahead of time by a sweep, and on demand by the writer that needs one.
There is no default partition: a row that has no home must be an error, not a surprise for the next partition.
"""

import django.db.models.deletion
import django.db.models.expressions
from django.db import migrations, models

# Narrow rows, wide columns first. No primary key: nothing looks up one measurement, and a unique index
# would cost more than the rest of the insert.
# The two BRIN indexes cost next to nothing while rows arrive: a sweep summarises page ranges once they are full
# (without autosummarize, which asks for it one range at a time and fills the log when autovacuum cannot follow):
# one finds a batch (claimed by the roll-up) or a time range, the other, of Bloom filters, finds a trace.
# Measured at 1000 rows a commit against no index at all: BRIN both 0.92, BRIN and a btree on trace_id 0.50.
MEASUREMENTS = """
CREATE TABLE budgets_measurement (
    ended_at timestamptz NOT NULL,
    duration_ms double precision NOT NULL
        CONSTRAINT measurement_duration_between_0_and_7_days CHECK (duration_ms >= 0 AND duration_ms <= 604800000),
    batch_id bigint NOT NULL,
    span_id bigint,
    parent_span_id bigint,
    series_id integer NOT NULL,
    status smallint NOT NULL CONSTRAINT measurement_status_is_known CHECK (status IN (0, 1, 2)),
    trace_id uuid,
    labels jsonb
) PARTITION BY RANGE (ended_at);
CREATE INDEX measurement_by_batch_and_time ON budgets_measurement
    USING brin (batch_id, ended_at) WITH (pages_per_range = 32);
CREATE INDEX measurement_by_trace ON budgets_measurement
    USING brin (trace_id uuid_bloom_ops (n_distinct_per_range = 3000, false_positive_rate = 0.01))
    WITH (pages_per_range = 32);
"""

SPANS = """
CREATE TABLE budgets_span (
    ended_at timestamptz NOT NULL,
    duration_ms double precision NOT NULL
        CONSTRAINT span_duration_between_0_and_7_days CHECK (duration_ms >= 0 AND duration_ms <= 604800000),
    batch_id bigint NOT NULL,
    span_id bigint,
    parent_span_id bigint,
    series_id integer NOT NULL,
    status smallint NOT NULL CONSTRAINT span_status_is_known CHECK (status IN (0, 1, 2)),
    trace_id uuid NOT NULL
) PARTITION BY RANGE (ended_at);
CREATE INDEX span_by_batch_and_time ON budgets_span
    USING brin (batch_id, ended_at) WITH (pages_per_range = 32);
CREATE INDEX span_by_trace ON budgets_span
    USING brin (trace_id uuid_bloom_ops (n_distinct_per_range = 3000, false_positive_rate = 0.01))
    WITH (pages_per_range = 32);
"""

# A minute is updated by every roll-up while it runs: room on the page keeps those updates away from the index.
MINUTES = """
CREATE TABLE budgets_rollup_minute (
    start timestamptz NOT NULL,
    series_id integer NOT NULL,
    total integer NOT NULL,
    errors integer NOT NULL,
    timeouts integer NOT NULL,
    judged integer NOT NULL,
    good integer NOT NULL,
    over integer NOT NULL,
    sum_us bigint NOT NULL,
    max_ms double precision,
    max_trace_id uuid,
    max_ok_ms double precision,
    min_timeout_ms double precision,
    scale smallint NOT NULL,
    zero_count integer NOT NULL,
    histogram bytea NOT NULL,
    CONSTRAINT budgets_rollup_minute_pkey PRIMARY KEY (series_id, start),
    CONSTRAINT minuterollup_counts_add_up
        CHECK (total > 0 AND errors >= 0 AND timeouts >= 0 AND total >= errors + timeouts),
    CONSTRAINT minuterollup_judged_at_most_total
        CHECK (judged IN (0, total) OR (judged > 0 AND judged <= total)),
    CONSTRAINT minuterollup_good_and_over_at_most_judged
        CHECK (good >= 0 AND over >= 0 AND judged >= good + over)
) PARTITION BY RANGE (start);
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0001_teams_features_measurements_rollups")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(MEASUREMENTS, "DROP TABLE budgets_measurement"),
                migrations.RunSQL(SPANS, "DROP TABLE budgets_span"),
                migrations.RunSQL(MINUTES, "DROP TABLE budgets_rollup_minute"),
            ],
            state_operations=[
                migrations.CreateModel(
                    name='MinuteRollup',
                    fields=[
                        ('start', models.DateTimeField()),
                        ('total', models.IntegerField()),
                        ('errors', models.IntegerField()),
                        ('timeouts', models.IntegerField()),
                        ('judged', models.IntegerField()),
                        ('good', models.IntegerField()),
                        ('over', models.IntegerField()),
                        ('sum_us', models.BigIntegerField()),
                        ('max_ms', models.FloatField(null=True)),
                        ('max_trace_id', models.UUIDField(help_text='Exemplar: trace of the slowest', null=True)),
                        ('max_ok_ms', models.FloatField(null=True)),
                        ('min_timeout_ms', models.FloatField(null=True)),
                        ('scale', models.SmallIntegerField()),
                        ('zero_count', models.IntegerField()),
                        ('histogram', models.BinaryField()),
                        ('pk', models.CompositePrimaryKey('series_id', 'start', blank=True, editable=False, primary_key=True, serialize=False)),
                        ('series', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='budgets.series')),
                    ],
                    options={
                        'db_table': 'budgets_rollup_minute',
                        'abstract': False,
                    },
                ),
                migrations.CreateModel(
                    name='Measurement',
                    fields=[
                        ('pk', models.CompositePrimaryKey('series_id', 'ended_at', 'batch_id', blank=True, editable=False, primary_key=True, serialize=False)),
                        ('ended_at', models.DateTimeField()),
                        ('duration_ms', models.FloatField()),
                        ('status', models.SmallIntegerField(choices=[(0, 'ok'), (1, 'error'), (2, 'timeout')])),
                        ('trace_id', models.UUIDField(null=True)),
                        ('span_id', models.BigIntegerField(help_text='16 hex digits, read as a signed big-endian integer', null=True)),
                        ('parent_span_id', models.BigIntegerField(null=True)),
                        ('labels', models.JSONField(null=True)),
                        ('batch', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='budgets.batch')),
                        ('series', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='budgets.series')),
                    ],
                ),
                migrations.CreateModel(
                    name='Span',
                    fields=[
                        ('pk', models.CompositePrimaryKey('trace_id', 'ended_at', 'series_id', 'batch_id', blank=True, editable=False, primary_key=True, serialize=False)),
                        ('ended_at', models.DateTimeField()),
                        ('duration_ms', models.FloatField()),
                        ('status', models.SmallIntegerField(choices=[(0, 'ok'), (1, 'error'), (2, 'timeout')])),
                        ('trace_id', models.UUIDField(help_text='A request without one keeps no spans: nothing could find them')),
                        ('span_id', models.BigIntegerField(null=True)),
                        ('parent_span_id', models.BigIntegerField(null=True)),
                        ('batch', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='budgets.batch')),
                        ('series', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='budgets.series')),
                    ],
                ),
                migrations.AddConstraint(
                    model_name='minuterollup',
                    constraint=models.CheckConstraint(condition=models.Q(('errors__gte', 0), ('timeouts__gte', 0), ('total__gt', 0), ('total__gte', django.db.models.expressions.CombinedExpression(models.F('errors'), '+', models.F('timeouts')))), name='minuterollup_counts_add_up'),
                ),
                migrations.AddConstraint(
                    model_name='minuterollup',
                    constraint=models.CheckConstraint(condition=models.Q(('judged__in', [0, models.F('total')]), models.Q(('judged__gt', 0), ('judged__lte', models.F('total'))), _connector='OR'), name='minuterollup_judged_at_most_total'),
                ),
                migrations.AddConstraint(
                    model_name='minuterollup',
                    constraint=models.CheckConstraint(condition=models.Q(('good__gte', 0), ('judged__gte', django.db.models.expressions.CombinedExpression(models.F('good'), '+', models.F('over'))), ('over__gte', 0)), name='minuterollup_good_and_over_at_most_judged'),
                ),
                migrations.AddConstraint(
                    model_name='measurement',
                    constraint=models.CheckConstraint(condition=models.Q(('duration_ms__gte', 0), ('duration_ms__lte', 604800000)), name='measurement_duration_between_0_and_7_days'),
                ),
                migrations.AddConstraint(
                    model_name='measurement',
                    constraint=models.CheckConstraint(condition=models.Q(('status__in', [0, 1, 2])), name='measurement_status_is_known'),
                ),
                migrations.AddConstraint(
                    model_name='span',
                    constraint=models.CheckConstraint(condition=models.Q(('duration_ms__gte', 0), ('duration_ms__lte', 604800000)), name='span_duration_between_0_and_7_days'),
                ),
                migrations.AddConstraint(
                    model_name='span',
                    constraint=models.CheckConstraint(condition=models.Q(('status__in', [0, 1, 2])), name='span_status_is_known'),
                ),
            ],
        ),
    ]
