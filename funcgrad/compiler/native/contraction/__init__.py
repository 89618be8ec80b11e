"""Sums of products as code: by calls of BLAS, or in tiles of registers."""
