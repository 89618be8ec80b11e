"""From a jaxpr to something that runs: simplification, memory, and the engine; primitives are known by kind only."""
