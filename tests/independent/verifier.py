"""Verify a bundle: python verifier.py ROOT FOLDER... [--role ROLE]; exit 0 accepted, 4 refused.

Written from docs/format.md alone, sharing nothing with the project: where the two disagree about a
bundle, one of them or the page is wrong.  ROOT is the trusted root's file, FOLDER the bundle, or each of
its volumes.  Nobody may change the folders meanwhile.
"""

import argparse
import hashlib
import json
import re
import stat
from base64 import b64decode, b64encode
from datetime import datetime
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

MIB, BLOCK = 1 << 20, 4 << 20
KINDS = rb"(sk-)?(ssh-ed25519|ecdsa-sha2-nistp256)(?(1)@openssh\.com)|ecdsa-sha2-nistp384"
#: The shapes of names and of canonical JSON as regular expressions; <word> is an earlier line.  Commas, the
#: order of keys and the size of numbers are left to parsing and spelling anew, Unicode to str.isprintable.
GRAMMAR = r"""
number     0|[1-9][0-9]*
text       "([^"\\]|\\["\\]){1,4096}"
digest     "[0-9a-f]{64}"
name       "[a-z0-9][a-z0-9-]{0,63}"
holder     [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?
beside     trust/(SHA256SUMS\.<holder>\.sig|provenance\.<holder>\.dsse\.json)
end        (?=[/"]|$)
device     (con|prn|aux|nul|com[0-9]|lpt[0-9])(\.[^/"]*)?<end>
short      [^./"]{1,6}~[0-9]{1,2}(\.[^./"]{0,3})?<end>
part       (?ai:(?!-|<device>|<short>|[^/"]*\.<end>)[a-z0-9._+~@=-]{1,255})
path       (?=[^"]{1,512}("|$))<part>(/<part>){0,31}
optional   bootstrap\.sh|sbom/bundle\.cdx\.json|parity/set-[0-9]{4}\.par2|trust/root\.[1-9][0-9]{0,8}\.json
listed     VERIFY\.txt|blocks\.bin|manifest\.json|payload/.+|<optional>
piece      {"sha256":<digest>,"size":<number>}
file       {"path":"<path>","sha256":<digest>,"size":<number>}
upstream   "upstream":"(sha256|[a-z0-9-]+:[0-9a-f]+)"
origin     {((<upstream>|(?!"upstream")"[a-z][a-z0-9_-]{0,31}":<text>),?)+}
slices     "slices":\[(<piece>,?){2,10000}\]
from       "licence":<text>,"mode":"0644","name":<text>,"origin":<origin>
artefact   {<from>,"path":"<path>","sha256":<digest>,"size":<number>,(<slices>,)?"version":<text>}
packages   "packages":\[("[a-z0-9][a-z0-9.+-]{0,127}",?)+\]
component  {"files":\[(<artefact>,?)*\],"kind":<name>(,<packages>)?}
build      "build":{"definition":<digest>,"lock":<digest>}
inference  {"engine":<name>,"file":"<path>","model":<name>,"name":"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"}
target     {"architecture":<name>,"distribution":<name>,"python":"3\.[1-9][0-9]","suite":<name>}
contents   (<build>,)?"components":{(<name>:<component>,?)*},"created":"[0-9-]{10}T[0-9:]{8}Z"
version    "[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}"
product    "product":<name>,"requires":\[\],"sequence":<number>,"target":<target>,"version":<version>
manifest   {<contents>,"files":\[(<file>,?)*\],"format":1,"inference":<inference>,<product>}
roles      {("(root|release|patch|revoke|site|time)":{"keys":\[(<digest>,?)*\],"threshold":<number>},?)*}
keys       {(<digest>:{"holder":"<holder>","public":<text>},?){0,64}}
who        "keys":<keys>,"policy":{},"roles":<roles>,"solo":(true|false)
root       {"format":1,<who>,"type":"root","version":<number>}
base64     "[A-Za-z0-9+/=]+"
signed     "signatures":\[{"keyid":<digest>,"sig":<base64>}\]
envelope   {"payload":<base64>,"payloadType":"application/vnd\.in-toto\+json",<signed>}
"""
RULES: dict[str, str] = {}
for _name, _rule in re.findall(r"(\w+) +(.+)", GRAMMAR):
    RULES[_name] = "(?:" + re.sub(r"<(\w+)>", lambda word: RULES[word[1]], _rule) + ")"


class Refused(Exception):
    """Why a bundle is not accepted."""


def need(fact: object, reason: str) -> None:
    if not fact:
        raise Refused(reason)


def canonical(data: bytes, rule: str) -> Any:
    """What canonical JSON (RFC 8785) says, if it is spelled so and follows a rule."""
    spelled = data.decode()
    need(rfc8785.dumps(value := json.loads(spelled)) == data, f"the {rule} is not canonical JSON")
    need(spelled.isprintable() and re.fullmatch(RULES[rule], spelled), f"no {rule} of format 1")
    return value


def read(file: Path, limit: int = MIB) -> bytes:
    need(file.stat().st_size <= limit, f"{file} is too large")
    return file.read_bytes()


def digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def unbase64(data: str) -> bytes:
    need(b64encode(raw := b64decode(data)).decode() == data, "base64 in another spelling")
    return raw


def increases(items: list[str]) -> bool:
    return items == sorted(set(items))


def strings(data: bytes, count: int) -> list[bytes]:
    """The first strings (RFC 4251) of some bytes, and the rest."""
    found = []
    for _ in range(count):
        end = 4 + int.from_bytes(data[:4])
        need(len(data) >= end, "an SSH structure is cut short")
        found.append(data[4:end])
        data = data[end:]
    return [*found, data]


def is_sound(encoded: bytes) -> bool:
    """Whether an Ed25519 key (RFC 8032) is the canonical encoding of a point of prime order."""
    p, order = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
    d, y = -121665 * pow(121666, -1, p) % p, int.from_bytes(encoded, "little") % 2**255
    square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
    x = pow(square, (p + 3) // 8, p)
    x = x if x * x % p == square else x * pow(2, (p - 1) // 4, p) % p  # its sign does not change the order
    u, v = 0, 1
    for bit in f"{order:b}":
        for a, b in [(u, v), (x, y)][: 1 + int(bit)]:
            t = d * u * v * a * b
            u, v = (u * b + v * a) * pow(1 + t, -1, p) % p, (v * b + u * a) * pow(1 - t, -1, p) % p
    return y < p and x * x % p == square and x != 0 and (u, v) == (0, 1)


def read_key(blob: bytes) -> tuple[str, Any]:
    """A sound SSH key: its identifier, and the key."""
    kind = strings(blob, 1)[0]
    need(re.fullmatch(KINDS, kind), "a key of another kind")
    public: Any = serialization.load_ssh_public_key(kind + b" " + b64encode(blob))
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    need(b"ed25519" not in kind or is_sound(der[-32:]), "an Ed25519 key that is not sound")
    return hashlib.sha256(der).hexdigest(), public


def check_raw(public: Any, raw: bytes, message: bytes) -> None:
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(raw, message)
    else:
        public.verify(
            raw, message, ec.ECDSA(hashes.SHA256() if public.key_size == 256 else hashes.SHA384())
        )


def check_signature(armoured: bytes, message: bytes, role: str) -> tuple[str, Any, bool]:
    """The key that made an SSHSIG signature (OpenSSH, PROTOCOL.sshsig; for tokens PROTOCOL.u2f)."""
    blob = b64decode(b"".join(armoured.split(b"\n")[1:-2]))
    body = re.sub(r"(.{1,70})", r"\1\n", b64encode(blob).decode())
    spelled = f"-----BEGIN SSH SIGNATURE-----\n{body}-----END SSH SIGNATURE-----\n"
    key, space, reserved, name, signature, rest = strings(blob[10:], 5)
    need(
        spelled.encode() == armoured and blob[:10] == b"SSHSIG\0\0\0\1" and not rest,
        "not one SSH signature",
    )
    need(space.decode() == f"{role}@appliance" and not reserved, "a signature for something else")
    need(name in {b"sha256", b"sha512"}, "a signature with another hash")
    hashed = hashlib.new(name.decode(), message).digest()
    said = b"SSHSIG" + blob[14 + len(key) : -4 - len(signature)] + len(hashed).to_bytes(4) + hashed
    keyid, public = read_key(key)
    kind, raw, token = strings(signature, 2)
    need(kind == strings(key, 1)[0], "a signature of another kind than its key")
    need(len(token) == 5 and token[0] in {1, 5} if kind[:3] == b"sk-" else not token, "not touched")
    if token:
        application = strings(key, 4 if b"ecdsa" in kind else 3)[-2]
        said = hashlib.sha256(application).digest() + token + hashlib.sha256(said).digest()
    if b"ecdsa" in kind:
        *pair, rest = strings(raw, 2)
        r, s = (int.from_bytes(each) for each in pair)
        need(
            [n.to_bytes(n.bit_length() // 8 + 1) for n in (r, s)] == pair and r and s and not rest,
            "r and s",
        )
        raw = encode_dss_signature(r, s)
    check_raw(public, raw, said)
    return keyid, public, bool(token)


def read_root(data: bytes) -> Any:
    """A root whose keys are sound and whose roles can be filled."""
    root = canonical(data, "root")
    keys, roles, served = root["keys"], root["roles"], set()
    for keyid, key in keys.items():
        kind, blob = key["public"].split(" ")
        need(strings(unbase64(blob), 1)[0].decode() == kind, "a key of another kind than it says")
        need(read_key(unbase64(blob))[0] == keyid, "a key under another's identifier")
    for role in roles.values():
        need(increases(role["keys"]) and keys.keys() >= set(role["keys"]), "a role's keys")
        need(
            1 <= role["threshold"] <= len({keys[keyid]["holder"] for keyid in role["keys"]}), "a threshold"
        )
        served |= set(role["keys"])
    need(served == keys.keys() and roles.keys() >= {"root", "release"}, "a key or a role is missing")
    alone = any(roles[name]["threshold"] == 1 for name in {"root", "release", "patch"} & roles.keys())
    both = "patch" in roles and set(roles["release"]["keys"]) & set(roles["patch"]["keys"])
    need(
        alone == root["solo"] and (alone or not both),
        "a root that is solo without saying so, or the reverse",
    )
    return root


def walk(top: Path) -> dict[str, Path]:
    """The files of a folder by path: plain ones under one name; and no folder without any."""
    found, folders = {}, [top]
    for folder in folders:  # grows meanwhile
        need(inside := list(folder.iterdir()), f"{folder} is empty")
        for path in inside:
            status = path.lstat()
            plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and not status.st_mode & 0o7000
            need(plain or stat.S_ISDIR(status.st_mode), f"{path} is no plain file")
            need(status.st_dev == top.stat().st_dev, f"{path} is another file system")
            if plain:
                found[path.relative_to(top).as_posix()] = path
            else:
                folders.append(path)
    return found


def gather(folders: list[Path]) -> dict[str, Path]:
    """The files of the bundle, of whose volumes each has its share, all else, and perhaps second copies."""
    files: dict[str, Path] = {}
    volumes = [walk(folder) for folder in folders]
    for volume in volumes:
        label = volume.pop("volume.json", None)
        for path, file in volume.items():
            if path.startswith("spare/"):
                original = volume.get(path[6:])
                need(
                    (label or len(folders) > 1) and re.match("spare/(manifest.json$|trust/)", path),
                    f"{path} is not listed",
                )
                need(original and digest(original) == digest(file), f"{path} is no second copy")
            elif path.startswith(("payload/", "parity/")):
                need(path not in files, f"{path} lies on two volumes")
                files[path] = file
            else:
                need(
                    all(path in each and digest(each[path]) == digest(file) for each in volumes),
                    f"{path} differs",
                )
                files[path] = file
    return files


def named(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def statement(identity: str, manifest: Any, listed: dict[str, str]) -> Any:
    """What provenance says of the bundle with this digest."""
    outside = {key: manifest[key] for key in ("product", "version", "sequence", "target")}
    build = {"buildType": "urn:appliance:build:bundle-1", "externalParameters": outside}
    build["resolvedDependencies"] = [named(*each) for each in sorted(manifest.get("build", {}).items())]
    side = [
        named(path, listed[path]) for path in ("manifest.json", "sbom/bundle.cdx.json") if path in listed
    ]
    run = {"builder": {"id": "urn:appliance:builder:station"}, "byproducts": side}
    value = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1"}
    value["predicate"] = {"buildDefinition": build, "runDetails": run}
    return value | {"subject": [named("trust/SHA256SUMS", identity)]}


def check_paths(paths: list[str]) -> None:
    """No file is a folder of another, and no names differ only in case."""
    seen: dict[str, str] = {}
    for path in paths:
        need(re.fullmatch(RULES["path"], path), f"{path} is no path")
        for end in [*re.finditer("/|$", path)]:
            place = path[: end.end()]
            need(seen.setdefault(place.lower().rstrip("/"), place) == place, f"{path} clashes")


def parts(file: Any) -> list[tuple[str, int, str]]:
    """Path, size and digest of a file of the payload as it lies there."""
    if not (slices := file.get("slices")):
        need(not re.search(r"\.slice-[0-9]{4}$", file["path"]), "a name kept for slices")
        return [(file["path"], file["size"], file["sha256"])]
    sizes = [each["size"] for each in slices]
    need(
        sum(sizes) == file["size"] and 0 < sizes[-1] <= sizes[0] and sizes[0] % BLOCK == 0,
        "sizes of slices",
    )
    need(len(set(sizes[:-1])) == 1, "slices of several sizes")
    return [(f"{file['path']}.slice-{n:04}", each["size"], each["sha256"]) for n, each in enumerate(slices)]


def read_list(data: bytes) -> dict[str, str]:
    lines = [line.partition("  ")[::2] for line in data.decode().split("\n")[:-1]]
    listed = {path: digest for digest, path in lines}
    spelled = "".join(f"{listed[path]}  {path}\n" for path in sorted(listed)).encode()
    need(
        spelled == data and all(map(re.compile("[0-9a-f]{64}").fullmatch, listed.values())),
        "the list's spelling",
    )
    need(all(map(re.compile(RULES["listed"]).fullmatch, listed)), "a file that no bundle has")
    need(listed.keys() >= {"VERIFY.txt", "blocks.bin", "manifest.json"}, "the list lacks a file")
    parity = [path for path in listed if path.startswith("parity/")]
    need(parity == [f"parity/set-{n:04}.par2" for n in range(len(parity))], "a gap in the parity files")
    check_paths(list(listed))
    return listed


def check_manifest(manifest: Any) -> tuple[list[tuple[str, int, str]], int, dict[int, str]]:
    """Path, size and digest of each file, and the entries of blocks.bin as far as they are known."""
    datetime.fromisoformat(manifest["created"])
    stated = [(file["path"], file["size"], file["sha256"]) for file in manifest["files"]]
    need(
        increases([path for path, *_ in stated])
        and not any(path.startswith("payload/") for path, *_ in stated),
        "order",
    )
    known: dict[int, str] = {}
    whole, count = [], 0
    for name, component in sorted(manifest["components"].items()):
        paths = [file["path"] for file in component["files"]]
        need(
            increases(paths) and all(path.startswith(f"payload/{name}/") for path in paths),
            f"paths of {name}",
        )
        need(increases(component.get("packages", [])), f"packages of {name}")
        for file in component["files"]:
            need("kind" in file["origin"], "an origin without its kind")
            stated += parts(file)
            for _, size, sha256 in parts(file):
                known.update({count: sha256} if 0 < size <= BLOCK else {})
                count += -(-size // BLOCK)
        whole += paths
    served = manifest["inference"]
    need({served["engine"], served["model"]} <= manifest["components"].keys(), "an unknown engine or model")
    need(f"payload/{served['model']}/{served['file']}" in whole, "the served file is not there")
    check_paths(whole)
    return stated, count, known


def judge(folders: list[Path], trusted: bytes, role: str) -> None:
    need(len(trusted) <= MIB, "the root is too large")
    root, files = read_root(trusted), gather(folders)
    need(
        role in root["roles"] and "trust/SHA256SUMS" in files, "nobody fills this role, or there is no list"
    )
    data, signers = read(files["trust/SHA256SUMS"], 64 * MIB), {}
    for path in sorted(files):
        if found := re.fullmatch(rf"trust/SHA256SUMS\.({RULES['holder']})\.sig", path):
            signer = check_signature(read(files.pop(path)), data, role)
            need(signer[0] in root["roles"][role]["keys"], f"{path} is by a key without this role")
            need(root["keys"][signer[0]]["holder"] == found[1], f"{path} is by another holder")
            signers[found[1]] = signer
    need(len(signers) >= root["roles"][role]["threshold"], "too few holders have signed")

    listed = read_list(data)
    envelopes = {path: files.pop(path) for path in sorted(files) if path.startswith("trust/provenance.")}
    need(
        files.keys() == {*listed, "trust/SHA256SUMS"},
        f"{sorted(files.keys() ^ listed.keys())}: missing or not listed",
    )
    manifest = canonical(read(files["manifest.json"], 128 * MIB), "manifest")
    stated, count, known = check_manifest(manifest)
    digests = {path: sha256 for path, _, sha256 in stated}
    need(
        len(digests) == len(stated) and digests | {"manifest.json": listed["manifest.json"]} == listed,
        "manifest and list",
    )
    need(all(files[path].stat().st_size == size for path, size, _ in stated), "a wrong size")
    need(all(digest(files[path]) == sha256 for path, sha256 in listed.items()), "a damaged file")
    index = files["blocks.bin"].read_bytes()
    need(len(index) == 32 * count, "the size of blocks.bin")
    need(
        all(index[32 * n : 32 * n + 32].hex() == one for n, one in known.items()),
        "an entry of blocks.bin",
    )
    for path in listed:
        if path.startswith("trust/root."):
            need(
                path == f"trust/root.{root['version']}.json" and files[path].read_bytes() == trusted,
                "another root",
            )
    for path, file in envelopes.items():
        envelope, holder = (
            canonical(read(file), "envelope"),
            path.removeprefix("trust/provenance.").removesuffix(".dsse.json"),
        )
        need(holder in signers, f"{path}: its holder did not sign")
        payload, [stamp] = unbase64(envelope["payload"]), envelope["signatures"]
        need(
            payload == rfc8785.dumps(statement(hashlib.sha256(data).hexdigest(), manifest, listed)),
            f"{path} says otherwise",
        )
        keyid, public, token = signers[holder]
        need(stamp["keyid"] == keyid and not token, f"{path} is by another key")
        check_raw(
            public,
            unbase64(stamp["sig"]),
            b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload),
        )


def verify(folders: list[Path], root: bytes, role: str = "release") -> None:
    """Raise Refused unless these folders are a bundle that the root trusts."""
    try:
        judge(folders, root, role)
    except (
        ValueError,
        OSError,
        RecursionError,
        NotImplementedError,
        InvalidSignature,
        UnsupportedAlgorithm,
    ) as error:
        raise Refused(f"not readable or not signed: {error!r}") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--role", default="release")
    asked = parser.parse_args()
    try:
        verify(asked.folder, asked.root.read_bytes(), asked.role)
    except Refused as reason:
        print(f"refused: {reason}")
        raise SystemExit(4) from None
    print("accepted")
