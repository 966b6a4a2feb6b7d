"""What is said of a file before it travels to a host as a database."""

import sqlite3

import pytest
from ansible_collections.groundwork.django.plugins.plugin_utils import sqlite_file


@pytest.fixture
def database(tmp_path):
    """A database with some pages, whose name has to be quoted."""
    path = tmp_path / "a b?#%.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE parts (name text)")
    connection.executemany("INSERT INTO parts VALUES (?)", [("x" * 100,)] * 500)
    connection.commit()
    connection.close()
    return path


def refusal(path) -> str:
    with pytest.raises(sqlite_file.FileError) as error:
        sqlite_file.checked(str(path))
    return str(error.value)


def test_a_whole_database_is_taken(database):
    assert sqlite_file.checked(str(database)) == str(database)


def test_no_file_at_all_is_one_sentence():
    assert refusal("") == "There is no file to import: name it with -e import_sqlite_file=<path>."


def test_what_is_no_database_is_named(tmp_path):
    assert refusal(tmp_path / "none").endswith("cannot be read: No such file or directory.")
    (tmp_path / "text").write_text("SQLite format 4 and more")
    assert refusal(tmp_path / "text").endswith("is not a database of SQLite.")


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_a_database_that_is_in_use_is_refused(database, ending):
    beside = database.with_name(database.name + ending)
    beside.touch()
    assert sqlite_file.checked(str(database)), "an empty one holds nothing"
    beside.write_text("pages")
    assert "is in use, or was not closed" in refusal(database)


def test_a_damaged_database_is_refused(database):
    content = bytearray(database.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    database.write_bytes(content)
    assert "is damaged: " in refusal(database)
