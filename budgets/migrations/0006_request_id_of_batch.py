from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('budgets', '0005_invitations'),
    ]

    operations = [
        migrations.AddField(
            model_name='batch',
            name='request_id',
            field=models.CharField(blank=True, db_default='', default='', help_text='Id of the request that it came with', max_length=64),
        ),
    ]
