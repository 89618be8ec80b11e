"""The traces: with values, on types, and for a batch; and what belongs to a function that is being traced."""
