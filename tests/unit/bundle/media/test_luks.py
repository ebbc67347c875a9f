"""Encrypted media: nothing is destroyed by mistake, no secret is seen, everything is closed again."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.media import luks
from appliance.bundle.media.device import Device, examine_device
from appliance.bundle.media.luks import (
    format_command,
    format_device,
    opened,
    read_key_file,
    require_dm_crypt,
    write_encrypted,
)
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    MediumFailed,
    MediumOccupied,
    MediumUnsuitable,
    PreflightFailed,
    ToolMissing,
    Usage,
)
from appliance.progress import Silent
from appliance.trust.root import Root, root_bytes

from .conftest import MIB, Mounts, run

if TYPE_CHECKING:
    from appliance.bundle.media.write import WrittenMedia

PASSPHRASE = b"correct horse battery"


def nobody(device: Device) -> str:
    raise AssertionError(f"asked about {device.path}")


def write(bundle: Path, *devices: Path, **options: Any) -> WrittenMedia:
    given = {"passphrase": PASSPHRASE, "confirm": nobody, "progress": Silent(), **options}
    return write_encrypted(bundle, devices, **given)


# --- what cryptsetup makes --------------------------------------------------------------------------


def test_the_header_is_luks2_with_xts_and_argon2id(tmp_path: Path) -> None:
    """A real header in a file; only opening it would need the kernel, testing a passphrase does not."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(32 * MIB)
    format_device(image, PASSPHRASE)
    dump = subprocess.run(
        ["cryptsetup", "luksDump", "--dump-json-metadata", image], check=True, capture_output=True
    )
    header = json.loads(dump.stdout)
    assert header["segments"]["0"]["encryption"] == "aes-xts-plain64"
    assert [(slot["key_size"], slot["kdf"]["type"]) for slot in header["keyslots"].values()] == [
        (64, "argon2id")
    ]
    for passphrase, code in ((PASSPHRASE, 0), (PASSPHRASE + b"\n", 2)):
        command = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", image]
        assert (
            subprocess.run(command, input=passphrase, check=False, stderr=subprocess.DEVNULL).returncode
            == code
        )


def test_what_cannot_be_formatted(tmp_path: Path) -> None:
    with pytest.raises(MediumFailed, match="cannot be formatted") as fault:
        format_device(tmp_path / "none", PASSPHRASE)
    assert fault.value.found


# --- programs in place of the system's: what they are given, in which order ---------------------------


class Programs:
    """Programs that note how they were called; ``fail`` names one that does not succeed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log = folder / "log"

    def add(self, name: str, *, code: int = 0, says: str = "") -> None:
        script = self._folder / name
        script.write_text(
            f'#!/bin/sh\necho "{name} $*" >>{self.log}\nenv >>{self.log}.env\n'
            f"[ \"{name}\" != cryptsetup ] || cat >>{self.log}.stdin\necho '{says}'\nexit {code}\n"
        )
        script.chmod(0o755)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    made = Programs(folder)
    for name in ("cryptsetup", "mkfs.ext4", "mount", "umount"):
        made.add(name)
    made.add("wipefs", says="{}")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return made


def verbs(calls: list[str]) -> list[str]:
    return [
        " ".join(call.split()[:2]) if call.startswith("cryptsetup") else call.split()[0] for call in calls
    ]


def test_an_empty_volume_is_opened_formatted_mounted_and_closed(programs: Programs) -> None:
    with opened(Path("/dev/x"), PASSPHRASE) as place:
        assert place.stat().st_mode & 0o777 == 0o700
    assert verbs(programs.calls()) == [
        "cryptsetup open",
        "wipefs",
        "mkfs.ext4",
        "mount",
        "umount",
        "cryptsetup close",
    ]
    assert not place.exists()
    assert "nodev,nosuid,noexec" in programs.calls()[3]


def test_a_volume_that_holds_something_is_not_formatted(programs: Programs) -> None:
    programs.add("wipefs", says='{"signatures": [{"type": "ext4"}]}')
    with opened(Path("/dev/x"), PASSPHRASE):
        pass
    assert "mkfs.ext4" not in verbs(programs.calls())


def test_everything_is_closed_whatever_happens(programs: Programs) -> None:
    def interrupted() -> None:
        with opened(Path("/dev/x"), PASSPHRASE):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert verbs(programs.calls())[-2:] == ["umount", "cryptsetup close"]
    programs.log.unlink()
    programs.add("mount", code=32)
    with pytest.raises(MediumFailed, match="cannot be mounted"), opened(Path("/dev/x"), PASSPHRASE):
        pass
    assert verbs(programs.calls())[-2:] == ["mount", "cryptsetup close"]
    programs.log.unlink()
    programs.add("mount")
    programs.add("umount", code=1)
    with pytest.raises(MediumFailed, match="cannot be unmounted"), opened(Path("/dev/x"), PASSPHRASE):
        pass
    assert verbs(programs.calls())[-1] == "cryptsetup close"


def test_the_passphrase_is_on_no_command_line_and_in_no_environment(programs: Programs) -> None:
    format_device(Path("/dev/x"), PASSPHRASE)
    with opened(Path("/dev/x"), PASSPHRASE):
        pass
    seen = programs.log.read_text() + Path(f"{programs.log}.env").read_text()
    assert PASSPHRASE.decode() not in seen
    assert Path(f"{programs.log}.stdin").read_bytes() == PASSPHRASE * 2
    assert programs.calls()[0] == " ".join(format_command(Path("/dev/x")))


@pytest.mark.parametrize(("code", "error"), [(2, MediumUnsuitable), (4, MediumFailed)])
def test_a_volume_that_does_not_open(programs: Programs, code: int, error: type[Exception]) -> None:
    programs.add("cryptsetup", code=code, says="cryptsetup says no")
    with pytest.raises(error), opened(Path("/dev/x"), PASSPHRASE):
        pass
    assert verbs(programs.calls()) == ["cryptsetup open"]


def test_a_program_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="cryptsetup is not installed"):
        format_device(Path("/dev/x"), PASSPHRASE)


# --- what is refused --------------------------------------------------------------------------------


def test_a_target_that_is_no_device(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediumUnsuitable, match="is no block device"):
        write(bundle, tmp_path / "file")
    with pytest.raises(MediumUnsuitable, match="cannot be looked at"):
        write(bundle, tmp_path / "none")


def test_arguments_that_contradict_each_other(bundle: Path) -> None:
    device = Path("/dev/null")
    with pytest.raises(Usage, match="shall be erased, but is no target"):
        write(bundle, device, erase=[Path("/dev/zero")])
    with pytest.raises(Usage, match="given twice"):
        write(bundle, device, device)


@pytest.mark.parametrize("passphrase", [b"", b"eleven-byte", b"x" * 513, b"with a line end\n"])
def test_a_passphrase_that_is_no_use(bundle: Path, passphrase: bytes) -> None:
    with pytest.raises(Usage, match="this passphrase cannot be used"):
        write(bundle, Path("/dev/null"), passphrase=passphrase)


def test_a_key_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(PASSPHRASE)
    path.chmod(0o640)
    with pytest.raises(Usage, match="others may read"):
        read_key_file(path)
    path.chmod(0o600)
    assert read_key_file(path) == PASSPHRASE
    path.write_bytes(PASSPHRASE + b"\n")
    with pytest.raises(Usage, match="cannot be used") as fault:
        read_key_file(path)
    assert "printf" in str(fault.value.hint)
    with pytest.raises(Usage, match="cannot be read"):
        read_key_file(tmp_path / "none")


def test_a_kernel_without_device_mapper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "misc").write_text("10 fuse\n")
    monkeypatch.setattr(luks, "_MISC", tmp_path / "misc")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "modprobe").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "modprobe").chmod(0o755)
    with pytest.raises(PreflightFailed, match="cannot open encrypted media"):
        require_dm_crypt()
    (tmp_path / "modprobe").unlink()
    with pytest.raises(PreflightFailed, match="cannot open encrypted media") as fault:
        require_dm_crypt()
    assert "no modprobe that could load it (install kmod)" in str(fault.value.found)
    (tmp_path / "modprobe").touch(mode=0o755)
    (tmp_path / "modprobe").write_text(f"#!/bin/sh\necho 236 device-mapper >>{tmp_path}/misc\n")
    require_dm_crypt()


def test_somebody_who_is_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PreflightFailed, match="only root"):
        require_dm_crypt()


@pytest.fixture
def dm_crypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the kernel could open what is formatted: what is refused before is tried without."""
    monkeypatch.setattr(luks, "require_dm_crypt", lambda: None)


@pytest.mark.node
@pytest.mark.usefixtures("dm_crypt")
class TestDevices:
    """Real block devices, over files."""

    def test_a_device_says_what_it_holds(self, mounts: Mounts) -> None:
        image = mounts.image("ext4", 64)
        device = Path(mounts.loop(image))
        assert examine_device(device) == Device(device, 64 * MIB, "", "", ("ext4",), ())
        assert examine_device(device).proof == str(64 * MIB)

    def test_a_device_that_holds_something(self, bundle: Path, mounts: Mounts) -> None:
        device = Path(mounts.loop(mounts.image("ext4", 64)))
        before = device.read_bytes()
        with pytest.raises(MediumOccupied, match="is not empty") as fault:
            write(bundle, device)
        assert fault.value.found == "ext4"
        assert f"--erase {device}" in str(fault.value.hint)
        assert device.read_bytes() == before

    def test_a_device_with_partitions(self, bundle: Path, mounts: Mounts, tmp_path: Path) -> None:
        image = tmp_path / "parted.img"
        # One entry: not bootable, of kind Linux, from sector 2048, 4096 sectors long.
        entry = (
            bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little")
        )
        image.write_bytes(bytes(446) + entry + bytes(48) + b"\x55\xaa" + bytes(8 * MIB))
        with pytest.raises(MediumOccupied, match="is not empty") as fault:
            write(bundle, Path(mounts.loop(image)))
        assert "dos" in str(fault.value.found)

    def test_a_mounted_device_is_never_erased(self, bundle: Path, mounts: Mounts) -> None:
        device, place = Path(mounts.loop(mounts.image("ext4", 64))), mounts._place()
        run("mount", device, place)
        mounts._undo.callback(run, "umount", place)
        with pytest.raises(MediumOccupied, match="is mounted") as fault:
            write(bundle, device, erase=[device])
        assert fault.value.found == str(place)

    def test_what_is_typed_must_be_the_device(self, bundle: Path, mounts: Mounts) -> None:
        device = Path(mounts.loop(mounts.image("ext4", 64)))
        before = device.read_bytes()
        for typed in ("", "yes\n", str(device)):
            with pytest.raises(Usage, match="was not erased"):
                write(bundle, device, erase=[device], confirm=lambda _, typed=typed: typed)
        assert device.read_bytes() == before

    def test_an_encrypted_device_is_opened_and_not_asked_about(
        self, bundle: Path, mounts: Mounts, tmp_path: Path
    ) -> None:
        """And with a kernel that cannot open it, a passphrase that is wrong is said all the same."""
        image = tmp_path / "encrypted.img"
        with image.open("wb") as file:
            file.truncate(32 * MIB)
        quick = ["--pbkdf-memory", "32", "--pbkdf-force-iterations", "4", "--key-file", "-"]
        command = ["cryptsetup", "luksFormat", "--batch-mode", *quick, image]
        subprocess.run(command, input=PASSPHRASE, check=True)
        device = Path(mounts.loop(image))
        assert examine_device(device).is_luks
        before = device.read_bytes()
        with pytest.raises((MediumUnsuitable, MediumFailed), match="open"):
            write(bundle, device, passphrase=b"another passphrase")
        assert device.read_bytes() == before


@pytest.mark.dmcrypt
class TestForReal:
    """On a machine that has dm-crypt: `make test-dmcrypt`."""

    def blank(self, mounts: Mounts, name: str, megabytes: int) -> Path:
        image = mounts._folder / name
        with image.open("wb") as file:
            file.truncate(megabytes * MIB)
        return Path(mounts.loop(image))

    def test_a_bundle_goes_onto_encrypted_media_and_comes_back(
        self, cut_bundle: Path, mounts: Mounts, two_of_three: Root
    ) -> None:
        devices = [self.blank(mounts, f"stick-{number}", 48) for number in (1, 2)]
        written = write(cut_bundle, *devices, confirm=lambda device: device.proof)
        assert len(written.volumes) in {1, 2}
        assert b"tiny.gguf" not in devices[0].read_bytes()
        assert not list(Path("/dev/mapper").glob("appliance-*"))
        with opened(devices[0], PASSPHRASE) as one, opened(devices[1], PASSPHRASE) as two:
            places = [place for place in (one, two) if list(place.glob("demo-*"))]
            assert verify_bundle(places, root_bytes(two_of_three), progress=Silent()).digest
        again = write(cut_bundle, *devices)
        assert [volume.written for volume in again.volumes] == [0] * len(again.volumes)

    def test_an_interrupted_medium_goes_on_and_is_closed(self, cut_bundle: Path, mounts: Mounts) -> None:
        device = self.blank(mounts, "stick", 96)

        class Interrupting(Silent):
            def advance(self, count: int) -> None:
                if count > MIB:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write(cut_bundle, device, confirm=lambda device: device.proof, progress=Interrupting())
        assert not list(Path("/dev/mapper").glob("appliance-*"))
        assert write(cut_bundle, device).volumes[0].kept > 0
        with pytest.raises(MediumUnsuitable, match="the passphrase does not open"):
            write(cut_bundle, device, passphrase=b"another passphrase")
