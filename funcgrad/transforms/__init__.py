"""The transformations, one file each. They interpret traces and jaxprs; none of them names a primitive."""
