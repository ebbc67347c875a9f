"""A simulated self-encrypting drive: a TCG Opal 2 TPer and an NVMe/TCP controller before a sparse image."""
