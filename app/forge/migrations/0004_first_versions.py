"""Give every template that has no version yet its first one: what it says now."""

from django.db import migrations

BATCH = 500


def add_first_versions(apps, schema_editor):
    version = apps.get_model("forge", "TemplateVersion")
    templates = apps.get_model("forge", "Template").objects.filter(versions=None).order_by("pk")
    while batch := templates[:BATCH]:
        version.objects.bulk_create(
            version(
                template=template,
                number=1,
                title=template.title,
                agent_role=template.agent_role,
                workflow_phase=template.workflow_phase,
                body=template.body,
                created=template.updated,
            )
            for template in batch
        )


class Migration(migrations.Migration):
    dependencies = [("forge", "0003_versions_favourites_sync")]

    operations = [migrations.RunPython(add_first_versions, migrations.RunPython.noop, elidable=True)]
