"""The process layer (see docs/internals)."""
