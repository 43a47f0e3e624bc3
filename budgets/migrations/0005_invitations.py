import django.db.models.deletion
import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('budgets', '0004_failed_batches'),
    ]

    operations = [
        migrations.CreateModel(
            name='AccountMail',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('password_reset', 'Password reset'), ('invitation', 'Invitation')], max_length=20)),
                ('address', models.EmailField(max_length=254)),
                ('source', models.CharField(help_text='A network address or a person', max_length=300)),
                ('asked_at', models.DateTimeField()),
                ('due_at', models.DateTimeField(null=True)),
                ('sent_at', models.DateTimeField(null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['address', 'asked_at'], name='account_mail_of_address'), models.Index(fields=['source', 'asked_at'], name='account_mail_of_source'), models.Index(condition=models.Q(('due_at__isnull', False)), fields=['due_at'], name='account_mail_due')],
                'constraints': [models.CheckConstraint(condition=models.Q(('kind__in', ['password_reset', 'invitation'])), name='account_mail_kind_is_known'), models.CheckConstraint(condition=models.Q(('address', django.db.models.functions.text.Lower('address')), models.Q(('address', ''), _negated=True)), name='account_mail_address_is_in_lower_case'), models.CheckConstraint(condition=models.Q(('due_at', None), ('sent_at', None), _connector='OR'), name='account_mail_is_not_due_once_sent')],
            },
        ),
        migrations.CreateModel(
            name='Invitation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('email', models.EmailField(max_length=254, verbose_name='e-mail address')),
                ('role', models.CharField(choices=[('viewer', 'Viewer'), ('editor', 'Editor'), ('admin', 'Admin')], max_length=10)),
                ('status', models.CharField(choices=[('pending', 'Pending'), ('accepted', 'Accepted'), ('withdrawn', 'Withdrawn')], default='pending', max_length=10)),
                ('invited_by', models.CharField(max_length=300)),
                ('created_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('sent_at', models.DateTimeField(null=True)),
                ('settled_at', models.DateTimeField(null=True)),
                ('team', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='invitations', to='budgets.team')),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('status', 'pending')), fields=('team', 'email'), name='invitation_one_pending_per_address'), models.CheckConstraint(condition=models.Q(('role__in', ['viewer', 'editor', 'admin'])), name='invitation_role_is_known'), models.CheckConstraint(condition=models.Q(models.Q(('settled_at', None), ('status', 'pending')), models.Q(('settled_at__isnull', False), ('status__in', ['accepted', 'withdrawn'])), _connector='OR'), name='invitation_settled_at_exactly_when_settled'), models.CheckConstraint(condition=models.Q(('email', django.db.models.functions.text.Lower('email')), models.Q(('email', ''), _negated=True)), name='invitation_address_is_in_lower_case'), models.CheckConstraint(condition=models.Q(('expires_at__gt', models.F('created_at'))), name='invitation_expires_after_it_was_made')],
            },
        ),
    ]
