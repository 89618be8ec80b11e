"""From a jaxpr to a schedule: what is expanded, lowered, given to NumPy, fused, and computed again."""
