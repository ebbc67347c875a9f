"""Drives of a node: what they are, whether they may be encrypted, where their keys are kept."""
