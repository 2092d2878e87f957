"""The heap layer (see docs/internals)."""
