import django.db.models.deletion
from django.db import migrations, models

APPEND_ONLY = """
CREATE FUNCTION budgets_refuse_change_of_audit_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % is refused', TG_OP
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'audit_entry_is_append_only';
END $$;
CREATE TRIGGER audit_entry_is_append_only BEFORE UPDATE OR DELETE ON budgets_auditentry
    FOR EACH ROW EXECUTE FUNCTION budgets_refuse_change_of_audit_entry();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('budgets', '0002_daily_partitions'),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('actor', models.CharField(help_text='An e-mail address, a key or a command', max_length=300)),
                ('action', models.CharField(help_text='As noun and verb, e.g. feature.declared', max_length=60)),
                ('subject', models.CharField(help_text='What was changed, by the name that people know', max_length=450)),
                ('before', models.JSONField(null=True)),
                ('after', models.JSONField(null=True)),
                ('request_id', models.CharField(blank=True, default='', max_length=64)),
                ('team', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='budgets.team')),
            ],
            options={
                'verbose_name_plural': 'audit log',
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['team', '-id'], name='audit_entry_of_team')],
                'constraints': [models.CheckConstraint(condition=models.Q(('actor', ''), _negated=True), name='audit_entry_has_an_actor'), models.CheckConstraint(condition=models.Q(('action__regex', '^[a-z_]+\\.[a-z_]+$')), name='audit_entry_action_is_noun_and_verb')],
            },
        ),
        migrations.RunSQL(APPEND_ONLY, "DROP FUNCTION budgets_refuse_change_of_audit_entry CASCADE"),
    ]
