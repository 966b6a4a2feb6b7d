"""Virtual machines: a disk made from packages or from a vendor's image, booted by qemu in a container.

The container's ports 22, 2222, 80 and 443 are the machine's, so it is one more host on a network of the engine: Pebble
finds it by its name, and it finds Pebble. Standard library only.
"""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hosts
import images

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "vm"
GIBIBYTES = 10
"""Size of a machine's disk; a file with holes, so it takes what is written."""
CORES = 2
MEGABYTES = 4096
"""Memory of a machine."""
TRIAL = "groundwork-vm-trial"
SYSTEMS = ("debian-13", "debian-12")
"""What a disk can be made of out of packages."""


@dataclass(frozen=True)
class Disk:
    """A bare machine that was never started: its files, and the key that lets in as root."""

    folder: Path

    @property
    def key(self) -> Path:
        """The private key; its owner alone may read it."""
        return self.folder / "key"

    def host_key(self, name: str) -> str:
        """The line for a known_hosts file by which the machine is known."""
        return f"{name} {(self.folder / 'host_key.pub').read_text()}"


def _disk(name: str, recipe: str, command: tuple[str, ...], fetch: Callable[[Path], None]) -> Disk:
    """Return a disk, made by a program of the image unless the one that is there is current."""
    folder = CACHE / f"{name}-{images.recipe_hash(images.built_hash(images.VM), recipe)}"
    if folder.exists():
        return Disk(folder)
    making = CACHE / f"{name}-making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True, mode=0o700)
    for key, comment in (("key", "operator"), ("host_key", "machine")):
        path = str(making / key)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], check=True)
    shutil.copy(making / "key.pub", making / "authorized_keys")
    fetch(making)
    security = ("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined")
    options = ("--rm", "--cap-add", "SYS_ADMIN", *security, "--volume", f"{making}:/vm")
    hosts.docker("run", *options, images.VM, *command, str(GIBIBYTES))
    for old in set(CACHE.glob(f"{name}-*")) - {making}:
        shutil.rmtree(old)
    making.rename(folder)
    return Disk(folder)


def complaint(system: str, image: str) -> str:
    """Return what is wrong with a choice of the machine's system, in a sentence; nothing if it can be booted."""
    if not image and system not in SYSTEMS:
        others = "; any other one is booted from its vendor's cloud image, by VM_IMAGE=<path or URL>"
        return f"SYSTEM is {system!r}; set it to one of {', '.join(SYSTEMS)}{others}."
    remedy = "set it to the path or the URL of a cloud image, qcow2 or raw."
    if "://" in image:
        known = image.startswith(("https://", "http://", "file://"))
        return "" if known else f"VM_IMAGE is {image!r}, which is neither https:// nor http:// nor file://; {remedy}"
    if image and not Path(image).is_file():
        return f"VM_IMAGE is {image!r}, and there is no such file; {remedy}"
    if image and not is_disk(Path(image)):
        return f"VM_IMAGE is {image!r}, which is not the image of a disk; {remedy}"
    return ""


def is_disk(path: Path) -> bool:
    """Tell whether a file is the image of a disk that can be started from: a qcow2, or a raw one with a boot record."""
    with path.open("rb") as file:
        head = file.read(512)
    return head.startswith(b"QFI\xfb") or head[510:] == b"\x55\xaa"


def disk_of(system: str) -> Disk:
    """Return the disk of a freshly rented machine with a Debian release, made from its packages."""
    suite = images.SUITES[system]
    return _disk(system, f"{suite} {GIBIBYTES}", ("vm-disk", suite), lambda making: None)


def disk_from(source: str) -> Disk:
    """Return the disk that a vendor's cloud image becomes; `source` is its path or URL, as VM_IMAGE gives it.

    Raise HostError where it cannot be fetched or is no disk.
    """

    def fetch(making: Path) -> None:
        url = source if "://" in source else Path(source).resolve().as_uri()
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, (making / "image").open("wb") as file:
                shutil.copyfileobj(answer, file)
                missing = int(answer.headers["Content-Length"] or file.tell()) - file.tell()
        except OSError as error:
            raise hosts.HostError(f"VM_IMAGE is {source}, which cannot be fetched: {error}.") from error
        if missing:
            raise hosts.HostError(f"VM_IMAGE is {source}, of which the last {missing} bytes did not come.")
        if not is_disk(making / "image"):
            raise hosts.HostError(f"VM_IMAGE is {source}, and what is there is not the image of a disk.")

    # A file that is another one now makes another disk; what is behind a URL is taken to stay the same.
    version = "" if "://" in source else f" {Path(source).stat().st_mtime_ns}"
    return _disk("vendor", f"{source}{version} {GIBIBYTES}", ("vm-seed",), fetch)


def _run(name: str, network: str, folder: Path, accelerator: str, aliases: tuple[str, ...] = ()) -> None:
    device = ("--device", "/dev/kvm") if accelerator == "kvm" else ()
    names = (option for alias in aliases for option in ("--network-alias", alias))
    values = {"ACCELERATOR": accelerator, "CORES": CORES, "MEGABYTES": MEGABYTES}
    variables = (option for key, value in values.items() for option in ("--env", f"{key}={value}"))
    options = ("--volume", f"{folder}:/vm", *variables, *device, *names)
    hosts.start(name, network, images.VM, {}, options)


def acceleration(disk: Disk) -> str:
    """Return "kvm" where a kernel really starts on it, else "tcg": the device may be there and yet fail.

    That it does holds until this machine is started anew; that it does not is tried anew each time.
    """
    if not Path("/dev/kvm").exists():
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    note = CACHE / f"kvm-{boot}"
    if note.exists():
        return "kvm"
    hosts.remove([TRIAL])
    trial = disk.folder.with_name("trial")
    copy(disk, trial)

    def has_ended() -> bool:
        return not hosts.inspect(TRIAL)["State"]["Running"]

    def begins() -> bool:
        return "Linux version" in console(TRIAL)

    try:
        _run(TRIAL, "bridge", trial, "kvm")
        hosts.wait(30, "nothing was started", lambda: begins() or has_ended())
        if begins():
            note.touch()
            return "kvm"
    except hosts.HostError:
        pass  # neither does what fails in another way
    finally:
        hosts.remove([TRIAL])
        shutil.rmtree(trial)
    return "tcg"


def copy(disk: Disk, folder: Path) -> None:
    """Give a machine a disk of its own in a new folder; the holes of the file stay holes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    names = [name for name in ("disk.raw", "vmlinuz", "initrd.img", "seed.iso") if (disk.folder / name).exists()]
    sources = [str(disk.folder / name) for name in names]
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", *sources, str(folder)], check=True)


def start(name: str, network: str, disk: Disk, folder: Path, aliases: tuple[str, ...] = ()) -> None:
    """Start a bare machine on a copy of a disk; `aliases` are names that resolve to it. Returns at once."""
    copy(disk, folder)
    _run(name, network, folder, acceleration(disk), aliases)


def cut_power(name: str) -> None:
    """End a machine as a power cut does. Its disk keeps what its kernel had written, and nothing else."""
    hosts.docker("kill", name)


def switch_on(name: str) -> None:
    """Start a machine that has lost its power. Returns at once."""
    hosts.docker("start", name)


def console(name: str) -> str:
    """Return what the machine has written to its console since its container was made."""
    done = subprocess.run(["docker", "logs", name], capture_output=True, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")
