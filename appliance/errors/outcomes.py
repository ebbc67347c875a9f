"""Exit codes 6 to 9, and 130: what became of a run."""

from __future__ import annotations

from appliance.errors.base import ApplianceError


class Unreachable(ApplianceError):
    """No connection could be made."""

    exit_code = 6


class NodeUnreachable(Unreachable):
    """A node did not answer, or the connection broke."""


class SourceUnreachable(Unreachable):
    """A package source did not answer while building."""


class AccessDenied(Unreachable):
    """A source wants a token, a consent or rights that this station does not have."""


class ExportSinkUnready(Unreachable):
    """Whoever is to have what was exported does not take it, or not as it has to be kept."""


class ApplyFailed(ApplianceError):
    """A node refused a change; the record says which."""

    exit_code = 7


class LabFailed(ApplianceError):
    """A practice node could not be started, reached or removed."""

    exit_code = 7


class QualificationFailed(ApplianceError):
    """The live node does not keep a promise."""

    exit_code = 8


class BundleStale(ApplianceError):
    """Everything verified, but the bundle is past its date."""

    exit_code = 9


class Interrupted(ApplianceError):
    """Somebody pressed Ctrl-C, or ended one of this program's processes."""

    exit_code = 130
