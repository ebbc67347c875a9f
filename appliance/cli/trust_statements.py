"""``appliance trust permit``, ``waive``, ``attest-time``, ``enrol``: statements to one node, to be signed.

Each has a new nonce and works once, for the node and the journal it names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_options import (  # noqa: TC001 - likewise
    Journal,
    Node,
    OutFolder,
    Reason,
    TranscriptFile,
    TranscriptKey,
)
from appliance.cli.trust_text import print_draft

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.trust.statements import Statement


def permit(  # noqa: PLR0917 - Typer calls it by name
    node: Node,
    journal: Journal,
    before: Annotated[str, typer.Option("--from", metavar="SEQ:DIGEST|DIR", help="What the node has now.")],
    after: Annotated[str, typer.Option("--to", metavar="SEQ:DIGEST|DIR", help="What it may go back to.")],
    reason: Reason,
    out: OutFolder,
    product: Annotated[
        str | None, typer.Option("--product", help="Where no folder of a bundle tells it.")
    ] = None,
    *,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Permit one node to go back once, from one bundle to another. Signed in the
    role release.

    \b
    Examples:
      appliance trust permit --node gpu-01 --journal 0f3a... \\
          --from NEW --to OLD --reason "engine 2.1 fails here" -o statements
      appliance trust permit --node gpu-01 --journal 0f3a... \\
          --product demo --from 8:3f1c... --to 7:9b02... \\
          --reason "ticket 4711" -o statements
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.drafting import name_release, new_nonce
    from appliance.errors import Usage
    from appliance.trust.statements import Permit

    (old, its), (new, other) = name_release(before), name_release(after)
    products = {each for each in (product, its, other) if each is not None}
    if len(products) != 1:
        raise Usage(
            "not one product",
            found=", ".join(sorted(products)) or "none",
            wanted="--product, or bundles of one",
        )
    statement = Permit(node, journal, new_nonce(), products.pop(), old, new, reason)
    write_statement("permit", statement, out, transcript, transcript_key, as_json=as_json)


def waive(
    node: Node,
    journal: Journal,
    bundle: Annotated[
        str, typer.Option("--bundle", metavar="DIGEST|DIR", help="The bundle past its date, or its patch.")
    ],
    reason: Reason,
    out: OutFolder,
    *,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Let one node take one bundle, once, although it is past its date. Signed
    in the role site.

    Where the root has no role site, release signs.

    \b
    Examples:
      appliance trust waive --node gpu-01 --journal 0f3a... --bundle OUT \\
          --reason "no newer one" -o s
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.drafting import name_outcome, new_nonce
    from appliance.trust.statements import Waiver

    statement = Waiver(node, journal, new_nonce(), name_outcome([bundle]).digest, reason)
    write_statement("waive", statement, out, transcript, transcript_key, as_json=as_json)


def attest_time(
    node: Node,
    journal: Journal,
    time: Annotated[
        str,
        typer.Option(
            "--time",
            metavar="TIME",
            help="2026-01-31T12:00:00Z; `now` takes this machine's clock: look at it.",
        ),
    ],
    out: OutFolder,
    *,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Tell one node the time, which it cannot know by itself. Signed in the role
    time.

    Raises the floor below which the node believes no date. More than 400 days
    ahead need two holders of the role, so a slip of one cannot stop a node.

    \b
    Examples:
      appliance trust attest-time --node gpu-01 --journal 0f3a... \\
          --time 2026-01-31T12:00:00Z -o s
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    import datetime as dt

    from appliance.bundle.ceremony.drafting import new_nonce
    from appliance.trust.statements import Time, time_text

    said = time_text(dt.datetime.now(dt.UTC)) if time == "now" else time
    statement = Time(node, journal, new_nonce(), said)
    write_statement("attest-time", statement, out, transcript, transcript_key, as_json=as_json)


def enrol(
    node: Node,
    reason: Reason,
    out: OutFolder,
    product: Annotated[
        list[str] | None,
        typer.Option("--product", metavar="NAME=SEQUENCE", help="Below this the product may not fall."),
    ] = None,
    *,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Let a node that lost its journal begin a new one. Signed in the role site,
    or else release.

    Name for every product the sequence that the node had at last, as far as
    anybody knows: what is not named starts anew, and could be rolled back.

    \b
    Examples:
      appliance trust enrol --node gpu-01 --product demo=7 \\
          --reason "disk replaced" --out statements
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    import re

    from appliance.bundle.ceremony.drafting import new_nonce
    from appliance.errors import Usage
    from appliance.trust.statements import Enrolment

    floors: dict[str, int] = {}
    for pair in product or ():
        match = re.fullmatch(r"([^=]+)=([0-9]{1,15})", pair)
        if not match or match[1] in floors:
            raise Usage("a product is misspelled or named twice", found=ascii(pair), wanted="NAME=SEQUENCE")
        floors[match[1]] = int(match[2])
    statement = Enrolment(node, new_nonce(), reason, floors)
    write_statement("enrol", statement, out, transcript, transcript_key, as_json=as_json)


def write_statement(
    command: str,
    statement: Statement,
    out: Path,
    transcript: Path | None,
    transcript_key: Path | None,
    *,
    as_json: bool,
) -> None:
    """Write a statement that is to be signed, and say so."""
    from appliance.bundle.ceremony.drafting import write_draft
    from appliance.bundle.ceremony.transcripts import begin_log

    log = begin_log(transcript, transcript_key)
    draft = write_draft(statement, out)
    log.add(command, made=[draft.path])
    print_draft(draft, as_json=as_json)
