"""What must hold on a GPU; without one the same tests run on the CPU, but for those that compare the two."""
