# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copy the rows of a project from an SQLite file into the site's empty database, all or nothing.

Its text is given to `manage.py shell` of the release after that of django_migrations; the release has Django, the
modules of the collection have not. Rows go from table to table as they are: no signal is sent, no date is renewed, keys
stay.
"""

from __future__ import annotations

IMPORT_MARK = "groundwork-import:"
"""Begin of the line that import_rows() prints."""
SOURCE = "groundwork_import"
"""Alias of the SQLite file while the program runs; the project's settings file stays as it is."""
ROWS_AT_A_TIME = 500
VALUES_AT_A_TIME = 30000
COMPARED_ROWS = 10000
"""A table of the target with more rows than this is not compared: migrations do not make so many."""
LOCK_SECONDS = 10
NAMED = 5


class Refused(Exception):
    """Why nothing was imported, as one sentence."""


class Shared:
    """Content types or permissions: rows that migrations make, with numbers of their own in each database.

    They are known by their names. What only the file has is added, so that no row points to nothing.
    """

    def __init__(self, model, source, target, inner=None):
        self.model, self.inner = model, inner
        self.there = {self.name(row, False): row["pk"] for row in self.rows(target)}
        self.target = target
        self.names = {row["pk"]: (self.name(row, True), row) for row in self.rows(source)}

    def rows(self, alias):
        """Rows of one database, as dictionaries."""
        from django.db.models import QuerySet

        fields = [field.attname for field in self.model._meta.local_concrete_fields]
        for values in QuerySet(self.model, using=alias).values_list("pk", *fields):
            yield dict(zip(("pk", *fields), values, strict=True))

    def name(self, row, of_source):
        """What a row is known by in both databases."""
        if self.inner is None:
            return row["app_label"], row["model"]
        inner = self.inner.number(row["content_type_id"]) if of_source else row["content_type_id"]
        return inner, row["codename"]

    def number(self, pk):
        """The key in the target of a row that has this key in the file; None where it points to nothing there."""
        if pk not in self.names:
            return None
        name, row = self.names[pk]
        if name not in self.there:
            values = {key: value for key, value in row.items() if key not in ("pk", self.model._meta.pk.attname)}
            if self.inner is not None:
                values["content_type_id"] = name[0]
            self.there[name] = self.model._base_manager.using(self.target).create(**values).pk
        return self.there[name]

    def number_there(self, pk):
        """The same, but nothing is added: None for what the target has not."""
        return self.there.get(self.names[pk][0]) if pk in self.names else None


class Table:
    """One table of the project, with the fields that have a column of their own in it."""

    def __init__(self, model):
        self.model = model
        self.label = model._meta.label
        self.name = model._meta.db_table
        self.fields = [field for field in model._meta.local_concrete_fields if not getattr(field, "generated", False)]
        self.shared = {}
        self.lengths = {}

    def rows(self, alias, **conditions):
        """Values of the fields, row by row, without holding all of them."""
        from django.db.models import QuerySet

        found = QuerySet(self.model, using=alias).filter(**conditions).order_by()
        return found.values_list(*(field.attname for field in self.fields)).iterator(chunk_size=ROWS_AT_A_TIME)

    def count(self, alias):
        from django.db.models import QuerySet

        return QuerySet(self.model, using=alias).count()

    def pointed(self, values, number):
        """Values with the target's numbers of content types and permissions in the place of the file's."""
        return [
            number(self.shared[field.attname], value) if field.attname in self.shared and value is not None else value
            for field, value in zip(self.fields, values, strict=True)
        ]

    def key(self, values):
        """The primary key among the values of a row."""
        return next((value for field, value in zip(self.fields, values, strict=True) if field.primary_key), "?")


def open_source(path):
    """Make the file known as a database of the project, for reading only. Nothing is written beside it."""
    from urllib.parse import quote

    from django.db import connections

    connections.databases[SOURCE] = {
        **connections.databases["default"],
        **dict.fromkeys(("USER", "PASSWORD", "HOST", "PORT"), ""),
        **{"ENGINE": "django.db.backends.sqlite3", "NAME": f"file:{quote(path)}?mode=ro&immutable=1", "OPTIONS": {}},
        **{"ATOMIC_REQUESTS": False, "AUTOCOMMIT": True, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False},
        "TIME_ZONE": None,
    }
    return connections[SOURCE]


def check_migrations(source, target, look):
    """The release, the file and the database have to have the same migrations. Raises Refused.

    look: what says which migrations a database has, and which are to come.
    """
    from django.db.migrations.executor import MigrationExecutor
    from django.db.migrations.recorder import MigrationRecorder

    if not MigrationRecorder(source).has_table():
        raise Refused("The file has no table django_migrations: it is not the database of a Django project")
    found = look(MigrationExecutor(source))
    unknown = sorted(set(found["applied"]) - set(found["known"]))
    if unknown:
        raise Refused(
            f"The file has migrations that the release has not ({few(unknown)}): release the code that it was made by"
        )
    if found["pending"]:
        raise Refused(
            f"The file lacks migrations of the release ({few(sorted(found['pending']))}): run migrate on it first, "
            "with the same code"
        )
    pending = look(MigrationExecutor(target))["pending"]
    if pending:
        raise Refused(f"The site's database lacks migrations ({few(sorted(pending))}): deploy the site first")


def few(names):
    """The first of some names, and how many there are beside them."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def tables_of_project(target_alias):
    """The tables that are copied, and the models whose rows are matched by name."""
    from django.apps import apps
    from django.db import router

    matched, found = {}, []
    for model in apps.get_models(include_auto_created=True):
        meta = model._meta
        if not meta.managed or meta.proxy or meta.swapped or not router.allow_migrate_model(target_alias, model):
            continue
        if meta.label in ("contenttypes.ContentType", "auth.Permission"):
            matched[meta.label] = model
        elif not is_session(model):
            found.append(Table(model))
    return found, matched


def in_both(tables, source, target):
    """The tables that both databases have: a model may do without one. Raises Refused where rows would be lost."""
    found, lacking = [], []
    with source.cursor() as of_source, target.cursor() as of_target:
        in_source = set(source.introspection.table_names(of_source))
        in_target = set(target.introspection.table_names(of_target))
    for table in tables:
        if table.name in in_source & in_target:
            found.append(table)
        elif table.name in in_source and table.count(source.alias):
            lacking.append(table.name)
    if lacking:
        raise Refused(f"The site's database has no table for rows of the file ({few(lacking)})")
    return found


def is_session(model):
    """Whether rows of a model are sessions: everybody signs in anew."""
    return any(
        f"{base.__module__}.{base.__name__}".endswith("base_session.AbstractBaseSession") for base in model.__mro__
    )


def match_shared(tables, matched, source_alias, target_alias):
    """Have the tables know which of their fields point to content types and permissions."""
    shared = {}
    if "contenttypes.ContentType" in matched:
        types = Shared(matched["contenttypes.ContentType"], source_alias, target_alias)
        shared[types.model] = types
        if "auth.Permission" in matched:
            shared[matched["auth.Permission"]] = Shared(matched["auth.Permission"], source_alias, target_alias, types)
    for table in tables:
        for field in table.fields:
            remote = field.remote_field.model if field.remote_field else None
            if remote in shared:
                table.shared[field.attname] = shared[remote]


def check_references(source):
    """Every reference in the file has to lead somewhere. Raises Refused."""
    with source.cursor() as cursor:
        cursor.execute("PRAGMA foreign_key_check")
        broken = sorted({f"{row[0]} row {row[1]} to {row[2]}" for row in cursor.fetchmany(1000)})
    if broken:
        raise Refused(f"The file has references to rows that are not there ({few(broken)}): mend them in it first")


def tables_without_model(source, tables, matched):
    """Tables of the file with rows that no model of the release stands for."""
    from django.apps import apps

    known = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    known |= {"django_migrations", "sqlite_sequence", *(table.name for table in tables)}
    known |= {model._meta.db_table for model in matched.values()}
    found = []
    with source.cursor() as cursor:
        for name in sorted(set(source.introspection.table_names(cursor)) - known):
            cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {source.ops.quote_name(name)})")
            if cursor.fetchone()[0]:
                found.append(name)
    return found


def is_in_file(table, source_alias, target_alias):
    """Whether the file has all rows of the target too, as where a migration has made them in both.

    Each has its own time then, so times are not looked at.
    """
    from itertools import compress

    from django.db.models import DateTimeField

    compared = [not isinstance(field, DateTimeField) for field in table.fields]
    if table.count(target_alias) > COMPARED_ROWS or not any(field.primary_key for field in table.fields):
        return False
    if table.label == "sites.Site" and [row[1] for row in table.rows(target_alias)] == ["example.com"]:
        return True
    there = {}
    for values in table.rows(target_alias):
        there[table.key(values)] = list(compress(values, compared))
    keys = list(there)
    for start in range(0, len(keys), ROWS_AT_A_TIME):
        for values in table.rows(source_alias, pk__in=keys[start : start + ROWS_AT_A_TIME]):
            wanted = compress(table.pointed(values, Shared.number_there), compared)
            if there.get(table.key(values)) == list(wanted):
                del there[table.key(values)]
    return not there


def check_empty(tables, source_alias, target_alias, replace):
    """The tables of the target that have rows, which are to be removed. Raises Refused for rows of its own."""
    filled = {table.label: table.count(target_alias) for table in tables}
    filled = {label: number for label, number in filled.items() if number}
    found = [table for table in tables if table.label in filled]
    if not replace:
        own = [table for table in found if not is_in_file(table, source_alias, target_alias)]
        if own:
            listed = few([f"{table.label} {filled[table.label]}" for table in own])
            raise Refused(
                f"The site's database has rows that the file has not ({listed}): import into an empty one, or have "
                "them removed with -e import_sqlite_replace=true"
            )
        if all(filled.get(table.label, 0) == table.count(source_alias) for table in tables):
            raise Refused("The site's database has all rows of the file already")
    return found


def measure(table, target):
    """Have a table know how long the texts in its columns may be; SQLite does not look at that."""
    import re

    for field in table.fields:
        if found := re.fullmatch(r"varchar\(([0-9]+)\)", field.db_type(target) or ""):
            table.lengths[field.attname] = int(found.group(1))


def has_zero_byte(value):
    """Whether there is a zero byte in a text, or in one within a value of JSON."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(has_zero_byte(part) for pair in value.items() for part in pair)
    return isinstance(value, (list, tuple)) and any(has_zero_byte(part) for part in value)


def check_values(table, values):
    """What PostgreSQL would not take, although SQLite has. Raises Refused."""
    for field, value in zip(table.fields, values, strict=True):
        longest = table.lengths.get(field.attname)
        fault = ""
        if has_zero_byte(value):
            fault = "has a zero byte, which PostgreSQL takes in no text"
        elif longest and isinstance(value, str) and len(value) > longest:
            fault = f"has {len(value)} characters, and {longest} fit"
        if fault:
            raise Refused(f"{table.label} {table.key(values)}: {field.name} {fault}; change the row in the file")


def given(table, alias):
    """How many values that are not null each column has."""
    from django.db.models import Count, JSONField, QuerySet

    # The null of JSON is no null in the database, and is read as one.
    names = [field.attname for field in table.fields if not isinstance(field, JSONField)]
    return QuerySet(table.model, using=alias).aggregate(**{f"given_{name}": Count(name) for name in names})


def sound_rows(table, source_alias):
    """The rows of the file that PostgreSQL can take. Raises Refused for the first one that it cannot."""
    last, rows, wanted = None, table.rows(source_alias), given(table, source_alias)
    read = dict.fromkeys(wanted, 0)
    while True:
        try:
            values = next(rows, None)
        except Exception as error:
            after = "the first row" if last is None else f"the row after {last}"
            raise Refused(f"{table.label}: {after} cannot be read from the file ({telling(error)})") from error
        if values is None:
            break
        check_values(table, values)
        last = table.key(values)
        for field, value in zip(table.fields, values, strict=True):
            if value is not None and f"given_{field.attname}" in read:
                read[f"given_{field.attname}"] += 1
        yield values
    # Django reads a date that is none as null.
    for name, number in wanted.items():
        if number != read[name]:
            unread = f"{number - read[name]} values of {name[len('given_') :]}"
            raise Refused(f"{table.label}: {unread} cannot be read; change them in the file")


def telling(error):
    """The first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def insert(table, target_alias, rows):
    """Insert rows as they are. Raises Refused, which names the row that is refused."""
    from types import SimpleNamespace

    from django.db import DatabaseError, transaction
    from django.db.models import JSONField, Value
    from django.db.models.sql import InsertQuery

    def as_stored(field, value):
        # The null of JSON is read like that of SQL, which this column does not take.
        is_json_null = value is None and isinstance(field, JSONField) and not field.null
        return Value(None, field) if is_json_null else value

    objects = [
        SimpleNamespace(
            **{field.attname: as_stored(field, value) for field, value in zip(table.fields, values, strict=True)}
        )
        for values in rows
    ]
    query = InsertQuery(table.model)
    # Raw: no field may put its own value, such as the time, in the place of the file's.
    query.insert_values(table.fields, objects, raw=True)
    try:
        with transaction.atomic(using=target_alias):
            query.get_compiler(using=target_alias).execute_sql()
    except (DatabaseError, TypeError, ValueError, OverflowError) as error:
        if len(rows) > 1:
            for values in rows:
                insert(table, target_alias, [values])
        key = table.key(rows[0])
        raise Refused(f"{table.label} {key} is not taken by the site's database ({telling(error)})") from error


def copy(table, source_alias, target_alias):
    """Copy all rows of a table, some at a time."""
    at_a_time = max(1, min(ROWS_AT_A_TIME, VALUES_AT_A_TIME // max(1, len(table.fields))))
    rows = []
    for values in sound_rows(table, source_alias):
        rows.append(table.pointed(values, Shared.number))
        if len(rows) == at_a_time:
            insert(table, target_alias, rows)
            rows = []
    if rows:
        insert(table, target_alias, rows)


def hold(tables, target):
    """Let nobody else write to the tables until the end; who wants to waits, reading goes on. Raises Refused."""
    from django.db import OperationalError

    with target.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        if cursor.fetchone()[0] == "on":
            raise Refused("The site's database is read only: end that with -e groundwork_maintenance=on or off first")
        for name, value in (("lock_timeout", f"{LOCK_SECONDS}s"), ("statement_timeout", "0")):
            cursor.execute(f"SET LOCAL {name} = '{value}'")
        listed = ", ".join(target.ops.quote_name(table.name) for table in tables)
        try:
            cursor.execute(f"LOCK TABLE {listed} IN SHARE ROW EXCLUSIVE MODE")
        except OperationalError as error:
            raise Refused(
                f"Somebody has been writing to the site's database for more than {LOCK_SECONDS} s: close the site with "
                "playbooks/maintenance.yml, and stop what else writes"
            ) from error


def fill(tables, emptied, source_alias, target):
    """Put the rows of the file in the place of those that are there, and compare. Raises Refused."""
    from django.core.management.color import no_style
    from django.db import IntegrityError

    with target.cursor() as cursor:
        for table in emptied:
            cursor.execute(f"DELETE FROM {target.ops.quote_name(table.name)}")
        for table in tables:
            copy(table, source_alias, target.alias)
        try:
            target.check_constraints()
        except IntegrityError as error:
            raise Refused(f"The rows do not fit together ({telling(error)})") from error
        counts = [(table.label, table.count(source_alias), table.count(target.alias)) for table in tables]
        different = [f"{label} {there} of {wanted}" for label, wanted, there in counts if wanted != there]
        if different:
            raise Refused(f"Not all rows have arrived ({few(different)})")
        for sql in target.ops.sequence_reset_sql(no_style(), [table.model for table in tables]):
            cursor.execute(sql)


def bring(source, target, look, replace, dry):
    """Import what is in one database into another one, or only look with `dry`. Returns what there is to tell.

    Raises Refused, and everything is as it was before.
    """
    from django.db import transaction

    check_migrations(source, target, look)
    check_references(source)
    tables, matched = tables_of_project(target.alias)
    tables = in_both(tables, source, target)
    if not tables:
        raise Refused("The release has no models")
    with transaction.atomic(using=target.alias):
        if not dry and target.vendor == "postgresql":
            hold(tables, target)
        match_shared(tables, matched, source.alias, target.alias)
        for table in tables:
            measure(table, target)
        emptied = check_empty(tables, source.alias, target.alias, replace)
        if dry:
            for table in tables:
                for _values in sound_rows(table, source.alias):
                    pass
        else:
            fill(tables, emptied, source.alias, target)
    return {
        "rows": {table.label: number for table in tables if (number := table.count(source.alias))},
        "replaced": [table.label for table in emptied],
        "left_out": tables_without_model(source, tables, matched),
    }


def import_rows(path, look, replace, dry):
    """Import the file and print a line with what came of it; `refused` in it says why nothing was imported."""
    import json

    from django.db import DatabaseError, connections

    target = connections["default"]
    try:
        if target.vendor != "postgresql":
            raise Refused("The release's database is not PostgreSQL: set DATABASE_URL and deploy the site first")
        try:
            said = bring(open_source(path), target, look, replace, dry)
        except DatabaseError as error:
            raise Refused(f"A database refused something ({telling(error)})") from error
    except Refused as refused:
        said = {"refused": str(refused)}
    print(IMPORT_MARK + json.dumps(said), flush=True)
