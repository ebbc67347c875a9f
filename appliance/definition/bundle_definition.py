"""A bundle definition: the product, the system it is for, its components and what is served.

The kinds of components are in ``appliance.definition.components``.  What a definition asks for is checked
here as far as the text alone can show it; whether packages exist, ``appliance lock`` finds out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints

from appliance.definition.components import (
    MODEL_FILE,
    Component,
    Debian,
    Files,
    HuggingFace,
    Oci,
    Python,
    TinyGguf,
    Toolkit,
)
from appliance.definition.document import Document, read_document, validate_document
from appliance.definition.hardware import Hardware, check_hardware
from appliance.definition.names import (
    ComponentName,
    Format,
    Frozen,
    Inference,
    Parity,
    Product,
    Target,
    ValidDays,
)
from appliance.errors import DefinitionInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class BundleDefinition(Frozen):
    """What an operator writes to have a bundle made."""

    format: Format
    product: Product
    version: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+~-]*$", max_length=64)]
    sequence: Annotated[int, Field(ge=1, le=2**53 - 1)]  # JSON numbers are exact up to here (RFC 8785)
    target: Target
    components: Annotated[dict[ComponentName, Component], Field(min_length=1)]
    inference: Inference
    hardware: Hardware | None = None
    parity: Parity = 5
    valid_days: ValidDays = 0


@dataclass(frozen=True)
class ReadDefinition:
    """A valid definition, its positions, and the SHA-256 of its bytes, which binds a lock to it."""

    definition: BundleDefinition
    document: Document
    digest: str


def read_definition(data: bytes, path: Path | str) -> ReadDefinition:
    """Read and check a definition.

    Raises:
        DefinitionInvalid: with file, line and column of the first thing that is wrong.
        GpuUnknown, GpusTooFew, MigLayoutInvalid, ParallelismImpossible: no machine could have the hardware.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as fault:
        raise DefinitionInvalid(f"{path} is not UTF-8 text", found=str(fault)) from fault
    document = read_document(text, path, DefinitionInvalid)
    definition = validate_document(document, BundleDefinition, DefinitionInvalid)
    _check_served(document, definition)
    _check_once(document, definition.components)
    _check_signatures(document, definition.components)
    if definition.hardware is not None:
        check_hardware(definition.hardware, lambda loc: document.where(("hardware", *loc)))
    return ReadDefinition(definition, document, hashlib.sha256(data).hexdigest())


def _check_served(document: Document, definition: BundleDefinition) -> None:
    """What is to be served exists: wheels or a maker's archive run it, a component holds the file."""
    served, components = definition.inference, definition.components
    for role, name in (("engine", served.engine), ("model", served.model)):
        if name not in components:
            raise DefinitionInvalid(
                f"inference.{role} names a component that is not defined",
                found=name,
                wanted=f"one of: {', '.join(components)}",
                where=document.where(("inference", role)),
            )
    engine, model = components[served.engine], components[served.model]
    if not isinstance(engine, Python | Files):
        raise DefinitionInvalid(
            "the engine must be a component of wheels or of plain files",
            found=f"{served.engine}, of kind {engine.kind}",
            wanted="kind python or files",
            where=document.where(("inference", "engine")),
        )
    held: tuple[str, ...]
    if isinstance(model, TinyGguf):
        held = (MODEL_FILE,)
    elif isinstance(model, Files):
        held = tuple(file.path for file in model.files)
    elif isinstance(model, HuggingFace):
        return  # what the repository holds, the lock finds out
    else:
        raise DefinitionInvalid(
            "the model must be a component that holds weights",
            found=f"{served.model}, of kind {model.kind}",
            wanted="kind tiny-gguf, huggingface or files",
            where=document.where(("inference", "model")),
        )
    if served.file not in held:
        raise DefinitionInvalid(
            f"inference.file is not in component {served.model}",
            found=served.file,
            wanted=f"one of: {', '.join(held)}",
            where=document.where(("inference", "file")),
        )


def _check_signatures(document: Document, components: Mapping[str, Component]) -> None:
    """The signature of plain files is one of them; what a repository holds, the lock finds out."""
    for name, component in components.items():
        if not isinstance(component, Files) or component.signature is None:
            continue
        held = [file.path for file in component.files]
        if component.signature.file not in held:
            raise DefinitionInvalid(
                f"signature.file is not in component {name}",
                found=component.signature.file,
                wanted=f"one of: {', '.join(held)}",
                where=document.where(("components", name, "signature", "file")),
            )


def _check_once(document: Document, components: Mapping[str, Component]) -> None:
    """Nothing is listed twice: neither a file or package in a component, nor the toolkit."""
    toolkits = []
    for name, component in components.items():
        match component:
            case Files():
                listed, part = [file.path for file in component.files], "files"
            case Debian():
                listed, part = list(component.packages), "packages"
                _check_listed(document, name, list(component.repositories), "repositories")
            case Python():
                listed, part = list(component.requirements), "requirements"
            case Oci():
                listed, part = [f"{image.digest} {image.platform}" for image in component.images], "images"
            case Toolkit():
                toolkits.append(name)
                listed, part = list(component.pythons), "pythons"
            case _:
                continue
        _check_listed(document, name, listed, part)
    if len(toolkits) > 1:
        raise DefinitionInvalid(
            "a bundle carries the toolkit once",
            found=", ".join(toolkits),
            where=document.where_key(("components", toolkits[1])),
        )


def _check_listed(document: Document, name: str, listed: Sequence[str], part: str) -> None:
    for index, entry in enumerate(listed):
        if entry in listed[:index]:
            raise DefinitionInvalid(
                f"{entry} is listed twice in component {name}",
                where=document.where(("components", name, part, index)),
            )
