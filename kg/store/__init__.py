"""Where the graph is kept: one interface, an embedded or remote server behind it, an oracle for tests."""
