"""The transfer layer (see docs/internals)."""
