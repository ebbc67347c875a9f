"""Exit code 3: what an operator wrote is wrong."""

from __future__ import annotations

from appliance.errors.base import ApplianceError


class DefinitionInvalid(ApplianceError):
    """A bundle definition is malformed or asks for something impossible."""

    exit_code = 3


class PackageMissing(DefinitionInvalid):
    """A named package, wheel or version does not exist where the station looks."""


class VersionsDiffer(DefinitionInvalid):
    """Packages that work only in one and the same version, or with a newer one, are not locked so."""


class EngineUnfit(DefinitionInvalid):
    """No engine that this program can run is among the wheels, or it cannot serve the model as asked."""


class ModelIncomplete(DefinitionInvalid):
    """A model lacks a file that its engine reads: a description, a tokenizer, a part of the weights."""


class FormatRefused(DefinitionInvalid):
    """A repository holds files that may carry code, or of no known kind, and nobody allowed them."""


class LockInvalid(ApplianceError):
    """A lock file is malformed or does not belong to the definition."""

    exit_code = 3


class InventoryInvalid(ApplianceError):
    """An inventory is malformed or contradicts itself."""

    exit_code = 3


class GatewayForbidden(InventoryInvalid):
    """An inventory would give a node a way out: a gateway, DNS, DHCP, a route to everywhere."""


class SettingsInvalid(ApplianceError):
    """Station settings (mirrors, keyrings, store) are wrong or missing."""

    exit_code = 3


class ExportIdentityInvalid(ApplianceError):
    """A file that says who exports is malformed, holds a weak key, or contradicts another one."""

    exit_code = 3


class ExportTargetChanged(SettingsInvalid):
    """An output is to go on elsewhere than where what is before its position went."""


class PlanInvalid(ApplianceError):
    """What is to be planned contradicts itself, or names what does not exist."""

    exit_code = 3


class GpuUnknown(PlanInvalid):
    """No GPU of this name is in the table."""


class GpusTooFew(PlanInvalid):
    """Tensor parallelism asks for more GPUs than there are."""


class ParallelismImpossible(PlanInvalid):
    """A model's heads or widths do not divide by this number of GPUs, or slices were to be joined."""


class MigLayoutInvalid(PlanInvalid):
    """A GPU cannot be cut like this: it knows no such slice, or has no place for all of them."""


class ArchitectureUnsupported(PlanInvalid):
    """A model is built in a way whose memory nobody here has worked out: no guess is made."""


class PrecisionRefused(PlanInvalid):
    """Weights or cache are of lower precision than the policy for this work allows."""
