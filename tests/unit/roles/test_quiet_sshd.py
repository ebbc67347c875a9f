"""The SSH server's settings: the real sshd judges them in place before anything is replaced."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LISTING = """\
port 22
permitrootlogin without-password
passwordauthentication no
loglevel VERBOSE
permitopen 127.0.0.1:8000 localhost:8000
ciphers chacha20-poly1305@openssh.com,aes256-ctr
subsystem sftp /usr/lib/openssh/sftp-server
"""


@pytest.fixture(scope="module")
def sshd(role_module: Callable[[str], Any]) -> Any:
    return role_module("quiet_host/library/sshd_settings.py")


@pytest.mark.parametrize(
    ("keyword", "value", "told"),
    [
        ("PermitRootLogin", "prohibit-password", ""),
        ("PasswordAuthentication", "no", ""),
        ("LogLevel", "verbose", ""),
        ("PermitOpen", "127.0.0.1:8000 localhost:8000", ""),
        ("Ciphers", "-*cbc*,*3des*", ""),
        ("Ciphers", "-*ctr*", "Ciphers would still allow aes256-ctr"),
        ("PasswordAuthentication", "yes", "PasswordAuthentication would be no, not yes"),
        ("MACs", "-*sha1*", "MACs would still allow nobody knows what"),
        ("NoSuchKeyword", "x", "NoSuchKeyword would be unknown, not x"),
    ],
)
def test_what_would_not_hold_is_named(sshd: Any, keyword: str, value: str, told: str) -> None:
    assert sshd.overruled({keyword: value}, sshd.effective(LISTING)) == ([told] if told else [])


class Server:
    """A node's SSH server whose judgement is given; what is done to it is written down."""

    def __init__(self, module: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module, self.ran = module, []
        self.file = folder / "00-appliance.conf"
        self.refusal = ""
        monkeypatch.setattr(module, "judge", self.judge)
        monkeypatch.setattr(module, "run", self.run)
        monkeypatch.setattr(module.shutil, "which", lambda *_, **__: "/usr/sbin/sshd")

    def judge(self, path: str, new: str, settings: dict[str, str]) -> None:
        self.ran.append("judge")
        if self.refusal:
            raise self.module.Refused(self.refusal)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        self.ran.append(f"{' '.join(command)}{' with the new file' if self.file.exists() else ''}")
        return subprocess.CompletedProcess(command, 1 if command[0] == "false" else 0, "", "told")


@pytest.fixture
def server(sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(sshd, tmp_path, monkeypatch)


def parameters(server: Server, **more: Any) -> dict[str, Any]:
    settings = {"PasswordAuthentication": "no"}
    wanted = {"settings": settings, "newer": {}, "before_change": ["arm"], "to_come": False}
    return {**wanted, "path": str(server.file), **more}


def test_the_file_is_judged_then_the_revert_armed_then_it_is_replaced_and_read(
    sshd: Any, server: Server
) -> None:
    assert sshd.bring_about(parameters(server), check=False)["changed"] is True
    assert server.ran == [
        "judge",
        "arm",
        "systemctl is-active --quiet ssh.service with the new file",
        "systemctl reload ssh.service with the new file",
    ]
    assert "PasswordAuthentication no\n" in server.file.read_text()
    assert sshd.bring_about(parameters(server), check=False)["changed"] is False
    assert server.ran[4:] == ["judge"]


@pytest.mark.parametrize(("keyword", "written"), [("LogLevel", True), ("NoSuchKeyword", False)])
def test_a_setting_that_an_older_server_does_not_know_is_left_out(
    sshd: Any, server: Server, monkeypatch: pytest.MonkeyPatch, *, keyword: str, written: bool
) -> None:
    monkeypatch.setattr(sshd, "known", lambda: set(sshd.effective(LISTING)))
    sshd.bring_about(parameters(server, newer={keyword: "VERBOSE"}), check=False)
    assert (f"{keyword} VERBOSE\n" in server.file.read_text()) is written


def test_what_sshd_refuses_leaves_the_old_file_and_arms_nothing(sshd: Any, server: Server) -> None:
    server.file.write_text("old\n")
    server.refusal = "line 3: Bad configuration option"
    with pytest.raises(sshd.Refused, match="Bad configuration option"):
        sshd.bring_about(parameters(server), check=False)
    assert (server.file.read_text(), server.ran) == ("old\n", ["judge"])


def test_without_a_revert_nothing_is_changed(sshd: Any, server: Server) -> None:
    with pytest.raises(sshd.Refused, match="nothing was changed, because false failed: told"):
        sshd.bring_about(parameters(server, before_change=["false"]), check=False)
    assert not server.file.exists()


def test_check_judges_and_changes_nothing(sshd: Any, server: Server) -> None:
    told = sshd.bring_about(parameters(server), check=True)
    assert (told["changed"], server.ran, server.file.exists()) == (True, ["judge"], False)


@pytest.mark.parametrize("to_come", [True, False])
def test_without_a_server_check_goes_on_only_if_one_is_to_come(
    sshd: Any, server: Server, monkeypatch: pytest.MonkeyPatch, *, to_come: bool
) -> None:
    monkeypatch.setattr(sshd.shutil, "which", lambda *_, **__: None)
    if to_come:
        assert sshd.bring_about(parameters(server, to_come=True), check=True)["changed"] is True
    else:
        with pytest.raises(sshd.Refused, match="no sshd on this node"):
            sshd.bring_about(parameters(server), check=True)


def test_a_server_that_reads_no_such_files_is_told(sshd: Any, tmp_path: Path) -> None:
    with pytest.raises(sshd.Refused, match="does not read such files"):
        sshd.judge(str(tmp_path / "absent.d/00-appliance.conf"), "", {})
