"""The primitives, one family per file; all rules of a primitive stand together."""
