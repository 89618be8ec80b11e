"""What the passes make and the code generators read: kernels, schedules, and operations of the compiler alone."""
