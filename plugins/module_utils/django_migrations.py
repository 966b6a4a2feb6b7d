# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release's migrations are, and which of them code from before them cannot live with.

Its text is given to `manage.py shell` of the release, which has Django; the modules of the collection have not.
"""

from __future__ import annotations

MARK = "groundwork-migrations:"
"""Begin of the line that report() prints."""
CHECKED = "groundwork-checked"
"""The line that check() prints when the project has passed."""


def fits_older_field(field, older) -> bool:
    """Whether code that knows the older field can go on with the newer one."""
    python_only = {*field.non_db_attrs, "auto_now", "auto_now_add", "default", "max_length", "null"}

    def column(some_field) -> tuple:
        _name, path, arguments, options = some_field.deconstruct()
        return path, arguments, {key: value for key, value in options.items() if key not in python_only}

    not_tighter = field.null or not older.null
    not_shorter = field.max_length is None or (older.max_length is not None and field.max_length >= older.max_length)
    return not_tighter and not_shorter and column(field) == column(older)


def misfits(operation, app, state) -> list[tuple[str, str]]:
    """What one operation of an app does that older code cannot live with: the model and a few words, for each.

    The model is empty where it cannot be told.
    """
    from django.db import migrations, models

    if isinstance(operation, migrations.SeparateDatabaseAndState):
        return [misfit for inner in operation.database_operations for misfit in misfits(inner, app, state)]
    name = (
        getattr(operation, "model_name", None) or getattr(operation, "old_name", None) or getattr(operation, "name", "")
    )
    model = f"{app}.{name.lower()}" if name else ""
    words = ""
    if isinstance(operation, migrations.AddField):
        field = operation.field
        has_default = getattr(field, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED
        if not (field.many_to_many or field.null or has_default or getattr(field, "generated", False)):
            words = f"adds {name}.{operation.name}, which older code leaves empty"
    elif isinstance(operation, migrations.AlterField):
        # Operations on the database alone may be about what the state does not have.
        before = state.models.get((app, operation.model_name_lower))
        older = before and before.fields.get(operation.name)
        words = "" if older and fits_older_field(operation.field, older) else f"alters {name}.{operation.name}"
    elif isinstance(operation, migrations.RemoveField):
        words = f"removes {name}.{operation.name}"
    elif isinstance(operation, migrations.RenameField):
        words = f"renames {name}.{operation.old_name}"
    elif isinstance(operation, migrations.DeleteModel):
        words = f"removes the model {name}"
    elif isinstance(operation, migrations.RenameModel):
        words = f"renames the model {name}"
    elif isinstance(operation, migrations.AlterModelTable):
        words = f"renames the table of {name}"
    elif isinstance(operation, migrations.AddConstraint):
        words = f"adds the constraint {operation.constraint.name}"
    elif isinstance(operation, migrations.AlterUniqueTogether):
        words = f"adds a constraint to {name}" if operation.option_value else ""
    elif isinstance(operation, migrations.RunSQL):
        model, words = "", "runs SQL of its own"
    elif not harmless(operation):
        model, words = "", f"does something that is not known to be harmless ({type(operation).__name__})"
    return [(model, words)] if words else []


def harmless(operation) -> bool:
    """Whether an operation is of a kind that older code never notices."""
    from django.db import migrations

    kinds = (
        *(migrations.CreateModel, migrations.AddIndex, migrations.RemoveIndex, migrations.RenameIndex),
        *(migrations.RemoveConstraint, migrations.AlterIndexTogether, migrations.AlterOrderWithRespectTo),
        *(migrations.AlterModelOptions, migrations.AlterModelManagers, migrations.AlterModelTableComment),
        migrations.RunPython,
    )
    return isinstance(operation, kinds) or type(operation).__module__.startswith("django.contrib.postgres.")


def look(executor) -> dict:
    """Which migrations the release has, which are applied, and what those to come do.

    `squashed` are those that stand for others that are applied: migrate will only write their names down.
    """
    from django.db import migrations

    loader = executor.loader
    state = executor._create_project_state(with_applied_migrations=True)
    pending = {}
    for migration, _backwards in executor.migration_plan(loader.graph.leaf_nodes()):
        app, creates, found = migration.app_label, [], []
        for operation in migration.operations:
            if isinstance(operation, migrations.CreateModel):
                creates.append(f"{app}.{operation.name_lower}")
            found += misfits(operation, app, state)
            operation.state_forwards(app, state)
        pending[f"{app}.{migration.name}"] = {"creates": creates, "misfits": found}
    # Those that a squashed one replaces are not in the graph, although the release knows them.
    known = set(loader.disk_migrations)
    for migration in loader.disk_migrations.values():
        known.update(tuple(replaced) for replaced in migration.replaces)
    applied = set(loader.applied_migrations)
    return {
        "known": names(known),
        "applied": names(applied),
        "squashed": names(applied - set(executor.recorder.applied_migrations())),
        "pending": pending,
    }


def names(nodes) -> list[str]:
    """Pairs of app and name as one word each."""
    return sorted(f"{app}.{name}" for app, name in nodes)


def changes_nothing(found: dict) -> bool:
    """Whether `migrate` has no migration to apply, and no name of one to write down."""
    return not found["pending"] and not found["squashed"]


def check() -> None:
    """Run what `manage.py check --deploy` runs; its errors end the process as they do there."""
    from django.core.management import call_command

    call_command("check", deploy=True, fail_level="ERROR")
    print(CHECKED, flush=True)


def report() -> dict:
    """Print a line with what the release says of its migrations, and return that."""
    import json

    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    found = {"known": [], "applied": [], "squashed": [], "pending": {}}
    # A site without a database has no migrations.
    if connection.settings_dict["ENGINE"] != "django.db.backends.dummy":
        found = look(MigrationExecutor(connection))
    print(MARK + json.dumps(found), flush=True)
    return found


def report_and_migrate() -> None:
    """Report, and run `migrate` at once where it changes nothing: who waits for its end is told all the same."""
    from django.core.management import call_command

    if changes_nothing(report()):
        call_command("migrate", interactive=False, skip_checks=False)
