"""instar: carry a running C program into its next version."""

__version__ = "0.1.0"
