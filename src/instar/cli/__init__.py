"""The cli layer (see docs/internals)."""
