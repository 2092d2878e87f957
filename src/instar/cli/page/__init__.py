"""The report as a page: one self-contained HTML file without scripts, for any screen and for paper."""
