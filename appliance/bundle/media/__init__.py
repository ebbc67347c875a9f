"""A bundle on several media: planning, writing, reading, repairing (docs/media.md)."""
