"""The testing layer (see docs/internals)."""
