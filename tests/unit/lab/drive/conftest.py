"""A drive on the bench: its TPer and blocks in memory, and a state that outlasts power as a file would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.lab.drive.interface import SecurityInterface
from appliance.lab.drive.keeping import profile_of, restore, state_of
from appliance.lab.drive.media import Media
from appliance.lab.drive.profile import DATA_STORE_SIZE, MIB, SHADOW_SIZE, Profile
from appliance.lab.drive.space import MemorySpace
from appliance.lab.drive.tper import TPer
from appliance.tcg.uids import DATA_STORE, MBR
from tests.unit.lab.drive.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    NewBench = Callable[..., "Bench"]

PIN = "a PIN of the owner"


class Bench:
    """A drive, and a host before it."""

    def __init__(self, profile: Profile) -> None:
        self.kept = ""
        self.keeps = 0
        self.blocks = MemorySpace(profile.size)
        self.spaces = {MBR: MemorySpace(SHADOW_SIZE), DATA_STORE: MemorySpace(DATA_STORE_SIZE)}
        self._plug_in(TPer(profile, {**self.spaces}, self._keep))
        self._keep()

    def _keep(self) -> None:
        self.kept = json.dumps(state_of(self.tper))
        self.keeps += 1

    def _plug_in(self, tper: TPer) -> None:
        self.tper = tper
        self.profile = tper.profile
        self.security = SecurityInterface(tper)
        self.media = Media(tper, self.blocks)
        self.host = Host(self.security)

    def lose_power(self) -> None:
        """All that is left is what was kept: as when the program is killed and started again."""
        state: dict[str, Any] = json.loads(self.kept)
        self._plug_in(TPer(profile_of(state), {**self.spaces}, self._keep))
        restore(self.tper, state)
        self.tper.power_cycle()

    def own(self) -> Bench:
        """Take ownership and turn locking on."""
        assert self.host.take_ownership(PIN) == 0
        assert self.host.activate(PIN) == 0
        return self

    def pattern(self, first: int, count: int) -> bytes:
        """Write blocks of which each is another one; what was written."""
        size = self.profile.block_size
        data = b"".join((first + at).to_bytes(8, "big") * (size // 8) for at in range(count))
        self.media.write(first, data)
        return data


@pytest.fixture
def new_bench() -> NewBench:
    """Makes drives of 16 MiB, or as the profile's fields say."""

    def make(**fields: Any) -> Bench:
        return Bench(Profile(**{"size": 16 * MIB, **fields}))

    return make


@pytest.fixture
def bench(new_bench: NewBench) -> Bench:
    """A new drive."""
    return new_bench()


@pytest.fixture
def owned(new_bench: NewBench) -> Bench:
    """A drive with an owner, whose locking is on."""
    return new_bench().own()
