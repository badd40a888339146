"""`python -m lmtasks` is the `lmtasks` command."""

from lmtasks.cli.main import main

main()
