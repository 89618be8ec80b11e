"""What stands between this library and the processor: LLVM code as text, its compiler, BLAS, and the threads."""
