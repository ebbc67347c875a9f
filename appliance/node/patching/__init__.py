"""Patches on nodes: made there beside what runs, proven, and undone by the node itself if they are not.

Imports point down: apply, rollback → installing → target, transfer, switch → base → reader.
"""
