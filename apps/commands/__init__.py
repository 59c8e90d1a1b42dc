"""The commands of ``mg``, a file for each kind of work; importing one enters its commands."""
