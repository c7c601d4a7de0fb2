"""The golden cases: names, grafts, and what is known to be wrong with some."""
