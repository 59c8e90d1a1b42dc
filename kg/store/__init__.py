"""Where the graph is kept: one interface, an embedded or a remote server behind it, and an oracle for tests."""
