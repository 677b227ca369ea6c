"""Who keeps the journal in a file loads nothing of another engine."""

import subprocess
import sys


def test_a_journal_on_a_file_never_imports_psycopg() -> None:
    program = (
        "import sys, forwarder.runtime.daemon, forwarder.runtime.opening; "
        "sys.exit('psycopg' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], check=False)

    assert 0 == done.returncode
