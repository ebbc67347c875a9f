"""Where components come from on the connected side; the only package that may reach a network."""
