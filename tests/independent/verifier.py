"""Verify a bundle: python verifier.py ROOT FOLDER...; whatever it raises refuses the bundle.

Written from docs/format.md alone, whose grammar it reads, sharing nothing with the project: where the two
disagree about a bundle, one of them or the page is wrong.  ROOT is the trusted root's file, FOLDER the
bundle, or each of its volumes.  Nobody may change the folders meanwhile.  It takes a root without a policy
and follows neither chains nor revocations (docs/trust.md): these are looked at before.
"""

import hashlib
import json
import re
import stat
import subprocess
import sys
from base64 import b64decode, b64encode
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import rfc8785
from cryptography.hazmat.primitives import serialization
from nacl.bindings import crypto_core_ed25519_is_valid_point
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

MIB, BLOCK = 1 << 20, 4 << 20
GRAMMAR = (Path(__file__).parents[2] / "docs/format.md").read_text().partition("```grammar\n")[2]
RULES: dict[str, str] = {}
for _name, _rule in re.findall(r"(\w+) +(\S.*)\n", GRAMMAR.partition("```")[0]):
    RULES[_name] = "(?:" + re.sub(r"<(\w+)>", lambda word: RULES[word[1]], _rule) + ")"


def need(fact: object, reason: str) -> None:
    if not fact:
        raise ValueError(reason)


def fits(rule: str, text: str) -> bool:
    return re.fullmatch(RULES[rule], text) is not None


def increases(items: list[str]) -> bool:
    return items == sorted(set(items))


def digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read(file: Path, limit: int = MIB) -> bytes:
    need(file.stat().st_size <= limit, f"{file} is too large")
    return file.read_bytes()


def canonical(data: bytes, rule: str) -> Any:
    """What canonical JSON (RFC 8785) says, if it is spelled so and follows a rule of the grammar."""
    spelled = data.decode()
    need(rfc8785.dumps(value := json.loads(spelled)) == data, f"the {rule} is not canonical JSON")
    need(spelled.isprintable() and fits(rule, spelled), f"no {rule} of format 1")
    return value


def unbase64(data: str) -> bytes:
    need(b64encode(raw := b64decode(data)).decode() == data, "base64 in another spelling")
    return raw


def strings(data: bytes, count: int) -> list[bytes]:
    """The first strings (RFC 4251) of some bytes, and the rest."""
    end = 4 + int.from_bytes(data[:4])
    need(len(data) >= end, "an SSH structure is cut short")
    return [data[4:end], *(strings(data[end:], count - 1) if count > 1 else [data[end:]])]


def read_key(line: str) -> tuple[str, Any]:
    """The identifier of a sound key, and the key, from the line of a .pub file."""
    need(fits("public", line) and unbase64(line.split(" ")[1]), "no public key")
    key: Any = serialization.load_ssh_public_key(line.encode())
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    need("ed25519" not in line or crypto_core_ed25519_is_valid_point(der[-32:]), "a key that is not sound")
    return hashlib.sha256(der).hexdigest(), key


def read_signer(file: Path, message: bytes, role: str) -> str:
    """The line of the key that signed.  ssh-keygen judges the signature; the page is stricter."""
    armoured = read(file).decode()
    blob = unbase64("".join(armoured.split("\n")[1:-2]))
    body = re.sub(".{1,70}", r"\g<0>\n", b64encode(blob).decode())
    armour = f"-----BEGIN SSH SIGNATURE-----\n{body}-----END SSH SIGNATURE-----\n"
    need(armour == armoured, f"{file} is spelled otherwise")
    key, _, reserved, _, signature, rest = strings(blob[10:], 5)
    touched = strings(signature, 2)[2][:1] in {b"", b"\1", b"\5"}
    need(touched and not reserved and not rest, f"{file} says more, or nobody touched the token")
    line = f"{strings(key, 1)[0].decode()} {b64encode(key).decode()}"
    with NamedTemporaryFile("w") as allowed:
        print("signer", line, file=allowed, flush=True)
        command = ["ssh-keygen", "-qY", "verify", "-f", allowed.name, "-I", "signer"]
        command += ["-n", f"{role}@appliance", "-s", str(file)]
        subprocess.run(command, input=message, check=True, capture_output=True)
    return line


def read_root(data: bytes) -> Any:
    """A root whose keys are sound and whose roles can be filled."""
    root = canonical(data[: MIB + 1], "root")  # of a longer one the end is missing
    keys, roles = root["keys"], root["roles"]
    need(all(read_key(key["public"])[0] == keyid for keyid, key in keys.items()), "a key's identifier")
    for role in roles.values():
        holders = {keys[keyid]["holder"] for keyid in role["keys"]}
        need(increases(role["keys"]) and 1 <= role["threshold"] <= len(holders), "a role nobody can fill")
    served = {keyid for role in roles.values() for keyid in role["keys"]}
    need(served == keys.keys() and {"root", "release"} <= roles.keys(), "a key or a role is missing")
    alone = any(roles[name]["threshold"] == 1 for name in {"root", "release", "patch"} & roles.keys())
    both = set(roles["release"]["keys"]) & set(roles["patch"]["keys"] if "patch" in roles else [])
    need(alone == root["solo"] and (alone or not both), "solo")
    return root


def walk(top: Path) -> dict[str, Path]:
    """The files of a folder by path: plain ones under one name; and no folder without any."""
    found, folders = {}, [top]
    for folder in folders:  # grows meanwhile
        need(inside := list(folder.iterdir()), f"{folder} is empty")
        for path, status in [(path, path.lstat()) for path in inside]:
            plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and not status.st_mode & 0o7000
            need(plain or stat.S_ISDIR(status.st_mode), f"{path} is no plain file")
            need(status.st_dev == top.stat().st_dev, f"{path} is another file system")
            found.update({path.relative_to(top).as_posix(): path} if plain else {})
            folders += [] if plain else [path]
    return found


def gather(folders: list[Path]) -> dict[str, Path]:
    """The files of the bundle, of whose volumes each has its share, all else, and perhaps second copies."""
    files: dict[str, Path] = {}
    volumes = [walk(folder) for folder in folders]
    for volume in volumes:
        is_volume = volume.pop("volume.json", None) or len(folders) > 1
        for path in [path for path in volume if is_volume and fits("spare", path)]:
            original = volume[path.removeprefix("spare/")]
            need(digest(original) == digest(volume.pop(path)), f"{path} is no second copy")
        for path, file in volume.items():
            copies = [each[path] for each in volumes if path in each]
            wanted = 1 if path.startswith(("payload/", "parity/")) else len(volumes)
            same = len(copies) == wanted and all(digest(each) == digest(file) for each in copies[1:])
            need(same, f"{path} is not on the volumes it should be on, the same on each")
        files |= volume
    return files


def check_paths(paths: list[str]) -> None:
    """No file is a folder of another, and no names differ only in case."""
    seen: dict[str, str] = {}
    for path in paths:
        need(fits("path", path), f"{path} is no path")
        for end in re.finditer("/|$", path):
            place = path[: end.end()]
            need(seen.setdefault(place.lower().rstrip("/"), place) == place, f"{path} clashes")


def read_list(data: bytes) -> dict[str, str]:
    """The digest of each listed file."""
    need(fits("list", text := data.decode()), "no list of format 1")
    paths, parity = [line[66:] for line in text.splitlines()], re.findall(r"  (parity/.*)", text)
    need(increases(paths) and {"VERIFY.txt", "blocks.bin", "manifest.json"} <= {*paths}, "the list's paths")
    need(parity == [f"parity/set-{n:04}.par2" for n in range(len(parity))], "a gap in the parity files")
    roots = sorted(int(path[11:-5]) for path in paths if fits("root_file", path))
    need(not roots or roots == [*range(roots[0], roots[-1] + 1)], "a gap between roots")
    signed = {re.sub(r"(\.[^.]+){3}$", ".json", path) for path in paths if fits("document_signature", path)}
    need(signed <= {*paths} and sum(fits("revoked", path) for path in paths) < 2, "documents in trust")
    check_paths(paths)
    return {line[66:]: line[:64] for line in text.splitlines()}


def parts(file: Any) -> list[tuple[str, int, str]]:
    """Path, size and digest of a file of the payload as it lies there."""
    if not (slices := file.get("slices")):
        need(not re.search(r"\.slice-[0-9]{4}$", file["path"]), "a name kept for slices")
        return [(file["path"], file["size"], file["sha256"])]
    sizes = [each["size"] for each in slices]
    alike = len(set(sizes[:-1])) == 1 and 0 < sizes[-1] <= sizes[0] and sizes[0] % BLOCK == 0
    need(alike and sum(sizes) == file["size"], f"slices of {file['path']}")
    return [(f"{file['path']}.slice-{n:04}", each["size"], each["sha256"]) for n, each in enumerate(slices)]


def read_manifest(data: bytes) -> tuple[Any, list[tuple[str, int, str]]]:
    """The manifest, and path, size and digest of each file of the payload as it lies there."""
    manifest = canonical(data, "manifest")
    need(all(datetime.fromisoformat(manifest.get(key, "2026-01-31")) for key in ("created", "expires")), "")
    paths = [file["path"] for file in manifest["files"]]
    need(increases(paths) and not any(path.startswith("payload/") for path in paths), "paths of files")
    whole, payload = [], []
    for name, component in sorted(manifest["components"].items()):
        paths = [file["path"] for file in component["files"]]
        here = all(path.startswith(f"payload/{name}/") for path in paths)
        need(here and increases(paths) and increases(component.get("packages", [])), f"order of {name}")
        need(all("kind" in file["origin"] for file in component["files"]), "an origin without its kind")
        whole += paths
        payload += [part for file in component["files"] for part in parts(file)]
    served = manifest["inference"]
    need(served["engine"] in manifest["components"], "an unknown engine")
    need(f"payload/{served['model']}/{served['file']}" in whole, "the served file is not there")
    check_paths(whole)
    return manifest, payload


def check_blocks(index: bytes, payload: list[tuple[str, int, str]]) -> None:
    """The size of blocks.bin, and the entries that are digests of whole files."""
    number = 0
    for path, size, sha256 in payload:
        entry = index[32 * number : 32 * number + 32].hex()
        need(not 0 < size <= BLOCK or entry == sha256, f"the entry of {path} in blocks.bin")
        number += -(-size // BLOCK)
    need(len(index) == 32 * number, "the size of blocks.bin")


def check_provenance(envelope: Any, line: str, manifest: Any, digests: dict[str, str]) -> None:
    """What a holder states is what follows from the bundle, signed with the key that signed the list."""
    said = canonical(unbase64(envelope["payload"]), "statement")
    build, run = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    stated = said["subject"] + build["resolvedDependencies"] + run["byproducts"]
    names = ["trust/SHA256SUMS", "definition", "lock", "manifest.json", "sbom/bundle.cdx.json"]
    follow = [{"name": name, "digest": {"sha256": digests[name]}} for name in names if name in digests]
    need(stated == follow and manifest | build["externalParameters"] == manifest, "of another bundle")
    need(unbase64(envelope["signatures"][0]["sig"]) and not line.startswith("sk-"), "signed by a token")
    keyid, key = read_key(line)
    Envelope.from_dict(envelope).verify([SSlibKey.from_crypto(key, keyid)], 1)


def verify(folders: list[Path], trusted: bytes, role: str = "release") -> None:
    """Return if these folders are a bundle that the root trusts."""
    root, files = read_root(trusted), gather(folders)
    enrolled, signers = root["roles"][role], {}
    data = read(files["trust/SHA256SUMS"], 64 * MIB)
    for path in [path for path in files if fits("signature", path)]:
        holder = path.split(".")[1]
        signers[holder] = read_signer(files.pop(path), data, role)
        keyid, _ = read_key(signers[holder])
        need(keyid in enrolled["keys"], f"{path} is by a key without this role")
        need(root["keys"][keyid] == {"holder": holder, "public": signers[holder]}, f"{path} is by another")
    need(len(signers) >= enrolled["threshold"], "too few holders have signed")

    listed = read_list(data)
    stated = {path: files.pop(path) for path in [*files] if fits("provenance", path)}
    need(files.keys() == {*listed, "trust/SHA256SUMS"}, f"not as listed: {files.keys() ^ listed.keys()}")
    manifest, payload = read_manifest(read(files["manifest.json"], 128 * MIB))
    named = [(file["path"], file["size"], file["sha256"]) for file in manifest["files"]] + payload
    digests = {path: sha256 for path, _, sha256 in named} | {"manifest.json": listed["manifest.json"]}
    need(len(digests) == len(named) + 1 and digests == listed, "manifest and list")
    need(all(files[path].stat().st_size == size for path, size, _ in named), "a wrong size")
    need(all(digest(files[path]) == sha256 for path, sha256 in listed.items()), "a damaged file")
    check_blocks(files["blocks.bin"].read_bytes(), payload)
    later = [path for path in listed if fits("root_file", path) and int(path[11:-5]) > root["version"]]
    carried = files.get(f"trust/root.{root['version']}.json")
    need(not later, "a later root: follow its chain, and trust that one")
    need(not carried or carried.read_bytes() == trusted, "another root of the trusted version")
    said = listed | manifest.get("build", {}) | {"trust/SHA256SUMS": hashlib.sha256(data).hexdigest()}
    for path, file in stated.items():
        check_provenance(canonical(read(file), "envelope"), signers[path.split(".")[1]], manifest, said)


if __name__ == "__main__":
    verify([Path(folder) for folder in sys.argv[2:]], Path(sys.argv[1]).read_bytes())
    print("accepted")
