"""Exit code 5: the station, the medium or the node is not ready."""

from __future__ import annotations

from appliance.errors.base import ApplianceError


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


class ExportLineDown(PreflightFailed):
    """The line that logs leave on cannot be put up, or does not stand as it was put up."""


class SigningFailed(PreflightFailed):
    """A key could not sign: its passphrase, its agent or its token is missing."""


class HostKeyChanged(PreflightFailed):
    """A node presents another SSH host key than the pinned one."""


class SpoolFull(ApplianceError):
    """A spool is full of blocks that still have to be sent, and by the policy nothing may be dropped.

    A unit tells this end from all others by its exit code: the workload ends as well.
    """

    exit_code = 10


class InProgress(PreflightFailed):
    """Another run holds the lock of this folder or node."""


class RestartPending(InProgress):
    """What was done counts from a node's next start on, which is somebody else's."""


class CaptureUnreadable(PreflightFailed):
    """A file is no capture of frames, or is not whole; nothing can be judged by it."""


class DriveUnreadable(PreflightFailed):
    """A drive, or what a node says of its drives, cannot be made sense of."""


class DriveUnsuitable(PreflightFailed):
    """A drive may not be encrypted as it is: in use, somebody's, or unable to."""


class EscrowClosed(PreflightFailed):
    """The keys at hand do not open an escrow record: other people's, or too few of them."""


class PassphraseRefused(PreflightFailed):
    """A passphrase does not open the volume of a drive; it was tried once."""


class EscrowUnproven(PreflightFailed):
    """Keys were written to an escrow and could not be had back from it; nothing may depend on them."""


class PatchUnfit(PreflightFailed):
    """A patch is for another base than the one at hand, or the base lacks what it needs."""


class PatchUseless(PreflightFailed):
    """A patch would be no smaller than what it makes."""
