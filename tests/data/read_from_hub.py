"""Run by test_hub.py in a process of its own, for HF_ENDPOINT and HF_HOME are read when the libraries are imported.

Reads cases from standard input, as JSON: [{"source": {...}, "limit": null, "offline": false, "token": null}, ...],
and prints one JSON line for each.
"""

import json
import logging
import sys
import time

from lmtasks.data.rows import open_rows
from lmtasks.errors import LmtasksError
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Source


def main() -> None:
    logging.basicConfig(stream=sys.stderr)
    # `huggingface_hub` tries a Hub that is down five times, in half a minute.
    time.sleep = lambda seconds: None
    for case in json.load(sys.stdin):
        options = DataAccess(offline=case.get("offline", False), token=case.get("token"))
        try:
            found = open_rows(Source(**case["source"]), options=options, limit=case.get("limit"))
            answer = {"rows": list(found.rows), "fingerprint": found.fingerprint, "where": found.where}
        except LmtasksError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
