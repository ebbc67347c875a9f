"""Fixtures of every unit test."""

from tests.cnsa import (  # noqa: F401 - fixtures
    cnsa_bundle,
    cnsa_holders,
    cnsa_root,
    cnsa_root_file,
    pristine_cnsa_bundle,
)
