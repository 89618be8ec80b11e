"""Single numbers, and the lanes of vectors, as code: dtypes, and the operations on them."""
