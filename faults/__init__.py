"""A campaign of injected faults: what does an update do when something in it is wrong?

`make faults` injects thousands of faults, one an update, into the tool's code, plans and kernels, into
handlers, new versions, the environment and the files that an update reads, and asks the program and its
clients afterwards whether anything was lost. Every injection follows from the campaign's seed and its number.
"""
