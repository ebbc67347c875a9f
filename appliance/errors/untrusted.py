"""Exit code 4: bundles, artefacts, keys and exports that must not be believed."""

from __future__ import annotations

from appliance.errors.base import ApplianceError


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


class PermitRefused(BundleUntrusted):
    """A permit for drives is past its date, or for another node, act, drive or volume."""


class NotAdmitted(BundleUntrusted):
    """The site has not admitted the bundle to this node."""


class JournalLost(BundleUntrusted):
    """A node that was installed has no sound journal any more: it cannot tell new from old."""


class JournalRolledBack(BundleUntrusted):
    """A node's journal is older than the counter of its TPM: somebody put an old one back."""


class NodeInventoryInvalid(BundleUntrusted):
    """What a node says it holds is malformed, or was not signed by that node."""


class RecipeInvalid(BundleUntrusted):
    """A patch's recipe is malformed, reads outside its base, or makes other files than it says."""


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


class EscrowInvalid(BundleUntrusted):
    """An escrow record is malformed, damaged, or not what it says in the open."""
