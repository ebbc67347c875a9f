"""The key ``gpus`` of a node in ``inventory.yml``: its shape, and what its values say about each other.

.. code-block:: yaml

    gpus:
      model: h100-sxm          # as `appliance plan` names it
      count: 2                 # all that the node has
      layout:                  # GPUs that are left out stay whole
        - {gpus: [0], slices: "3g.40gb,2*2g.20gb"}
      teams:                   # an instance of the server for each
        radiology: {port: 8001, gpus: [0], slice: 3g.40gb}
        research: {port: 8002, gpus: [1]}

What a GPU can hold is asked of the table that ``appliance plan`` uses.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints

from appliance.definition.partition import Cut, Partition, Team
from appliance.errors import GpuUnknown, InventoryInvalid, MigLayoutInvalid
from appliance.hardware.gpus import find_gpu, find_slice, parse_layout, placements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.definition.document import Loc
    from appliance.errors import Location
    from appliance.hardware.gpu_table import Gpu

    Where = Callable[[Loc], Location]

_Index = Annotated[StrictInt, Field(ge=0, le=15)]
_Indexes = Annotated[tuple[_Index, ...], Field(min_length=1, max_length=16)]
_Slices = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.,* -]*$", max_length=200)]
# Part of a unit's name, and of a user's, which has 31 characters at most (systemd.exec(5), User=).
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,9}[a-z0-9])?$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Layout(_Model):
    gpus: _Indexes
    slices: _Slices


class _Team(_Model):
    port: Annotated[StrictInt, Field(ge=1024, le=65535)]
    gpus: _Indexes
    slice: Annotated[str, StringConstraints(pattern=r"^[1-7]g\.[0-9]{1,3}gb$")] | None = None


class GpusKey(_Model):
    """What stands below ``gpus``."""

    model: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40)]
    count: Annotated[StrictInt, Field(ge=1, le=16)]
    layout: tuple[_Layout, ...] = ()
    teams: Annotated[dict[_Name, _Team], Field(min_length=1, max_length=112)]


def read_gpus(written: GpusKey, where: Where) -> Partition:
    """What was written, if GPUs of that model can be divided like this.

    Args:
        written: the key, each value well-formed.
        where: where a value below the key is written.

    Raises:
        GpuUnknown: no GPU of this name is known.
        MigLayoutInvalid: the GPU cannot be cut like this, or knows no such slice.
        InventoryInvalid: GPUs that are not there or twice, slices that the layout has not, ports twice.
    """
    try:
        gpu = find_gpu(written.model)
    except GpuUnknown as fault:
        fault.where = where(("model",))
        fault.hint = "which GPUs a node has: appliance hardware -i, before gpus is written"
        raise
    cuts: dict[int, tuple[Cut, ...]] = {}
    for number, row in enumerate(written.layout):
        try:
            slices = parse_layout(gpu, row.slices.replace(" ", ""))
        except MigLayoutInvalid as fault:
            fault.where = where(("layout", number, "slices"))
            raise
        starts = placements(slices) or ()
        for index in _numbers(row.gpus, written.count, where, ("layout", number, "gpus")):
            if index in cuts:
                raise InventoryInvalid(
                    f"GPU {index} is cut twice",
                    found=str(index),
                    wanted="each GPU in one row of the layout",
                    where=where(("layout", number, "gpus")),
                )
            cuts[index] = tuple(
                Cut(each.name, start)
                for each, start in sorted(zip(slices, starts, strict=True), key=_start)
            )
    layout = tuple(cuts.get(index, ()) for index in range(written.count))
    return Partition(written.model, layout, tuple(_teams(written, gpu, layout, where)))


def _start(pair: tuple[object, int]) -> int:
    return pair[1]


def _numbers(indexes: tuple[int, ...], count: int, where: Where, loc: Loc) -> tuple[int, ...]:
    for position, index in enumerate(indexes):
        if index >= count:
            raise InventoryInvalid(
                f"there is no GPU {index}: the node has {count}, numbered from 0",
                found=str(index),
                wanted=f"0 to {count - 1}, as nvidia-smi numbers them",
                where=where((*loc, position)),
            )
    if len(set(indexes)) != len(indexes):
        raise InventoryInvalid(
            "a GPU is named twice", found=str(list(indexes)), wanted="each GPU once", where=where(loc)
        )
    return indexes


def _teams(written: GpusKey, gpu: Gpu, layout: tuple[tuple[Cut, ...], ...], where: Where) -> Iterator[Team]:
    ports: dict[int, str] = {}
    taken: Counter[tuple[int, str]] = Counter()
    for name, team in written.teams.items():
        loc: Loc = ("teams", name)
        indexes = _numbers(team.gpus, written.count, where, (*loc, "gpus"))
        if team.port in ports:
            raise InventoryInvalid(
                f"port {team.port} is already that of {ports[team.port]}",
                found=str(team.port),
                wanted="a port for each team",
                where=where((*loc, "port")),
            )
        ports[team.port] = name
        if team.slice is None:
            _check_whole(name, indexes, layout, where((*loc, "gpus")))
        else:
            _check_slice(name, team.slice, indexes, gpu, layout, where, loc)
        for index in indexes:
            part = team.slice or ""
            taken[index, part] += 1
            there = sum(cut.name == part for cut in layout[index]) if part else 1
            if taken[index, part] > there:
                raise InventoryInvalid(
                    f"{name} finds no {part or 'GPU'} left on GPU {index}: other teams have "
                    + ("it" if there == 1 else f"all {there}"),
                    found=f"{taken[index, part]} teams for {there}",
                    wanted="a slice, or whole GPUs, for each team alone",
                    hint="give this team another GPU or slice, or cut more of them in the layout",
                    where=where(loc),
                )
        yield Team(name, team.port, indexes, team.slice or "")


def _check_whole(
    name: str, indexes: tuple[int, ...], layout: tuple[tuple[Cut, ...], ...], where: Location
) -> None:
    for index in indexes:
        if layout[index]:
            raise InventoryInvalid(
                f"{name} is to have GPU {index} whole, and the layout cuts it",
                found=", ".join(cut.name for cut in layout[index]),
                wanted="a GPU that stays whole, or a slice of this one",
                hint=f"slice: {layout[index][0].name}",
                where=where,
            )


def _check_slice(  # noqa: PLR0917 - a team's parts, and where they are written
    name: str,
    wanted: str,
    indexes: tuple[int, ...],
    gpu: Gpu,
    layout: tuple[tuple[Cut, ...], ...],
    where: Where,
    loc: Loc,
) -> None:
    try:
        find_slice(gpu, wanted)
    except MigLayoutInvalid as fault:
        fault.where = where((*loc, "slice"))
        raise
    if len(indexes) != 1:
        raise InventoryInvalid(
            f"{name} is to have one slice of several GPUs: slices cannot be joined",
            found=f"gpus: {list(indexes)}, slice: {wanted}",
            wanted="one GPU for a slice, or whole GPUs",
            where=where((*loc, "gpus")),
        )
    there = [cut.name for cut in layout[indexes[0]]]
    if wanted not in there:
        raise InventoryInvalid(
            f"{name} is to have a slice that the layout does not cut from GPU {indexes[0]}",
            found=wanted,
            wanted=f"of: {', '.join(dict.fromkeys(there))}" if there else "a GPU that the layout cuts",
            where=where((*loc, "slice")),
        )
