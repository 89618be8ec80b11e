"""Machine code: from a jaxpr to one native function, through LLVM's textual representation."""
