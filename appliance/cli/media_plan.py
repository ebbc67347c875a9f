"""``appliance media plan``: how many media of which size, and what lies where."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from appliance.bundle.media.plan import Plan


def plan(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    *,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", help="What is printed on a medium: 64GB. The last one given repeats."),
    ] = None,
    to: Annotated[
        list[Path] | None,
        typer.Option("--to", metavar="MOUNT", readable=False, help="A mounted medium; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how a bundle divides among media: how many, how full, what lies on each.

    Sizes are as bought, formatted with FAT32 or exFAT; clusters, folders and
    tables are counted. Of mounted media it says what `media write` would do with
    them: volumes that lie there already fix the division. Writes nothing and reads
    no payload.

    \b
    Examples:
      appliance media plan out/demo --size 64GB
      appliance media plan out/demo --size 128GB --size 64GB
      appliance media plan out/demo --to /mnt/a --to /mnt/b --json

    \b
    Exit codes:
      2  a size is misspelled
      4  the bundle is malformed
      5  a file fits none of the media, or they cannot hold the bundle
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.media.planning import plan_media
    from appliance.bundle.media.sizes import parse_size

    planned = plan_media(bundle, sizes=[parse_size(text) for text in size or ()], mounts=to or ())
    print_result(_text(planned), _values(planned), as_json=as_json)


def _text(planned: Plan) -> str:
    from appliance.bundle.media.sizes import size_text
    from appliance.counting import counted

    shared = size_text(sum(volume.share.size for volume in planned.volumes))
    count = counted(len(planned.volumes), "volume")
    title = f"{planned.product} {planned.version}, {planned.digest[:12]}"
    lines = [f"{title}: {count} for {shared}, and {size_text(planned.repeated)} on each", ""]
    rows = [("volume", "medium", "files", "holds", "takes", "full", "components")]
    rows += [
        (
            str(volume.number),
            f"{volume.room.name} ({volume.there})" if volume.there else volume.room.name,
            f"{volume.share.files:,}",
            size_text(volume.share.size),
            size_text(volume.used),
            f"{100 * volume.used / volume.room.size:.0f} %" if volume.room.size else "",
            " ".join(volume.holds),
        )
        for volume in planned.volumes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines += ["  ".join([*map(str.ljust, row[:-1], widths), row[-1]]) for row in rows]
    lines += ["", "from and to, in the bundle's order:"]
    for volume in planned.volumes:
        lines += [f"{volume.number:>6}  {volume.share.first}", f"        {volume.share.last}"]
    return "\n".join(lines)


def _values(planned: Plan) -> dict[str, object]:
    return {
        "digest": planned.digest,
        "product": planned.product,
        "version": planned.version,
        "bytes_on_each": planned.repeated,
        "volumes": [
            {
                "number": volume.number,
                "medium": volume.room.name,
                "there": volume.there,
                "room": volume.room.size,
                "takes": volume.used,
                "bytes": volume.share.size,
                "files": volume.share.files,
                "first": volume.share.first,
                "last": volume.share.last,
                "components": list(volume.holds),
            }
            for volume in planned.volumes
        ],
    }
