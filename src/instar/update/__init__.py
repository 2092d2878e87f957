"""The update layer (see docs/internals)."""
