#!/usr/bin/env python3
"""Recomputes every known answer below a folder from docs/cryptography.md alone: check.py <folder of vectors>.

Shares no code with Strongroom. A case that is refused for another reason than its file names is a failure.
"""

import json
import pathlib
import sys

from channel import channel
from consumers import crypt
from formats import FORMATS, Input
from notation import Refused

FORMATS["channel"] = channel
FORMATS["crypt"] = crypt


def plain(value):
    """Bytes as the files write them."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def difference(found, expected):
    names = sorted(set(found) | set(expected))
    return ", ".join(name for name in names if found.get(name) != expected.get(name))


def fault(case):
    """What is wrong with a case, or None."""
    run = FORMATS.get(case["format"])
    if run is None:
        return f"the format {case['format']} is unknown"
    try:
        found, output = "ok", plain(run(Input(case["input"])))
    except Refused as refused:
        found, output = f"refuse: {refused}", None
    if found != case["expect"]:
        return f"expected {case['expect']}, found {found}"
    if output is not None and output != case["output"]:
        return f"other values for {difference(output, case['output'])}"
    return None


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    files = sorted(folder.glob("**/v1/*.json"))
    failed = 0
    for file in files:
        try:
            wrong = fault(json.loads(file.read_text(encoding="utf-8")))
        except Exception as error:  # a crash in the check is a failed case, not the end of the run
            wrong = f"{type(error).__name__}: {error}"
        if wrong is not None:
            failed += 1
            print(f"{file.relative_to(folder)}: {wrong}")
    print(f"{len(files) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not files else 0)


if __name__ == "__main__":
    main()
