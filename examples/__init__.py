"""Programs that use funcgrad; each runs by itself: `python examples/digits.py`."""
