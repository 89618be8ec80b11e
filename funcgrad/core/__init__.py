"""The core: types, errors, the primitive's contract, the IR and the tracer. It names no primitive and no backend."""
