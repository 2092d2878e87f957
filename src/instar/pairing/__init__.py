"""The pairing layer (see docs/internals)."""
