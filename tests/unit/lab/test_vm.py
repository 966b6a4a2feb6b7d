"""What a virtual machine can be made from, and the sentence for what it cannot."""

import pytest
import vm


@pytest.mark.parametrize("system", vm.SYSTEMS)
def test_a_system_of_packages_needs_no_image(system):
    assert vm.complaint(system, "") == ""


@pytest.mark.parametrize("system", ["debian-11", "ubuntu-24.04", ""])
def test_a_system_without_packages_is_refused_with_the_remedy(system):
    said = vm.complaint(system, "")
    assert said.startswith(f"SYSTEM is {system!r}; set it to one of debian-13, debian-12")
    assert "VM_IMAGE=<path or URL>" in said


def test_an_image_is_a_file_or_a_url(tmp_path):
    image = tmp_path / "noble.img"
    assert vm.complaint("ubuntu-24.04", str(image)).startswith(f"VM_IMAGE is {str(image)!r}, and there is no such file")
    image.touch()
    assert "is not the image of a disk" in vm.complaint("ubuntu-24.04", str(image))
    for content in (b"QFI\xfb and more", bytes(510) + b"\x55\xaa"):
        image.write_bytes(content)
        assert vm.complaint("ubuntu-24.04", str(image)) == ""
    assert "neither https:// nor http:// nor file://" in vm.complaint("ubuntu-24.04", "ftp://example.com/noble.img")
    assert vm.complaint("ubuntu-24.04", "https://example.com/noble.img") == ""
