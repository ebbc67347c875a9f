"""What people do with keys and documents: found, propose, sign, assemble, revoke, state, rehearse."""
