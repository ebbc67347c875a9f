"""``appliance trust transcript``: the log of a ceremony, which cannot be altered unseen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from appliance.trust.transcript import Line, Transcript

transcript_app = typer.Typer(
    name="transcript",
    help="The log of a ceremony: hash-chained, signed, closed. Commands write it with --transcript.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The transcript.")]
Holder = Annotated[str | None, typer.Option("--holder", metavar="NAME", help="Whose key it is.")]


@transcript_app.command("verify")
def verify(
    file: File,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root", "-r", metavar="ROOT", help="A root that says whose keys count; may be repeated."
        ),
    ] = None,
    *,
    still_open: Annotated[
        bool, typer.Option("--open", help="Accept one that nobody has closed yet; its end may be cut off.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a transcript line by line, and show it.

    Without --root it is not judged whose keys signed: compare the fingerprint with the one on paper.

    \b
    Examples:
      appliance trust transcript verify log.jsonl --root trust/root.1.json --root trust/root.2.json
      appliance trust transcript verify log.jsonl --open

    \b
    Exit codes:
      4  a line was altered, cut, moved or added, or nobody closed it
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.transcripts import verify_transcript
    from appliance.bundle.roots import load_root
    from appliance.trust.root import parse_root

    roots = [parse_root(load_root(path, None)) for path in root or ()]
    _print(verify_transcript(file, roots, may_be_open=still_open), bool(roots), as_json=as_json)


@transcript_app.command("note")
def note(
    file: File,
    text: Annotated[str, typer.Option("--text", help="One line: who is there, when, where, what is odd.")],
    key: Annotated[Path | None, typer.Option("--key", "-k", help="SSH key to sign the line with.")] = None,
    holder: Holder = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write down what no command knows; begins the transcript if there is none.

    \b
    Examples:
      appliance trust transcript note log.jsonl --text "Bern, room 4, 2026-01-31, five present"
      appliance trust transcript note log.jsonl --key alice --holder alice --text "seals 11 to 15 intact"
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.transcripts import add_note

    _print(add_note(file, key, holder=holder, note=text), judged=False, as_json=as_json)


@transcript_app.command("close")
def close(
    file: File,
    key: Annotated[Path, typer.Option("--key", "-k", help="SSH key of the person who closes it.")],
    holder: Holder = None,
    text: Annotated[str | None, typer.Option("--text", help="A note to end with.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Sign the end of a transcript: nothing follows, and nothing can be cut off unseen.

    Several people may close it one after the other; then each vouches for all of it. Write its
    fingerprint on paper, beside that of the root.

    \b
    Examples:
      appliance trust transcript close log.jsonl --key alice --holder alice
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.transcripts import close_transcript

    _print(close_transcript(file, key, holder=holder, note=text), judged=False, as_json=as_json)


def _print(transcript: Transcript, judged: bool, *, as_json: bool) -> None:
    lines = [text for line in transcript.lines for text in _lines(line)]
    closed = ", ".join(transcript.closed_by) or "nobody yet: its end may be cut off"
    lines += [
        f"closed by    {closed}",
        f"fingerprint  {transcript.digest}",
        "keys         "
        + ("enrolled by the roots given" if judged else "not judged: name the roots with --root"),
    ]
    values = {
        "lines": [
            {
                "number": line.entry.number,
                "command": line.entry.command,
                "holder": line.entry.holder,
                "note": line.entry.note,
                "in": [{"name": name, "sha256": digest} for name, digest in line.entry.taken],
                "out": [{"name": name, "sha256": digest} for name, digest in line.entry.made],
                "key": line.fingerprint,
            }
            for line in transcript.lines
        ],
        "closed_by": list(transcript.closed_by),
        "fingerprint": transcript.digest,
        "keys_judged": judged,
    }
    print_result("\n".join(lines), values, as_json=as_json)


def _lines(line: Line) -> list[str]:
    entry = line.entry
    who = f" by {entry.holder}" if entry.holder else ""
    signed = f", signed {line.fingerprint}" if line.fingerprint else ", not signed itself"
    lines = [f"{entry.number:>3} {entry.command}{who}{signed}"]
    lines += [f"      in   {digest[:16]}… {name}" for name, digest in entry.taken]
    lines += [f"      out  {digest[:16]}… {name}" for name, digest in entry.made]
    return lines + ([f"      {entry.note}"] if entry.note else [])
