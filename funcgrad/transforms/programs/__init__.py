"""What holds jaxprs and is an operation itself: calls, branches, loops, custom rules; and their two halves."""
