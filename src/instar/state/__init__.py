"""The state layer (see docs/internals)."""
