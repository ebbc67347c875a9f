"""``appliance lab drive``: simulated self-encrypting drives, and orders to them."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.errors import Usage

if TYPE_CHECKING:
    from appliance.lab.drive.simulated import SimulatedDrive

_SIZE = re.compile(r"([1-9][0-9]*)(M|G)")
_UNITS = {"M": 1 << 20, "G": 1 << 30}


def drive(  # noqa: PLR0917 - Typer calls it by name
    image: Annotated[
        list[Path],
        typer.Option("--image", metavar="FILE", help="A drive: made if it is not there. Repeat."),
    ],
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS:PORT", help="Where hosts connect; port 0: any.")
    ] = "127.0.0.1:4420",
    control: Annotated[
        Path | None, typer.Option("--control", metavar="SOCKET", help="Take orders at this Unix socket.")
    ] = None,
    size: Annotated[
        str, typer.Option("--size", help="Of a new drive: megabytes (M) or gigabytes (G).")
    ] = "256M",
    block_size: Annotated[int, typer.Option("--block-size", help="Of a new drive: 512 or 4096.")] = 512,
    kind: Annotated[str, typer.Option("--kind", help="Of a new drive: opal, pyrite or ruby.")] = "opal",
    opal_block_size: Annotated[
        int | None, typer.Option("--opal-block-size", help="What a new drive's TPer says instead: a lie.")
    ] = None,
    alignment: Annotated[int, typer.Option("--alignment", help="Blocks that ranges are aligned to.")] = 8,
    lowest_aligned: Annotated[int, typer.Option("--lowest-aligned", help="The first aligned block.")] = 0,
    try_limit: Annotated[int, typer.Option("--try-limit", min=0, help="Wrong PINs until a lockout.")] = 5,
    owned: Annotated[bool, typer.Option("--owned", help="A new drive that somebody unknown owns.")] = False,
    shadow: Annotated[bool, typer.Option("--shadow/--no-shadow", help="With a shadow MBR.")] = True,
    crossing: Annotated[
        bool, typer.Option("--range-crossing/--no-range-crossing", help="One command may touch two ranges.")
    ] = True,
    verbose: Annotated[bool, typer.Option("--methods", help="Tell every method on stderr.")] = False,
    as_json: AsJson = False,
) -> None:
    """Plug in simulated TCG Opal drives, which hosts reach by NVMe/TCP, until Ctrl-C.

    A stock Linux with nvme-tcp sees each as /dev/nvmeXn1. FILE.state beside
    an image is the drive's TPer; both together are the drive, and what a
    drive is by its make cannot be changed afterwards.

    \b
    Examples:
      appliance lab drive --image sed.img
      appliance lab drive --image a.img --image b.img --listen 10.77.0.1:4420 --control drives.sock
      appliance lab drive --image lying.img --block-size 4096 --opal-block-size 512
      nvme connect -t tcp -a 127.0.0.1 -s 4420 -n NQN
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    import secrets

    from appliance.lab.drive.control import state
    from appliance.lab.drive.profile import Profile
    from appliance.lab.drive.running import serve_drives
    from appliance.lab.drive.simulated import SimulatedDrive

    address, port = _address(listen)
    length = _length(size)
    wanted: dict[str, Any] = {
        "size": length,
        "block_size": block_size,
        "kind": kind,
        "opal_block_size": opal_block_size,
        "granularity": alignment,
        "lowest_aligned": lowest_aligned,
        "try_limit": try_limit,
        "shadow": shadow,
        "range_crossing": crossing,
    }
    if len(set(image)) != len(image):
        raise Usage("one image is one drive", found="the same one twice")

    def make() -> Profile:
        return Profile(owner_pin=secrets.token_hex(16) if owned else None, **wanted)

    drives = [SimulatedDrive(path, make) for path in image]

    def ready(bound: int) -> None:
        host = address.strip("[]")
        values = {"address": host, "port": bound, "drives": [state(one) for one in drives]}
        print_result("\n".join(_lines(drives, host, bound)), values, as_json=as_json)

    def report(line: str) -> None:
        if verbose:
            typer.echo(line, err=True)

    serve_drives(drives, address.strip("[]"), port, control, ready=ready, report=report)


def order(
    control: Annotated[Path, typer.Argument(metavar="SOCKET", help="What --control named.")],
    what: Annotated[str, typer.Argument(metavar="ORDER", help="For example power-cycle, or status.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE...]")] = None,
    serial: Annotated[
        str | None, typer.Option("--drive", metavar="SERIAL", help="Which, of several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Order a plugged-in drive to lose power, or to fail as real drives do.

    \b
    Examples:
      appliance lab drive-order drives.sock status --json
      appliance lab drive-order drives.sock power-cycle
      appliance lab drive-order drives.sock cut-power after=2
      appliance lab drive-order drives.sock lock-out authority=Admin1
      appliance lab drive-order drives.sock place-range which=1 start=3 length=80
      appliance lab drive-order drives.sock slow seconds=0.5 --drive SIMABCDEFGHJKL
    """  # noqa: D301 - as above
    from appliance.lab.drive.control import send_order

    question: dict[str, Any] = {"order": what}
    if serial is not None:
        question["drive"] = serial
    for argument in arguments or []:
        name, equals, value = argument.partition("=")
        if not equals or name in question:
            raise Usage("an order's arguments are NAME=VALUE", found=argument)
        question[name] = _number(value)
    answer = send_order(control, question)
    on = "on" if answer["powered"] else "off"
    held = ", owned" if answer["owned"] else ""
    print_result(
        f"{answer['serial']}: {on}{held}{', active' if answer['active'] else ''}", answer, as_json=as_json
    )


def _lines(drives: list[SimulatedDrive], address: str, port: int) -> list[str]:
    found = []
    for one in drives:
        found += [
            f"{one.profile.serial}  {one.image}",
            f"  PSID     {one.profile.psid}",
            f"  connect  nvme connect -t tcp -a {address} -s {port} -n {one.profile.nqn}",
        ]
    return found


def _number(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _length(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Usage("--size is no size of a drive", found=text, wanted="a number with M or G, as 256M")
    return int(found[1]) * _UNITS[found[2]]


def _address(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    if not address or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the last port
        raise Usage(
            "--listen is no address", found=text, wanted="ADDRESS:PORT, as 127.0.0.1:4420 or [::1]:4420"
        )
    return address, int(port)
