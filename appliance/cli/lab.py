"""``appliance lab``: practice nodes to rehearse on."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.lab_drive import drive, order
from appliance.cli.lab_frames import frames
from appliance.cli.lab_power import power_app
from appliance.cli.lab_tpm import tpm_app
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.errors import Usage

lab_app = typer.Typer(
    name="lab",
    help="Boot practice nodes on this machine, to rehearse on before touching a real one.",
    no_args_is_help=True,
)
lab_app.add_typer(power_app)
lab_app.add_typer(tpm_app)
lab_app.command("frames")(frames)
lab_app.command("drive")(drive)
lab_app.command("drive-order")(order)

_LabName = Annotated[str, typer.Argument(metavar="NAME", help="The lab's name.")]
_NodeName = Annotated[str, typer.Argument(metavar="NAME", help="A node, or a lab with one node.")]
_Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", min=1.0, help="Seconds a node has to boot; 60, or 300 for a virtual machine."
    ),
]
_Machine = Annotated[
    bool, typer.Option("--machine", help="Virtual machines with a kernel of their own, not containers.")
]

_Suite = Annotated[
    str,
    typer.Option("--suite", help="Debian release of containers: trixie, or bookworm as the H100 bundles."),
]

_DEFAULT_NAME = "practice"
_DEFAULT_SUITE = "trixie"


@lab_app.command("up")
def up(  # noqa: PLR0917 - Typer calls it by name
    name: _LabName = _DEFAULT_NAME,
    nodes: Annotated[int, typer.Option("--nodes", "-n", help="Number of nodes.")] = 1,
    machine: _Machine = False,
    capture: Annotated[
        bool, typer.Option("--capture", help="With --machine: keep every frame of every interface.")
    ] = False,
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="With --machine: boot from disk, not as a booted one's copy."),
    ] = False,
    bond: Annotated[
        bool,
        typer.Option(
            "--bond", help="With --machine: two data cards; an inventory that bonds them, and a VLAN."
        ),
    ] = False,
    tpm: Annotated[
        bool, typer.Option("--tpm", help="With --machine: a TPM 2.0 each; boots from disk, as no copy can.")
    ] = False,
    drives: Annotated[
        int, typer.Option("--drives", help="With --machine: simulated self-encrypting drives each.")
    ] = 0,
    suite: _Suite = _DEFAULT_SUITE,
    timeout: _Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Boot a lab: plain Debian nodes on a network that leads to you alone.

    You are the network namespace this command runs in. The inventory folder
    it prints has all that an installation needs. The nodes run on until
    `appliance lab down`. A virtual machine is emulated in software: it has a
    stock kernel, udev, an NVMe drive and three network interfaces, and is
    many times slower than a container.

    \b
    Examples:
      appliance lab up
      appliance lab up ward --nodes 3
      appliance lab up icu --machine --capture --bond
      appliance lab up sed --machine --tpm --drives 2
      appliance lab up ai --suite bookworm
      ip netns add desk && ip netns exec desk appliance lab up
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.lab.places import Places
    from appliance.lab.status import lab_status
    from appliance.lab.up import Wanted, bring_up

    given = {"--capture": capture, "--from-scratch": from_scratch, "--bond": bond, "--tpm": tpm}
    given["--drives"] = bool(drives)
    if any(given.values()) and not machine:
        raise Usage(
            "only a virtual machine can be captured, booted from scratch, or have a bond, a TPM or drives",
            found=", ".join(option for option, wanted in given.items() if wanted),
            wanted="--machine as well",
        )
    _end_like_interrupted()
    places = Places.from_environment()
    wanted = Wanted(
        nodes,
        machine=machine,
        capture=capture,
        from_scratch=from_scratch,
        bond=bond,
        tpm=tpm,
        drives=drives,
        suite=suite,
    )
    bring_up(places, name, wanted, timeout=timeout, progress=progress())
    status = lab_status(places, name)
    first = status.nodes[0].name
    lines = [f"{node.name}  {'  '.join(node.addresses)}" for node in status.nodes]
    lines += [f"frames:    {node.capture}" for node in status.nodes if node.capture]
    for node in status.nodes:
        lines += [f"drive:     {drive.serial}  PSID {drive.psid}" for drive in node.drives]
        lines += [f"orders:    appliance lab drive-order {node.orders}"] if node.orders else []
    lines += [
        f"inventory: {status.inventory}",
        f"log in:    appliance lab shell {first}",
        f"install:   appliance install BUNDLE -i {status.inventory}",
        f"remove:    appliance lab down {name}",
    ]
    print_result("\n".join(lines), status.as_dict(), as_json=as_json)


@lab_app.command("down")
def down(
    name: _LabName = _DEFAULT_NAME,
    everything: Annotated[bool, typer.Option("--all", help="Every lab on this machine.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a lab and all that belongs to it, however it was left.

    Nothing to remove is no error.

    \b
    Examples:
      appliance lab down
      appliance lab down ward
      appliance lab down --all
    """  # noqa: D301 - as above
    from appliance.lab.down import take_all_down, take_down
    from appliance.lab.places import Places

    places = Places.from_environment()
    removed = take_all_down(places) if everything else [name] * take_down(places, name)
    text = f"removed: {', '.join(removed)}" if removed else "nothing to remove"
    print_result(text, {"removed": removed}, as_json=as_json)


@lab_app.command("status")
def status(as_json: AsJson = False) -> None:
    """List the labs on this machine and their nodes."""
    from appliance.lab.places import Places
    from appliance.lab.status import all_status

    labs = all_status(Places.from_environment())
    lines = []
    for lab in labs:
        lines.append(f"{lab.name}  {lab.inventory}" if lab.lab else f"{lab.name}  half-made; take it down")
        lines += [f"  {node.name}  {node.state:8}{'  '.join(node.addresses)}" for node in lab.nodes]
    print_result(
        "\n".join(lines) or "no lab is up", {"labs": [lab.as_dict() for lab in labs]}, as_json=as_json
    )


@lab_app.command("shell", context_settings={"ignore_unknown_options": True})
def shell(
    name: _NodeName,
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND...]")] = None,
) -> None:
    """Log in to a node as root, or run a command and pass its exit code on.

    \b
    Examples:
      appliance lab shell practice
      appliance lab shell ward-02 -- ip route
    """  # noqa: D301 - as above
    from appliance.lab.places import Places
    from appliance.lab.reach import run_shell

    raise typer.Exit(run_shell(Places.from_environment(), name, command or []))


@lab_app.command("reboot")
def reboot(
    name: _NodeName = _DEFAULT_NAME,
    power_cut: Annotated[bool, typer.Option("--power-cut", help="Pull the plug first.")] = False,
    timeout: _Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Switch a node off and on; when this returns, it can be reached again.

    The disk stays; everything else is new. A node that is off is switched on.

    \b
    Examples:
      appliance lab reboot
      appliance lab reboot ward-02 --power-cut
    """  # noqa: D301 - as above
    from appliance.lab.places import Places
    from appliance.lab.power import reboot_node

    node = reboot_node(Places.from_environment(), name, cut=power_cut, timeout=timeout)
    print_result(f"{node.name} is up again", {"node": node.name}, as_json=as_json)


@lab_app.command("console")
def console(
    name: _NodeName = _DEFAULT_NAME,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    lines: Annotated[int | None, typer.Option("--lines", "-n", min=1, help="Only the last ones.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print what a node wrote on its console, over all its boots.

    With --follow until the node is off, or Ctrl-C.

    \b
    Examples:
      appliance lab console
      appliance lab console icu-01 --lines 20 --follow
    """  # noqa: D301 - as above
    from appliance.lab.console import follow_console, read_console
    from appliance.lab.places import Places

    places = Places.from_environment()
    if follow and as_json:
        raise Usage("what follows has no end", found="--follow and --json", wanted="one of the two")
    if follow:
        for text in follow_console(places, name, lines=lines):
            typer.echo(text, nl=False)
        return
    text = read_console(places, name, lines=lines)
    print_result(text.removesuffix("\n"), {"console": text}, as_json=as_json)


@lab_app.command("prepare")
def prepare(machine: _Machine = False, suite: _Suite = _DEFAULT_SUITE, as_json: AsJson = False) -> None:
    """Make what nodes are made from: all that needs a package archive.

    After this, `appliance lab up` works without any network; with --machine
    here, `appliance lab up --machine` too.

    \b
    Examples:
      appliance lab prepare
      appliance lab prepare --machine
      appliance lab prepare --suite bookworm
    """  # noqa: D301 - as above
    from appliance.lab import up
    from appliance.lab.places import Places

    _end_like_interrupted()
    root = up.prepare(Places.from_environment(), machine=machine, suite=suite, progress=progress())
    print_result(str(root), {"root": str(root)}, as_json=as_json)


def _end_like_interrupted() -> None:
    """Clean up after a polite end, such as a closed terminal, as after Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
