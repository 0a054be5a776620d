"""Prints the index of the last use's outcome in the events that `strongroom audit list --json` gives on standard input."""

import json
import sys

events = json.load(sys.stdin)
rows = events["events"] if isinstance(events, dict) else events
uses = [row["index"] for row in rows if "use.outcome" in json.dumps(row)]
print(uses[-1])
