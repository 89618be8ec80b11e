"""The transformations, one file each; below them the programs they write, and the traces they run functions on."""
