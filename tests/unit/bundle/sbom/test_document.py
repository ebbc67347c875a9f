"""The bill of materials: one component for each package, by the schema, from the manifest alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from appliance.bundle.manifest import ListedFile, Manifest, manifest_bytes, parse_manifest
from appliance.bundle.packages import packages
from appliance.bundle.paths import BLOCKS_PATH, REVIEW_PATH, SBOM_PATH
from appliance.bundle.sbom.document import MOST_FILES, add_sbom, sbom_bytes
from appliance.bundle.verify import verify_bundle
from appliance.bundle.writer import write_bundle
from appliance.progress import Silent
from appliance.trust.canonical import parse_canonical
from appliance.trust.root import root_bytes

from .conftest import COMMIT, component, payload

if TYPE_CHECKING:
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker


def sbom(manifest: Manifest) -> dict[str, Any]:
    data = sbom_bytes(manifest)
    parse_canonical(data, limit=len(data))
    fault = JsonStrictValidator(SchemaVersion.V1_7).validate_str(data.decode())
    assert fault is None, fault
    return json.loads(data)


def named(document: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [each for each in document["components"] if each["name"] == name]
    return one


def properties(one: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in one["properties"]}


def test_one_component_for_each_package(manifest: Manifest) -> None:
    document = sbom(manifest)
    assert document["specVersion"] == "1.7"
    assert {each["name"]: each["type"] for each in document["components"]} == {
        "appliance": "application",
        "bash": "library",
        "cryptography": "library",
        "example/Tiny-Model": "machine-learning-model",
        "extras": "data",
        "libc6": "library",
        "openssh-server": "library",
        "requirements.txt": "data",
        "tiny.gguf": "data",
        "tools/probe": "container",
        "x": "library",
    }
    product = document["metadata"]["component"]
    assert (product["name"], product["version"]) == ("demo", "1.0.0")
    assert properties(product)["appliance:lock-sha256"] == "e" * 64
    (tree,) = [each for each in document["dependencies"] if "dependsOn" in each]
    assert tree["ref"] == product["bom-ref"]
    assert set(tree["dependsOn"]) == {each["bom-ref"] for each in document["components"]}


def test_digests_licences_and_origins(manifest: Manifest) -> None:
    document = sbom(manifest)
    wheel = named(document, "cryptography")
    path = "payload/engine/cryptography-46.0.1-cp311-abi3-linux_x86_64.whl"
    digest = hashlib.sha256(path.removeprefix("payload/").encode()).hexdigest()
    assert wheel["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert wheel["licenses"] == [{"expression": "Apache-2.0 OR BSD-3-Clause"}]
    assert properties(wheel)["appliance:path"] == path
    assert properties(wheel)["appliance:origin:project"] == "cryptography"
    assert named(document, "x")["licenses"] == [{"license": {"name": "Some words of its own"}}]
    assert named(document, "bash")["licenses"] == [{"license": {"id": "GPL-3.0-or-later"}}]
    extras = named(document, "extras")
    assert "hashes" not in extras
    assert properties(extras)["appliance:files"] == "2"


def test_a_model_has_a_card_of_what_is_known_and_its_files(manifest: Manifest) -> None:
    model = named(sbom(manifest), "example/Tiny-Model")
    assert model["version"] == COMMIT
    assert properties(model)["appliance:origin:revision"] == COMMIT
    assert [each["name"] for each in model["components"]] == [
        "payload/model/config.json",
        "payload/model/weights/a.safetensors",
    ]
    assert all(each["hashes"][0]["alg"] == "SHA-256" for each in model["components"])
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert "modelParameters" not in model["modelCard"]  # nobody said what it does
    assert properties(model["modelCard"])["appliance:formats"] == "json, safetensors"


def test_a_card_says_what_the_origin_says(manifest: Manifest) -> None:
    component = manifest.components["model"]
    said = {"task": "text-generation", "architectures": "LlamaForCausalLM"}
    files = tuple(replace(file, origin={**file.origin, **said}) for file in component.files)
    told = replace(manifest, components={**manifest.components, "model": replace(component, files=files)})
    card = named(sbom(told), "example/Tiny-Model")["modelCard"]
    assert card["modelParameters"] == {"task": "text-generation", "modelArchitecture": "LlamaForCausalLM"}


def test_a_generated_model_says_what_its_generator_makes(manifest: Manifest) -> None:
    served = replace(manifest, inference=replace(manifest.inference, model="tiny", file="tiny.gguf"))
    model = named(sbom(served), "tiny.gguf")
    assert model["type"] == "machine-learning-model"
    assert model["modelCard"]["modelParameters"] == {
        "task": "text-generation",
        "modelArchitecture": "llama",
    }
    assert model["purl"].startswith("pkg:generic/tiny.gguf@1?checksum=sha256:")


def test_every_file_is_in_one_package(manifest: Manifest) -> None:
    seen = [file.path for package in packages(manifest) for file in package.files]
    assert sorted(seen) == sorted(file.path for file in manifest.payload())
    references = [package.reference for package in packages(manifest)]
    assert len(set(references)) == len(references)


def test_the_same_content_gives_the_same_bytes(manifest: Manifest) -> None:
    """The very bytes: they must not change with a library's version, a machine or a day unnoticed."""
    data = sbom_bytes(manifest)
    files = {REVIEW_PATH: ListedFile("a" * 64, 1), BLOCKS_PATH: ListedFile("b" * 64, 32)}
    assert sbom_bytes(replace(manifest, files=files)) == data
    assert json.loads(data)["metadata"]["timestamp"] == "2026-01-31T12:00:00Z"
    assert hashlib.sha256(data).hexdigest() == GOLDEN


GOLDEN = "e1af44ae1e47fe62b808a8e509d9fefe153e99225d1d4821a8cf89a73c503c63"


@pytest.mark.parametrize("change", [{"sequence": 8}, {"build": None}, {"version": "1.0.1"}])
def test_another_bundle_has_another_serial_number(manifest: Manifest, change: dict[str, Any]) -> None:
    other = sbom(replace(manifest, **change))
    assert other["serialNumber"] != sbom(manifest)["serialNumber"]


def test_many_files_stay_one_component(manifest: Manifest) -> None:
    files = [payload(f"extras/{number:06}", "f", "1", "MIT", kind="file") for number in range(20_000)]
    extras = component("files", *files)
    one = replace(manifest, components={**manifest.components, "extras": extras})
    data = sbom_bytes(one)
    assert len(data) < len(sbom_bytes(manifest)) + 200
    changed = replace(extras, files=(*extras.files[:-1], replace(extras.files[-1], sha256="0" * 64)))
    other = replace(manifest, components={**manifest.components, "extras": changed})
    assert sbom_bytes(other) != data


def test_several_files_have_the_digest_of_their_list(manifest: Manifest) -> None:
    """As sha256sum prints it, in the order of their paths; a package of one file has that file's own."""
    for count in (1, 2, MOST_FILES + 1):
        files = [payload(f"extras/{number:06}", "f", "1", "MIT", kind="file") for number in range(count)]
        one = replace(manifest, components={**manifest.components, "extras": component("files", *files)})
        lines = "".join(f"{file.sha256}  {file.path}\n" for file in files)
        found = [
            properties(each).get("appliance:list-sha256")
            for each in json.loads(sbom_bytes(one))["components"]
            if properties(each)["appliance:component"] == "extras"
        ]
        assert found == [hashlib.sha256(lines.encode()).hexdigest() if count > 1 else None]


def test_a_model_of_very_many_files_is_not_listed(manifest: Manifest) -> None:
    origin = {"kind": "huggingface", "repository": "example/m", "revision": COMMIT}
    files = [
        payload(f"model/{number:06}", "f", COMMIT, "MIT", **origin) for number in range(MOST_FILES + 1)
    ]
    many = replace(manifest, components={**manifest.components, "model": component("huggingface", *files)})
    model = named(json.loads(sbom_bytes(many)), "example/m")
    assert "components" not in model
    assert properties(model)["appliance:files"] == str(MOST_FILES + 1)


def test_a_bundle_carries_it_and_lists_it(maker: BundleMaker, two_of_three: Root) -> None:
    folder = write_bundle(
        maker.folder / "bundle",
        maker.lock(),
        maker.store(),
        root=root_bytes(two_of_three),
        progress=Silent(),
        companions=[add_sbom],
    )
    maker.sign(folder, "alice", "bob")
    verified = verify_bundle([folder], root_bytes(two_of_three), progress=Silent())
    data = (folder / SBOM_PATH).read_bytes()
    assert verified.files[SBOM_PATH] == ListedFile(hashlib.sha256(data).hexdigest(), len(data))
    # Whoever has the manifest can make it again and compare.
    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    assert sbom_bytes(manifest) == data
    assert manifest_bytes(manifest) == (folder / "manifest.json").read_bytes()
