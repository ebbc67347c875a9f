"""The errors a person can act on, and the exit code each of them owns.

Every error says what failed, what was found, what was wanted and what to do next.  One class per
thing to act on; the class name is the stable name in JSON output.  A wrong call by our own code is a
``ValueError`` or ``RuntimeError`` and ends as exit code 1 instead.

Exit codes (the whole program):

==== =======================================================================
0    done
1    internal fault: a bug of ours
2    usage: the command line is wrong
3    definition, lock, inventory or settings invalid
4    bundle (or an artefact for it), or what was exported, untrusted or damaged
5    preflight failed: the station, the medium or the node is not ready
6    unreachable: a node, or a source on the connected side
7    apply failed
8    qualification failed, or drift found
9    verified but stale
130  interrupted by Ctrl-C
==== =======================================================================
"""

from __future__ import annotations

from appliance.errors.base import (
    ApplianceError,
    Location,
    Usage,
)
from appliance.errors.outcomes import (
    AccessDenied,
    ApplyFailed,
    BundleStale,
    Interrupted,
    LabFailed,
    NodeUnreachable,
    QualificationFailed,
    SourceUnreachable,
    Unreachable,
)
from appliance.errors.unready import (
    CaptureUnreadable,
    ExportLineDown,
    HostKeyChanged,
    InProgress,
    MediaMissing,
    MediaTooSmall,
    MediumFailed,
    MediumOccupied,
    MediumUnsuitable,
    ModelTooLarge,
    ParityFailed,
    PreflightFailed,
    SigningFailed,
    SpaceExhausted,
    SpoolFull,
    ToolMissing,
)
from appliance.errors.untrusted import (
    ArchiveUntrusted,
    BundleMalformed,
    BundleRevoked,
    BundleUntrusted,
    DamageTooGreat,
    DigestMismatch,
    DocumentInvalid,
    DrillFailed,
    ExportLogDamaged,
    ExportUntrusted,
    FileMissing,
    FileUnexpected,
    ImageRefused,
    JournalLost,
    JournalRolledBack,
    KeyRefused,
    KeyRevoked,
    LabelInvalid,
    ModelMisdescribed,
    NotAdmitted,
    ProfileNotMet,
    ProvenanceInvalid,
    RevocationInvalid,
    RollbackRefused,
    RootInvalid,
    SignatureInvalid,
    SignerUnknown,
    SpoolLost,
    StatementInvalid,
    ThresholdNotMet,
    TranscriptInvalid,
    TranscriptionFailed,
    UpstreamSignatureInvalid,
    VolumeMissing,
    VolumesMixed,
)
from appliance.errors.written import (
    ArchitectureUnsupported,
    DefinitionInvalid,
    ExportIdentityInvalid,
    FormatRefused,
    GatewayForbidden,
    GpusTooFew,
    GpuUnknown,
    InventoryInvalid,
    LockInvalid,
    MigLayoutInvalid,
    PackageMissing,
    ParallelismImpossible,
    PlanInvalid,
    PrecisionRefused,
    SettingsInvalid,
)

__all__ = [
    "AccessDenied",
    "ApplianceError",
    "ApplyFailed",
    "ArchitectureUnsupported",
    "ArchiveUntrusted",
    "BundleMalformed",
    "BundleRevoked",
    "BundleStale",
    "BundleUntrusted",
    "CaptureUnreadable",
    "DamageTooGreat",
    "DefinitionInvalid",
    "DigestMismatch",
    "DocumentInvalid",
    "DrillFailed",
    "ExportIdentityInvalid",
    "ExportLineDown",
    "ExportLogDamaged",
    "ExportUntrusted",
    "FileMissing",
    "FileUnexpected",
    "FormatRefused",
    "GatewayForbidden",
    "GpuUnknown",
    "GpusTooFew",
    "HostKeyChanged",
    "ImageRefused",
    "InProgress",
    "Interrupted",
    "InventoryInvalid",
    "JournalLost",
    "JournalRolledBack",
    "KeyRefused",
    "KeyRevoked",
    "LabFailed",
    "LabelInvalid",
    "Location",
    "LockInvalid",
    "MediaMissing",
    "MediaTooSmall",
    "MediumFailed",
    "MediumOccupied",
    "MediumUnsuitable",
    "MigLayoutInvalid",
    "ModelMisdescribed",
    "ModelTooLarge",
    "NodeUnreachable",
    "NotAdmitted",
    "PackageMissing",
    "ParallelismImpossible",
    "ParityFailed",
    "PlanInvalid",
    "PrecisionRefused",
    "PreflightFailed",
    "ProfileNotMet",
    "ProvenanceInvalid",
    "QualificationFailed",
    "RevocationInvalid",
    "RollbackRefused",
    "RootInvalid",
    "SettingsInvalid",
    "SignatureInvalid",
    "SignerUnknown",
    "SigningFailed",
    "SourceUnreachable",
    "SpaceExhausted",
    "SpoolFull",
    "SpoolLost",
    "StatementInvalid",
    "ThresholdNotMet",
    "ToolMissing",
    "TranscriptInvalid",
    "TranscriptionFailed",
    "Unreachable",
    "UpstreamSignatureInvalid",
    "Usage",
    "VolumeMissing",
    "VolumesMixed",
]
