"""Every place that a role writes to is declared: it goes back with a version, or it is said why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from appliance.content import content_root
from appliance.node.remote import policy_places as places
from appliance.node.remote.saved_version import FILES, UNITS, fits

ROLES = content_root() / "roles"
#: Roots below which what is written lasts over a restart.
LASTING = re.compile(r"(?<![\w}.])/(?:etc|usr/local|var|opt|srv|mnt|boot|root|home)(?:/[\w.*@{}+-]+)+/?")
#: What roles only read, or name in words, as they name it: nothing is written there.
READ = {
    *(
        "etc/audit/auditd.conf",
        "etc/group",
        "etc/hosts",
        "etc/localtime",
        "etc/nvidia-mig-manager/config.yaml",
    ),
    *("etc/passwd", "etc/shadow", "etc/ssh", "etc/sudoers", "etc/sudoers.d", "root/.ssh", "var/cache"),
    *("var/lib/dkms/mok.pub", "var/lib/dkms/nvidia*/*/build/make.log"),
    *("etc/cron.d/anacron", "etc/cron.d/atop", "etc/cron.d/certbot", "etc/cron.d/e2scrub_all"),
    *(
        "etc/cron.d/popularity-contest",
        "etc/cron.d/sysstat",
        *("etc/cron.*/*", "etc/cron.*/0anacron", "etc/cron.*/chkrootkit"),
        *("etc/cron.*/man-db", "etc/cron.*/mdadm", "etc/cron.daily"),
        "etc/cron.hourly",
    ),
    *("etc/cron.monthly", "etc/cron.weekly", "etc/cron.yearly", "etc/update-motd.d"),
}
#: Folders alone, below which the places lie that are written to.
FOLDERS = {
    "var/lib/appliance",
    "usr/local/lib/appliance",
    "opt/appliance",
    "etc/systemd/system",
    "mnt/appliance",
}


def values_of(role: Path) -> dict[str, str]:
    """A role's own variables that are plain texts."""
    found: dict[str, str] = {}
    for path in sorted([*role.glob("defaults/**/*.yml"), *role.glob("vars/**/*.yml")]):
        values = yaml.safe_load(path.read_text()) or {}
        found |= {name: value for name, value in values.items() if isinstance(value, str)}
    return found


def text_of(path: Path, values: dict[str, str]) -> str:
    """What counts of a file: variables by what they are, no remarks, and no module's word of itself."""
    text = path.read_text("utf-8")
    for _ in range(2):  # one may be made of another
        text = re.sub(r"\{\{ (\w+) \}\}", lambda found: values.get(found[1], found[0]), text)
    if path.suffix == ".py":
        text = re.sub(r'(?ms)^(DOCUMENTATION|EXAMPLES|RETURN) = r""".*?"""', "", text)
        text = re.sub(r'(?s)"""(?!\\).*?"""', "", text)
    return re.sub(r"(?m)^\s*(#|reason:|description:).*$", "", text)


def written() -> dict[str, str]:
    """Places that roles name, relative to the root, each with a file of ours that names it."""
    found = {}
    kinds = ("tasks", "vars", "defaults", "handlers", "library", "module_utils", "filter_plugins")
    for role in ROLES.iterdir():
        values = values_of(role)
        sources = [
            path for kind in kinds for path in (role / kind).rglob("*") if path.suffix in {".py", ".yml"}
        ]
        for path in sources:
            for name in LASTING.findall(text_of(path, values)):
                found[re.sub(r"\{\{?.*", "*", name).strip("/")] = f"{role.name}: {path.name}"
        for folder in ("templates", "files"):
            for path in (role / folder).rglob("*"):
                place = path.relative_to(role / folder)
                if "__pycache__" in place.parts:  # another test's
                    continue
                if path.is_file() and len(place.parts) > 1:  # others are parts of a program
                    found[str(place).removesuffix(".j2")] = f"{role.name}: {folder}"
    return found


def network_paths() -> list[str]:
    text = (ROLES / "revert/files/usr/local/lib/appliance/network_state.py").read_text()
    block = text.partition("PATHS = (")[2].partition("\n)")[0]
    return re.findall(r'"([^"]+)"', block)


def is_declared(place: str) -> bool:
    if place in READ:
        return True
    declared = [*FILES, *places.OWN, *places.SHARED, *places.MODES, *places.STAYS, *FOLDERS]
    network = network_paths()
    if any(place == path or place.startswith(f"{path}/") for path in network):
        return True
    folders = {parent for pattern in (*declared, *network) for parent in map(str, Path(pattern).parents)}
    return place in folders or any(fits(place, pattern) for pattern in declared)


PLACES = written()


def test_the_places_of_every_role_are_found() -> None:
    assert {
        "etc/issue",
        "etc/modprobe.d/appliance-gpu.conf",
        "etc/crypttab",
        "etc/default/ufw",
    } <= PLACES.keys()
    assert {"etc/audit/rules.d/90-appliance.rules", "etc/netplan/90-appliance.yaml"} <= PLACES.keys()
    assert len(PLACES) > 90


def test_a_place_that_nobody_declared_is_not() -> None:
    for place in (
        "etc/profile.d/appliance.sh",
        "etc/sysctl.d/91-other.conf",
        "etc/systemd/system/other.service",
        "etc/cron.d/other",
        "etc/passwd.d/other",
        "etc/modprobe.d/appliance/other.conf",
    ):
        assert not is_declared(place)


@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_place_that_a_role_writes_to_is_declared(place: str) -> None:
    assert is_declared(place), f"{PLACES[place]} names {place}: add it to remote/policy_places.py"


def test_every_declared_place_is_some_roles() -> None:
    """One that is no role's any more would be put back over somebody else's."""
    for pattern in (*places.OWN, *places.SHARED, *places.MODES):
        assert any(fits(place, pattern) for place in PLACES), pattern


def test_kernel_settings_are_those_of_the_role() -> None:
    values = yaml.safe_load((ROLES / "quiet_host/vars/main/kernel.yml").read_text())
    assert set(places.KERNEL) == {each["setting"] for each in values["quiet_host_kernel_settings"]}


def test_units_that_roles_turn_on_are_declared() -> None:
    sources = yaml.safe_load((ROLES / "quiet_host/vars/main/time.yml").read_text())
    on = {unit for each in sources["quiet_host_time_sources"].values() for unit in each["units"]}
    drivers = yaml.safe_load((ROLES / "gpu_driver/defaults/main.yml").read_text())
    on |= {drivers["gpu_driver_persistence"], drivers["gpu_driver_manager"], "auditd.service", "tmp.mount"}
    assert set(places.TURNED_ON) == {unit for unit in on if not unit.startswith("appliance-")}


def rows() -> dict[str, set[str]]:
    """Places by what becomes of them, as the table of docs/patch.md says."""
    page = (content_root() / "docs/patch.md").read_text()
    table = page.partition("### Every place")[2].partition("\n### ")[0]
    found: dict[str, set[str]] = {}
    for line in (line for line in table.splitlines() if line.startswith("| `")):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall("`([^`]+)`", cells[0])
        found.setdefault(cells[1], set()).update(name.removeprefix("/") for name in names)
    return found


#: What goes back, in the words of the page.
BACK: dict[str, set[str]] = {
    "as it was; gone where it was not": {*FILES, *places.OWN},
    "as it was; left where a package has brought it since": {*places.SHARED},
    "run or not as before": {*places.MODES},
    "turned off where it came since": {*places.TURNED_ON},
    "as it was, or told": {*places.KERNEL},
    "as it was, with the live network, packet filter and SSH server": {*network_paths()},
}


@pytest.mark.parametrize("words", BACK)
def test_the_page_says_of_every_place_what_becomes_of_it(words: str) -> None:
    assert rows()[words] == BACK[words]


def test_the_page_says_of_what_is_not_put_back_why() -> None:
    stays = {place: why for why, names in rows().items() if why not in BACK for place in names}
    assert stays == places.STAYS
    assert UNITS == "etc/systemd/system"
