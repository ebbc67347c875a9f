"""The bundle format: paths, list, manifest, blocks; writing, signing, verifying, explaining a bundle."""
