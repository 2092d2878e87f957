"""The control layer (see docs/internals)."""
