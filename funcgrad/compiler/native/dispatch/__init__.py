"""From a call in Python to the machine code: builtins, what they check, and the memory of results."""
