"""What was seen in a bundle, as JSON values."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from appliance.bundle.licences import normalised
from appliance.bundle.origins import OWN, origin_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.bundle.inspection import Inspection, Sbom
    from appliance.bundle.manifest import Component
    from appliance.bundle.packages import Package
    from appliance.trust.root import Root


def inspection_values(seen: Inspection, *, files: bool) -> dict[str, object]:
    """All of it; ``files`` lists every file too."""
    manifest = seen.manifest
    components: dict[str, object] = {}
    for name, component in manifest.components.items():
        values: dict[str, object] = {
            "kind": component.kind,
            "files": len(component.files),
            "bytes": sum(file.size for file in component.files),
            "packages": [package_values(one, seen) for one in seen.packages if one.component == name],
            "licences": licence_counts(component),
            "origins": _counted(origin_text(file.origin, without=OWN) for file in component.files),
        }
        if files:
            values["contents"] = [asdict(file) for file in component.files]
        components[name] = values
    sets, size = seen.parity
    return {
        "verified": seen.verified,
        "judged_by": seen.judged_by,
        "trusted": _root_values(seen.trusted, seen.role) if seen.trusted else None,
        "product": manifest.product,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "created": manifest.created,
        "digest": seen.digest,
        "signed_list": seen.kind.path,
        "files": len(seen.files),
        "bytes": seen.files.size,
        "target": asdict(manifest.target),
        "inference": asdict(manifest.inference),
        "build": asdict(manifest.build) if manifest.build else None,
        "root": _root_values(seen.root, seen.role) if seen.root else None,
        "sbom": _sbom_values(seen.sbom) if seen.sbom else None,
        "parity": {"sets": sets, "bytes": size},
        "signatures": [asdict(one) for one in seen.signatures],
        "upstream": [found.values for found in seen.upstream],
        "components": components,
        "notes": list(seen.notes),
    }


def package_values(package: Package, seen: Inspection) -> dict[str, Any]:
    """One package, with the names that the bill of materials of its bundle has for it."""
    known = seen.sbom.identifiers.get(package.reference) if seen.sbom else None
    return {
        "component": package.component,
        "kind": package.kind,
        "name": package.name,
        "version": package.version,
        "licences": list(package.licences),
        "origin": origin_text(package.origin),
        "files": len(package.files),
        "bytes": package.size,
        "sha256": package.sha256,
        "purl": known.purl or None if known else None,
        "cpe": known.cpe or None if known else None,
    }


def licence_counts(component: Component) -> dict[str, int]:
    """How many files of a component have which licence."""
    return _counted(normalised(file.licence) for file in component.files)


def _root_values(root: Root, role: str) -> dict[str, object]:
    """A root, and its rule for the role that counts here; none if it gives nobody the role."""
    rule = root.roles.get(role)
    return {
        "version": root.version,
        "fingerprint": root.fingerprint,
        "solo": root.solo,
        "role": role,
        "threshold": rule.threshold if rule else None,
        "holders": list(root.holders(role)) if rule else [],
    }


def _sbom_values(sbom: Sbom) -> dict[str, object]:
    return {
        "specification": sbom.specification,
        "serial": sbom.serial,
        "components": sbom.components,
    }


def _counted(texts: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(texts).items()))
