"""Which is best: split, train, measure, search, promote."""
