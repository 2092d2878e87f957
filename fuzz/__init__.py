"""Fuzzers of everything that reads what others wrote: `make fuzz`.

The walker of debug information is C: libFuzzer drives it, guided by coverage, under AddressSanitizer and
UndefinedBehaviorSanitizer. The readers in Python are given damaged files, whose checksums are put right so
that the damage gets past the first check; anything but an answer or one of instar's own errors is a finding.
"""
