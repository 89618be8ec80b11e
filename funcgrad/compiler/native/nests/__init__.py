"""Loop nests as code: their order, their lanes, what they load and store, and their threads."""
