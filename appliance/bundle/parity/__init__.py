"""Recovery data in the bundle, and mending with it (docs/repair.md)."""
