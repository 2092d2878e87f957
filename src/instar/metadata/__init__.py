"""The metadata layer (see docs/internals)."""
