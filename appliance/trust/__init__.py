"""Keys, signatures, roots and the rules that judge them: bytes and values in, values out."""
