"""What can be learned: given arrays, score and rank."""
