"""What roles get, and what people read before it is applied."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from pathlib import Path

from appliance.bundle.manifest import Component, parse_manifest
from appliance.definition.export import Export, Receiver
from appliance.definition.host import Audit, Host
from appliance.definition.inventory import (
    Flow,
    Interface,
    Inventory,
    Management,
    Match,
    NodeEntry,
    Peer,
)
from appliance.hardware.needs import HardwareNeeds
from appliance.node.plan import make_plan

DIGEST = "ab" * 32


def node(name: str, last: int) -> NodeEntry:
    address = ip_interface(f"10.20.0.{last}/24")
    return NodeEntry(name, "ssh", address.ip, 2222, (Interface("mgmt", Match(name="eno1"), (address,)),))


INVENTORY = Inventory(
    Path("/site/inventory.yml"),
    "example",
    Management((ip_network("10.20.0.0/28"),), (ip_address("10.20.0.1"),)),
    None,
    (node("gpu-01", 11), node("gpu-02", 12)),
    revert_after=90,
)


def test_the_plan_carries_what_the_contract_names(pristine_bundle: Path) -> None:
    manifest = parse_manifest((pristine_bundle / "manifest.json").read_bytes())
    plan = make_plan(manifest, DIGEST, INVENTORY, INVENTORY.nodes)
    bundle = plan.variables["appliance_bundle"]
    staged = f"/var/lib/appliance/staged/{DIGEST}"
    assert bundle["staged"] == staged
    assert (bundle["digest"], bundle["product"], bundle["version"], bundle["sequence"]) == (
        DIGEST,
        "demo",
        "1.0.0",
        7,
    )
    model = bundle["components"]["model"]
    assert model["kind"] == "tiny-gguf"
    assert model["path"] == f"{staged}/payload/model"
    assert model["files"][0]["path"] == f"{staged}/payload/model/tiny.gguf"
    assert bundle["inference"] == {
        "engine": "engine",
        "model": "model",
        "file": "tiny.gguf",
        "name": "demo",
        "software": "xllamacpp",
        "archive": None,
        "archive_sha256": None,
        "path": f"{staged}/payload/model/tiny.gguf",
        "folder": f"{staged}/payload/model",
        "digests": {f"{staged}/payload/model/tiny.gguf": hashlib.sha256(b"GGUF" * 1000).hexdigest()},
        "parallel": 1,
        "gpus": False,
    }
    assert bundle["target"]["python"] == "3.13"
    assert plan.variables["appliance_site"]["revert_after"] == 90
    assert plan.nodes["gpu-02"]["appliance_node"] == {
        "name": "gpu-02",
        "port": 2222,
        "interfaces": [{"name": "mgmt", "match": {"name": "eno1"}, "addresses": ["10.20.0.12/24"]}],
    }


def test_an_engine_of_an_archive_is_handed_over_with_its_digest(pristine_bundle: Path) -> None:
    manifest = parse_manifest((pristine_bundle / "manifest.json").read_bytes())
    one = manifest.components["engine"].files[0]
    archive = replace(one, path="payload/engine/ollama-linux-amd64.tgz", sha256="e" * 64)
    engine = replace(manifest.components["engine"], kind="files", files=(archive,))
    manifest = replace(manifest, components={**manifest.components, "engine": engine})
    plan = make_plan(manifest, DIGEST, INVENTORY, INVENTORY.nodes)
    inference = plan.variables["appliance_bundle"]["inference"]
    assert inference["software"] == "ollama"
    on_gpus = make_plan(
        replace(manifest, hardware=HardwareNeeds("h100-sxm", 1)), DIGEST, INVENTORY, INVENTORY.nodes
    )
    assert on_gpus.variables["appliance_bundle"]["inference"]["gpus"] is True
    assert inference["archive"] == (
        f"/var/lib/appliance/staged/{DIGEST}/payload/engine/ollama-linux-amd64.tgz"
    )
    assert inference["archive_sha256"] == "e" * 64
    assert any("ollama serves demo" in each and "ollama-linux-amd64.tgz" in each for each in plan.words)


def test_roles_get_the_packages_that_were_asked_for(pristine_bundle: Path) -> None:
    manifest = parse_manifest((pristine_bundle / "manifest.json").read_bytes())
    system = replace(manifest.components["extras"], kind="debian", packages=("iproute2", "ufw"))
    manifest = replace(manifest, components={**manifest.components, "extras": system})
    plan = make_plan(manifest, DIGEST, INVENTORY, INVENTORY.nodes)
    components = plan.variables["appliance_bundle"]["components"]
    assert components["extras"]["packages"] == ["iproute2", "ufw"]
    assert components["model"]["packages"] == []
    assert any(word.startswith("base: iproute2, ufw from") for word in plan.words)


def test_the_words_name_order_addresses_and_the_undo(pristine_bundle: Path) -> None:
    manifest = parse_manifest((pristine_bundle / "manifest.json").read_bytes())
    words = "\n".join(make_plan(manifest, DIGEST, INVENTORY, INVENTORY.nodes).words)
    assert "first gpu-01 alone, then gpu-02" in words
    assert "gpu-02 10.20.0.12/24" in words
    assert "SSH in from 10.20.0.0/28" in words
    assert "the clock runs free; USB storage deny; loading of kernel modules open" in words
    assert "undoes itself after 90 s" in words
    assert "log_export" not in words


def test_the_plan_names_every_export(pristine_bundle: Path) -> None:
    manifest = parse_manifest((pristine_bundle / "manifest.json").read_bytes())
    receiver = Receiver(IPv4Address("10.60.0.10"), "02:00:00:00:00:0f", 5514)
    export = Export(None, "0000:18:00.1", IPv4Address("10.60.0.9"), receiver)
    plan = make_plan(manifest, DIGEST, INVENTORY, (replace(INVENTORY.nodes[0], export=export),))
    assert (
        "log_export: gpu-01 exports over 0000:18:00.1 to 10.60.0.10 port 5514; nothing comes in there"
        in plan.words
    )


def test_the_plan_names_every_flow(pristine_bundle: Path) -> None:
    """A person who reads the plan sees every hole there will be."""
    manifest = parse_manifest((pristine_bundle / "manifest.json").read_bytes())
    peer = Peer("gpu-02", (ip_address("10.20.0.12"),))
    flow = Flow("nccl", "mgmt", "both", "tcp", ((50000, 50999), (4791, 4791)), (peer,), answers=True)
    first, second = INVENTORY.nodes
    plan = make_plan(manifest, DIGEST, INVENTORY, (replace(first, flows=(flow,)), second))
    words = "firewall: gpu-01 flow nccl: both over mgmt, tcp port 50000-50999, 4791 with gpu-02"
    assert words in plan.words
    (given,) = plan.nodes["gpu-01"]["appliance_node"]["flows"]
    assert given["peers"] == ["10.20.0.12"]
    assert "flows" not in plan.nodes["gpu-02"]["appliance_node"]


def test_a_daily_audit_is_told_with_its_hour_where_it_is_asked_for(pristine_bundle: Path) -> None:
    manifest = parse_manifest((pristine_bundle / "manifest.json").read_bytes())
    asked = replace(INVENTORY, host=Host(audit=Audit(daily=True, at="04:15")))
    words = {
        name: [each for each in make_plan(manifest, DIGEST, site, site.nodes).words if "audit" in each]
        for name, site in (("plain", INVENTORY), ("asked", asked))
    }
    assert words == {"plain": [], "asked": ["daily_audit: the node audits itself every day at 04:15"]}


def test_people_read_of_a_driver_what_it_is(pristine_bundle: Path) -> None:
    manifest = parse_manifest((pristine_bundle / "manifest.json").read_bytes())
    assert not any(
        line.startswith("gpu_driver")
        for line in make_plan(manifest, DIGEST, INVENTORY, INVENTORY.nodes).words
    )
    model = manifest.components["model"].files[0]
    deb = replace(
        model, path="payload/system/x.deb", name="nvidia-open-kernel-dkms", version="550.163.01-2"
    )
    system = Component("debian", (deb,))
    bringing = replace(manifest, components={**manifest.components, "system": system})
    (line,) = [
        line
        for line in make_plan(bringing, DIGEST, INVENTORY, INVENTORY.nodes).words
        if line.startswith("gpu_driver")
    ]
    assert "driver 550.163.01," in line
