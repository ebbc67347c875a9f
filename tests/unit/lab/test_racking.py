"""The archive a virtual machine takes its identity from."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from appliance.lab.plan import Lab
from appliance.lab.racking import identity_archive
from appliance.lab.site import PRIVATE_FILES, node_files

LAB = Lab("ward", 7, 1, "0123456789", (4, 4026531840), Path("/cache/abc/machine"), machine=True)


def test_every_file_is_there_with_the_rights_it_needs_and_belongs_to_root() -> None:
    files = node_files(LAB, LAB.nodes[0], host_key="HOST", operator_key="OPERATOR", machine_id="0" * 32)
    with tarfile.open(fileobj=io.BytesIO(identity_archive(files))) as archive:
        members = {member.name: member for member in archive.getmembers()}
        for path, text in files.items():
            content = archive.extractfile(path)
            assert content is not None
            assert content.read() == text.encode()
            assert members[path].mode == (0o600 if path in PRIVATE_FILES else 0o644)
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
    assert (members["root"].mode, members["root/.ssh"].mode, members["etc"].mode) == (0o700, 0o700, 0o755)
    # A folder comes before what is in it.
    order = list(members)
    assert all(order.index(str(Path(name).parent)) < at for at, name in enumerate(order) if "/" in name)


def test_interfaces_are_matched_by_their_address_and_only_management_leads_out() -> None:
    files = node_files(LAB, LAB.nodes[0], host_key="HOST", operator_key="OPERATOR", machine_id="0" * 32)
    networks = {path: text for path, text in files.items() if path.endswith(".network")}
    assert len(networks) == 3
    for nic in LAB.nodes[0].nics:
        (text,) = (text for text in networks.values() if f"MACAddress={nic.mac}\n" in text)
        assert f"Address={nic.addresses[0]}/24\n" in text
        assert ("Gateway=" in text) == (nic.purpose == "management")
