"""The bill of materials of a bundle, in CycloneDX.  Made on a build station (the ``station`` extra)."""
