"""Patches: bundles that carry only what another bundle lacks, and a recipe that makes a third of both."""
