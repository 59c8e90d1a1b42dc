"""One file a benchmark: ours and the reference, in turn, in one run; prints the ratio."""
