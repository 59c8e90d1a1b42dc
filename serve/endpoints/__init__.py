"""One file an endpoint: request and reply, and a class that answers."""
