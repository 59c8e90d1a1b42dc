"""What people touch: command line, explorer."""
