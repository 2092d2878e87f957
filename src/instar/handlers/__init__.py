"""Runs what ``instar.ext`` declares: loads modules, binds names to two versions, executes on copies."""
