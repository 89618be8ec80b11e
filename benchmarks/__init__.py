"""How fast funcgrad is, beside autograd, JAX, torch and NumPy: ``python -m benchmarks`` (see README.md)."""
