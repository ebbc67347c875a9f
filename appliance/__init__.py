"""Provision air-gapped inference nodes from signed offline bundles."""

__version__ = "0.1.0"
