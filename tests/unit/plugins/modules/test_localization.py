"""Time zone and language, on files of a directory."""

import os

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import localization


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Directory with the files of a host."""
    (tmp_path / "zones/Etc").mkdir(parents=True)
    (tmp_path / "zones/Etc/UTC").touch()
    monkeypatch.setattr(localization, "ZONES", str(tmp_path / "zones"))
    monkeypatch.setattr(localization, "LOCALTIME", str(tmp_path / "localtime"))
    monkeypatch.setattr(localization, "LOCALE_FILES", (str(tmp_path / "default"), str(tmp_path / "locale.conf")))
    monkeypatch.setattr(localization, "SUPPORTED", str(tmp_path / "SUPPORTED"))
    return tmp_path


def test_the_zone_is_read_from_the_link(host):
    assert localization.current_zone() == ""
    localization.set_zone("Etc/UTC")
    assert localization.current_zone() == "Etc/UTC"
    (host / "localtime").unlink()
    os.symlink("zones/Etc/UTC", host / "localtime")
    assert localization.current_zone() == "Etc/UTC"


def test_a_run_killed_before_the_rename_is_repaired(host):
    (host / "localtime.groundwork").symlink_to("nowhere")
    localization.set_zone("Etc/UTC")
    assert localization.current_zone() == "Etc/UTC"


def test_one_file_counts_once_where_the_other_is_a_link_to_it(host):
    assert localization.locale_files() == [str(host / "default")]
    (host / "locale.conf").touch()
    (host / "default").symlink_to("locale.conf")
    assert localization.locale_files() == [str(host / "locale.conf")]


def test_other_settings_of_the_language_stay():
    text = localization.with_language('LANG="C"\nLC_TIME=C\nLANG=x\n', "de_DE.UTF-8")
    assert text == "LC_TIME=C\nLANG=de_DE.UTF-8\n"


@pytest.mark.parametrize(
    ("name", "listed"),
    [("de_DE.UTF-8", "de_DE.utf8"), ("de_DE.ISO-8859-15@euro", "de_DE.iso885915@euro"), ("C", "C")],
)
def test_names_as_the_system_lists_them(name, listed):
    assert localization.canonical(name) == listed


def test_c_needs_not_be_generated():
    assert localization.is_generated("C.UTF-8")


def test_what_cannot_be_generated_is_said(host):
    with pytest.raises(Refusal, match="package locales is not installed"):
        localization.generate("de_DE.UTF-8")
    (host / "SUPPORTED").write_text("de_DE.UTF-8 UTF-8\n")
    with pytest.raises(Refusal, match=r'"xx_XX\.UTF-8" is not a locale'):
        localization.generate("xx_XX.UTF-8")
