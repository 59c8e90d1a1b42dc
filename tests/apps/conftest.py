import sys

import pytest

from apps import cli


@pytest.fixture
def mg_in(monkeypatch, capfd):
    """Runs ``mg`` in this process with a home and data set; gives exit code, output and errors."""

    def at(root, data=None):
        monkeypatch.setenv("MG_HOME", str(root))
        monkeypatch.setenv("MG_DATA", data) if data else monkeypatch.delenv("MG_DATA", raising=False)

        def call(*words):
            monkeypatch.setattr(sys, "argv", ["mg", *map(str, words)])
            try:
                cli.main()
                code = 0
            except SystemExit as stopped:
                code = stopped.code or 0
            said = capfd.readouterr()
            return code, said.out, said.err

        return call

    return at
