"""Values, and how a name becomes an object."""
