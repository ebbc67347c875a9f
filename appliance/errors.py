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

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Location:
    """A place in a file a person edits: one-based line and column."""

    path: Path | str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


class ApplianceError(Exception):
    """Base of every error this program reports to a person.

    Args:
        message: what failed, in one sentence.
        found: what was there.
        wanted: what should have been there.
        hint: what to do next.
        where: the place in an edited file, when there is one.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        found: str | None = None,
        wanted: str | None = None,
        hint: str | None = None,
        where: Location | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.found = found
        self.wanted = wanted
        self.hint = hint
        self.where = where

    @property
    def name(self) -> str:
        """Stable name, as printed in JSON."""
        return type(self).__name__

    def as_dict(self) -> dict[str, object]:
        """The error as JSON values; absent parts are left out."""
        parts: dict[str, object] = {
            "error": self.name,
            "exit_code": self.exit_code,
            "message": self.message,
        }
        optional = {
            "found": self.found,
            "wanted": self.wanted,
            "hint": self.hint,
            "where": str(self.where) if self.where else None,
        }
        parts.update({key: value for key, value in optional.items() if value is not None})
        return parts


class Usage(ApplianceError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


# --- 3: what an operator wrote -----------------------------------------------------------------


class DefinitionInvalid(ApplianceError):
    """A bundle definition is malformed or asks for something impossible."""

    exit_code = 3


class PackageMissing(DefinitionInvalid):
    """A named package, wheel or version does not exist where the station looks."""


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


# --- 4: bundles, artefacts and keys that must not be believed -----------------------------------


class BundleUntrusted(ApplianceError):
    """Base of everything that makes a bundle not to be used."""

    exit_code = 4


class BundleMalformed(BundleUntrusted):
    """A file of the bundle breaks the format (spelling, order, JSON, path)."""


class LabelInvalid(BundleUntrusted):
    """A volume's label is malformed, or contradicts the bundle it lies beside."""


class DigestMismatch(BundleUntrusted):
    """Bytes differ from the digest that was signed or locked."""


class FileMissing(BundleUntrusted):
    """A listed file is not there."""


class VolumeMissing(FileMissing):
    """A bundle lies on several volumes, and not all of them were given."""


class VolumesMixed(BundleUntrusted):
    """The folders given are not the volumes of one bundle, each once."""


class DamageTooGreat(BundleUntrusted):
    """More is damaged or missing than the parity at hand can mend."""


class FileUnexpected(BundleUntrusted):
    """A file is there that is not listed, or is not a regular file (link, device, socket)."""


class SignatureInvalid(BundleUntrusted):
    """A signature does not verify, or was made for another role."""


class ProvenanceInvalid(BundleUntrusted):
    """What is said of a bundle's origin is malformed, or is about something else."""


class UpstreamSignatureInvalid(BundleUntrusted):
    """A model's signature by its makers is malformed or forged, or speaks of other files."""


class SignerUnknown(BundleUntrusted):
    """A signature is by a key that the root does not enrol for the role."""


class ThresholdNotMet(BundleUntrusted):
    """Too few distinct holders or keys signed."""


class RootInvalid(BundleUntrusted):
    """A root file is malformed, or not the one trusted."""


class ProfileNotMet(BundleUntrusted):
    """A bundle is not signed by the list that the profile of the root asks for."""


class KeyRefused(BundleUntrusted):
    """A public key is weak, malformed or of a kind not allowed."""


class KeyRevoked(BundleUntrusted):
    """A signature is by a key that its owners took back."""


class BundleRevoked(BundleUntrusted):
    """The bundle itself was taken back."""


class RevocationInvalid(BundleUntrusted):
    """A revocation is malformed, older than one already known, or gives something back."""


class StatementInvalid(BundleUntrusted):
    """An admission, permit, waiver, time or enrolment is malformed, or is about something else."""


class DocumentInvalid(BundleUntrusted):
    """A file is none of the documents that people sign, or lies under another document's name."""


class TranscriptInvalid(BundleUntrusted):
    """A ceremony's transcript was altered, cut or reordered, or nobody has closed it."""


class TranscriptionFailed(BundleUntrusted):
    """What was typed or scanned is not what was shown: a line is wrong or missing."""


class DrillFailed(BundleUntrusted):
    """A rehearsal of the ceremony came out otherwise than the rules say."""


class RollbackRefused(BundleUntrusted):
    """A root, revocation or bundle is older than what the node has seen, and no permit allows it."""


class NotAdmitted(BundleUntrusted):
    """The site has not admitted the bundle to this node."""


class JournalLost(BundleUntrusted):
    """A node that was installed has no sound journal any more: it cannot tell new from old."""


class JournalRolledBack(BundleUntrusted):
    """A node's journal is older than the counter of its TPM: somebody put an old one back."""


class ImageRefused(BundleUntrusted):
    """An image's index, manifest or configuration is malformed, too large or of a kind not carried."""


class ModelMisdescribed(BundleUntrusted):
    """A model's description is missing, malformed, or says other shapes than its weights have."""


class ArchiveUntrusted(BundleUntrusted):
    """A package archive's signature does not verify with the given keyring."""


class ExportUntrusted(ApplianceError):
    """What was exported is forged, altered or not all there."""

    exit_code = 4


class ExportLogDamaged(ExportUntrusted):
    """A segment of a spool, an archive or a medium is not what was written."""


class SpoolLost(ExportUntrusted):
    """A node's spool is gone, or is another node's: the chain cannot go on where it stopped."""


# --- 5: not ready ------------------------------------------------------------------------------


class PreflightFailed(ApplianceError):
    """At least one check of a node or station failed before anything was changed."""

    exit_code = 5


class SpaceExhausted(PreflightFailed):
    """A disk is full, or too small for what is to be written."""


class ModelTooLarge(PreflightFailed):
    """A model's weights do not fit into the memory of the GPU or slice they are meant for."""


class MediaTooSmall(SpaceExhausted):
    """Media of these sizes cannot hold the bundle: a file fits none, or there are too few of them."""


class MediumUnsuitable(PreflightFailed):
    """A target cannot take a volume: not a medium, write-protected, keeps no long names."""


class MediumOccupied(PreflightFailed):
    """A medium holds something that must not be overwritten: another volume or bundle, or data."""


class MediumFailed(PreflightFailed):
    """A medium was pulled, or does not give back what was written to it."""


class MediaMissing(PreflightFailed):
    """More media are wanted than were given, and nobody is there to insert them."""


class ParityFailed(PreflightFailed):
    """The program that computes recovery blocks failed, or did something else than it was asked for."""


class ToolMissing(PreflightFailed):
    """A program that is needed is not installed here."""


class SigningFailed(PreflightFailed):
    """A key could not sign: its passphrase, its agent or its token is missing."""


class HostKeyChanged(PreflightFailed):
    """A node presents another SSH host key than the pinned one."""


class SpoolFull(SpaceExhausted):
    """A spool is full of blocks that were not sent yet, and by the policy nothing may be dropped."""


class InProgress(PreflightFailed):
    """Another run holds the lock of this folder or node."""


class CaptureUnreadable(PreflightFailed):
    """A file is no capture of frames, or is not whole; nothing can be judged by it."""


# --- 6 to 9, and 130 ------------------------------------------------------------------------------------


class Unreachable(ApplianceError):
    """No connection could be made."""

    exit_code = 6


class NodeUnreachable(Unreachable):
    """A node did not answer, or the connection broke."""


class SourceUnreachable(Unreachable):
    """A package source did not answer while building."""


class AccessDenied(Unreachable):
    """A source wants a token, a consent or rights that this station does not have."""


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
    """Somebody pressed Ctrl-C."""

    exit_code = 130
