"""Machines and their GPUs: what is known of products, and what a machine says of itself.

Parsers take text and return values; nothing here opens a file or starts a program.
"""
