"""From a schedule to a module of LLVM code: where its buffers live, and its calls, branches and loops."""
