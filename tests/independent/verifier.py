"""Verify a bundle: python verifier.py ROOT FOLDER... REVOCATION...; whatever it raises refuses the bundle.

Written from docs/format.md and docs/trust.md alone, sharing nothing with the project, and reading the
grammar from the former: where the two disagree about a bundle, one of them or a page is wrong.  ROOT is the
trusted root's file, FOLDER the bundle, or each of its volumes; beside a REVOCATION lie its signatures.
Nobody may change the folders meanwhile.
"""

import hashlib
import json
import re
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from nacl.bindings import crypto_core_ed25519_is_valid_point as is_valid_point
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Signature, SSlibKey

MIB, BLOCK, RULES = 1 << 20, 4 << 20, dict[str, str]()
RANK = [{}, {"pq": "warn"}, {"pq": "require"}, {"pq": "require", "profile": "cnsa"}].index  # of a policy
GRAMMAR = (Path(__file__).parents[2] / "docs/format.md").read_text().partition("```grammar\n")[2]
for _name, _rule in re.findall(r"(\w+) +(\S.*)\n", GRAMMAR.partition("```")[0]):
    RULES[_name] = "(?:" + re.sub(r"(?<!P)<(\w+)>", lambda word: RULES[word[1]], _rule) + ")"


def need(*facts: object) -> None:
    """Refuse unless all of these are so; the traceback says where."""
    if not all(facts):
        raise ValueError(facts)


def fits(rule: str, text: str) -> bool:
    return re.fullmatch(RULES[rule], text) is not None


def digest(file: Path, algorithm: str = "sha256") -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm).hexdigest()


def read(file: Path, limit: int = MIB) -> bytes:
    need(file.stat().st_size <= limit)
    return file.read_bytes()


def read_signed(file: Path, limit: int = MIB) -> tuple[bytes, dict[str, bytes]]:
    """What is signed, and its signatures by what their files are named for (alice.sig, al.3f1c9a2b.sig)."""
    before = file.name.removesuffix(".json") + "."
    beside = [each for each in file.parent.glob(f"{before}*") if fits("beside", f"trust/{each.name}")]
    return read(file, limit), {each.name.removeprefix(before): read(each) for each in beside}


def canonical(raw: bytes, rule: str) -> Any:
    """What canonical JSON (RFC 8785) says, if it is spelled so and follows a rule of the grammar."""
    need(rfc8785.dumps(it := json.loads(text := raw.decode())) == raw, text.isprintable(), fits(rule, text))
    return it


def pack(*strings: bytes) -> bytes:
    """Strings as OpenSSH writes them (RFC 4251)."""
    return b"".join(len(string).to_bytes(4) + string for string in strings)


def unpack(data: bytes, count: int) -> list[bytes]:
    """The first strings, and the rest; of what is cut short, whatever is there."""
    end = 4 + int.from_bytes(data[:4])
    return [data[4:end], *(unpack(data[end:], count - 1) if count > 1 else [data[end:]])]


def read_key(public: str) -> tuple[Any, str]:
    """A sound key, and its identity."""
    raw, later = b64decode(public.split(" ")[1]), public.startswith("ml-dsa-87 ")
    key: Any = MLDSA87PublicKey.from_public_bytes(raw) if later else load_ssh_public_key(public.encode())
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    need("ed25519" not in public or is_valid_point(der[-32:]), not later or len(set(raw[32:])) >= 200)
    return key, hashlib.sha256(der).hexdigest()


def read_signature(raw: bytes, message: bytes, space: bytes) -> tuple[str, bytes]:
    """The line of the key that made an SSHSIG signature, in its one spelling; and the hash it is over."""
    blob = b64decode(text := "".join((armoured := raw.decode()).split("\n")[1:-2]))
    owner, _, _, used, value, _ = unpack(blob[10:], 5)
    kind, signature, token = unpack(value, 2)
    need(blob == b"SSHSIG\0\0\0\1" + pack(owner, space, b"", used, pack(kind, signature) + token))
    need(fits("armour", armoured), fits("base64", text), used in {b"sha256", b"sha512"})
    need(kind == unpack(owner, 1)[0], token[:1] in {b"", b"\1", b"\5"}, len(token) == 5 * (b"sk-" in kind))
    signed = b"SSHSIG" + pack(space, b"", used, hashlib.new(used.decode(), message).digest())
    if token:
        application = unpack(owner, 4 if b"ecdsa" in kind else 3)[-2]
        signed = hashlib.sha256(application).digest() + token + hashlib.sha256(signed).digest()
    if b"ecdsa" in kind:
        r, s = (int.from_bytes(number) for number in unpack(signature, 2)[:2])
        need(signature == pack(*(number.to_bytes(number.bit_length() // 8 + 1) for number in (r, s))))
        signature = encode_dss_signature(r, s)
    key = SSlibKey.from_crypto(*read_key(public := f"{kind.decode()} {b64encode(owner).decode()}"))
    key.verify_signature(Signature(key.keyid, signature.hex()), signed)
    return public, used


def holders(root: Any, keyids: set[str], *, later: bool) -> list[str]:
    """Who holds these keys: those of ML-DSA, or those of OpenSSH."""
    keys = [root["keys"][keyid] for keyid in keyids]
    return [key["holder"] for key in keys if key["public"].startswith("ml-dsa-87 ") == later]


def read_root(data: bytes) -> Any:
    """A root whose keys are sound and whose roles can be filled."""
    root = canonical(data, "root")
    keys, roles = root["keys"], root["roles"].values()
    need(all(read_key(key["public"])[1] == keyid for keyid, key in keys.items()))
    need({keyid for role in roles for keyid in role["keys"]} == keys.keys())
    for role in roles:
        ssh, later = (holders(root, {*role["keys"]}, later=later) for later in (False, True))
        need(role["keys"] == sorted({*role["keys"]}), role["threshold"] <= len({*ssh}))
        need(len(later) == len({*later} & {*ssh}), {*later} == {*ssh} or RANK(root["policy"]) < 2)
    return root


def count(roots: list[Any], role: str, given: Any, revoked: Any = ()) -> dict[tuple[str, str], str]:
    """The key by which each signature is; by each of the roots, enough holders have signed in the role."""
    enrolled = {k: root["keys"][k] | root["policy"] for root in roots for k in root["roles"][role]["keys"]}
    names = {k: f"{key['holder']}.{k[:8]}." for k, key in enrolled.items() if k not in revoked}
    signers, space = {}, f"{role}@appliance".encode()
    for name, raw in given[1].items():
        who, kind = name.rsplit(".", 1)
        mine = {keyid: enrolled[keyid]["public"] for keyid in names if names[keyid].startswith(f"{who}.")}
        later = [public for public in mine.values() if public.startswith("ml-dsa-87 ")]
        public, used = read_signature(raw, given[0], space) if kind == "sig" else (later[0], b"sha512")
        key, keyid = read_key(public)
        need(kind == "sig" or key.verify(raw, given[0], space) is None, mine[keyid] == public)
        need(used == b"sha512" or "profile" not in enrolled[keyid])
        signers[kind, who] = public
    for root, rule in [(root, root["roles"][role]) for root in roots]:
        keys = {keyid for keyid in rule["keys"] if enrolled[keyid]["public"] in signers.values()}
        ssh, later = ({*holders(root, keys, later=it)} for it in (False, True))
        need(len(ssh & later if RANK(root["policy"]) >= 2 else ssh) >= rule["threshold"])
    return signers


def follow(trusted: bytes, carried: dict[str, Any]) -> Any:
    """The newest root: each is signed by enough of its own holders, and of those of the one before."""
    root = read_root(trusted)
    need(carried.get(f"trust/root.{root['version']}.json", (trusted,))[0] == trusted)
    while (path := f"trust/root.{root['version'] + 1}.json") in carried:
        before, root = root, read_root(carried[path][0])
        need(root["version"] == before["version"] + 1, RANK(root["policy"]) >= RANK(before["policy"]))
        count([before, root], "root", carried[path])
    need(all(int(path[11:-5]) <= root["version"] for path in carried))
    return root


def taken_back(root: Any, revocations: list[Any]) -> set[str]:
    """All keys and bundles that are revoked; each revocation holds what the ones before held."""
    found = sorted((canonical(data, "revocation") for data, _ in revocations), key=lambda it: it["serial"])
    need(*(count([root], "revoke", given) for given in revocations))
    for old, new in zip([{"serial": 0, "keys": [], "bundles": []}, *found], found, strict=False):
        need(*(new[key] == sorted({*old[key], *new[key]}) for key in ("keys", "bundles")))
        need(new == old or new["serial"] > old["serial"])
    return {each for revocation in found for each in revocation["keys"] + revocation["bundles"]}


def walk(top: Path) -> dict[str, Path]:
    """The files of a folder by path: each under one name, without special bits; no folder is empty."""
    for path, info in [(path, path.lstat()) for path in [top, *top.rglob("*")]]:
        plain = info.st_mode >> 9 == 0o100 and info.st_nlink == 1
        need(plain or (info.st_mode >> 12 == 4 and any(path.iterdir())), info.st_dev == top.stat().st_dev)
    return {path.relative_to(top).as_posix(): path for path in top.rglob("*") if path.is_file()}


def gather(folders: list[Path]) -> dict[str, Path]:
    """The files of the bundle, of whose volumes each has its share, all else, and perhaps second copies."""
    volumes = [walk(folder) for folder in folders]
    for volume in volumes:
        is_volume = volume.pop("volume.json", None) or len(folders) > 1
        spare = {path[6:]: volume.pop(path) for path in [*volume] if is_volume and fits("spare", path)}
        need(all(digest(volume[path]) == digest(file) for path, file in spare.items()))
    files = {path: file for volume in volumes for path, file in volume.items()}
    for path in files:
        copies = [volume[path] for volume in volumes if path in volume]
        need(len(copies) == (1 if path.startswith(("payload/", "parity/")) else len(volumes)))
        need(len(copies) == 1 or len({*map(digest, copies)}) == 1)
    return files


def check_paths(paths: list[str]) -> None:
    """No file is a folder of another, and no names differ only in case."""
    places = {path[: end.end()] for path in paths for end in re.finditer("/|$", path)}
    need(len({place.lower().rstrip("/") for place in places}) == len(places))


def read_list(data: bytes, algorithm: str = "sha256") -> dict[str, str]:
    """The digest of each listed file."""
    size, text = 2 * hashlib.new(algorithm).digest_size, data.decode()
    listed = {line[size + 2 :]: line[:size] for line in text.split("\n")[:-1]}
    need(fits(f"list{algorithm[3:]}", text), [*listed] == sorted(listed), len(listed) == text.count("\n"))
    parity = [int(path[11:15]) for path in listed if fits("parity", path)]
    roots = sorted(int(path[11:-5]) for path in listed if fits("root_file", path))
    need(parity == [*range(len(parity))], not roots or roots == [*range(roots[0], roots[-1] + 1)])
    check_paths([*listed])
    return listed


def read_manifest(data: bytes) -> tuple[Any, list[Any]]:
    """The manifest, and path, size and digest of each file of the payload as it lies there."""
    manifest = canonical(data, "manifest")
    components, payload, served = manifest["components"], [], manifest["inference"]
    for part in [manifest, *components.values()]:
        for names in ([file["path"] for file in part["files"]], part.get("packages", [])):
            need(names == sorted({*names}))
    whole = {file["path"]: file for component in components.values() for file in component["files"]}
    for path, file in whole.items():
        cut = file.get("slices", [])
        lying = [piece | {"path": f"{path}.slice-{n:04}"} for n, piece in enumerate(cut)] or [file]
        sizes = [piece["size"] for piece in lying]
        need(sum(sizes) == file["size"], not cut or sizes[0] % BLOCK == 0 < sizes[-1] <= sizes[0])
        payload += lying
    there = [served["engine"] in components, f"payload/{served['model']}/{served['file']}" in whole]
    need(*([base["sequence"] < manifest["sequence"] for base in manifest["requires"]] or there))
    check_paths([*whole])
    return manifest, payload


def check_claim(envelope: Any, public: str, manifest: Any, lists: Any) -> None:
    """What a holder states is what follows from the bundle, signed with the key that signed the list."""
    said = canonical(data := b64decode(envelope["payload"]), "statement")["predicate"]["buildDefinition"]
    stated = re.findall(r'"digest":({.+?}),"name":"(.+?)"', data.decode())
    names = ["definition", "lock", "manifest.json", "sbom/bundle.cdx.json", "trust/SHA256SUMS"]
    known = [({by: it[name] for by, it in lists.items() if name in it}, name) for name in names]
    need(stated == [(rfc8785.dumps(digests).decode(), name) for digests, name in known if digests])
    need(said["externalParameters"].items() <= manifest.items(), not public.startswith("sk-"))
    Envelope.from_dict(envelope).verify([SSlibKey.from_crypto(*read_key(public))], 1)


def verify(folders: list[Path], trusted: bytes, role: str = "release", *revoked: Path) -> None:
    """Return if these folders are a bundle that the root trusts."""
    files = gather(folders)
    root = follow(trusted, {path: read_signed(files[path]) for path in files if fits("root_file", path)})
    brought = [*revoked, *(file for path, file in files.items() if fits("revoked", path))]
    need(all(f'"serial":{file.name[8:-5]},"type"' in file.read_text() for file in brought))
    refused = taken_back(root, [*map(read_signed, brought)])
    algorithm = "sha384" if "profile" in root["policy"] else "sha256"
    name, index = f"trust/{algorithm.upper()}SUMS", "trust/SHA256SUMS"
    data, signatures = signed = read_signed(files[name], 64 * MIB)
    signers, listed = count([root], role, signed, refused), read_list(data, algorithm)
    stated = {path: files.pop(path) for path in [*files] if fits("provenance", path)}
    beside = {f"{name}.{end}" for end in signatures}
    sums = read_list(read(files[index], 64 * MIB))
    need(files.keys() - beside == {name, *listed} == {name, index, *sums})

    manifest, payload = read_manifest(read(files["manifest.json"], 128 * MIB))
    named = {file["path"]: file for file in [*manifest["files"], *payload]}
    lists = {algorithm: listed, "sha256": sums | {index: (bundle := digest(files[index]))}}
    need(not {bundle, manifest.get("makes")} & refused, (role == "patch") == ("makes" in manifest))
    need({*named, "manifest.json"} == {*sums}, *(sums[path] == named[path]["sha256"] for path in named))
    need(all(files[path].stat().st_size == file["size"] for path, file in named.items()))
    need(*(digest(files[path], by) == it[path] for by, it in lists.items() for path in it))  # else damaged
    blocks = [file for file in payload for _ in range(0, file["size"], BLOCK)]
    entries = re.findall(".{1,64}", files["blocks.bin"].read_bytes().hex())
    for file, entry in zip(blocks, entries, strict=True):
        need(len(entry) == 64, file["size"] > BLOCK or entry == file["sha256"])
    lists["sha256"] |= manifest.get("build", {})
    for path, it in stated.items():
        check_claim(canonical(read(it), "envelope"), signers["sig", path.split(".")[1]], manifest, lists)


if __name__ == "__main__":
    root_file, *places = map(Path, sys.argv[1:])
    verify([*filter(Path.is_dir, places)], read(root_file), "release", *filter(Path.is_file, places))
    print("accepted")
