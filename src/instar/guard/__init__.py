"""The guard: the process that holds the past. See docs/internals/trust.md."""
