"""
The Python client of Tiled, driven line by line from another process.

Runs by itself, in whatever environment has Tiled: it imports nothing of ours. Each line on stdin is a JSON list of an act and its
arguments, each answer one JSON line.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy
import pandas
from tiled.client import from_uri


def main(url: str, api_key: str) -> None:
    client: Any = from_uri(url, api_key=api_key)
    kept: dict[str, Any] = {}
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        act, *given = json.loads(line)
        began = time.perf_counter()
        if act == "make array":
            kept["array"] = numpy.load(given[0])
        elif act == "make table":
            kept["table"] = pandas.read_parquet(given[0])
        elif act == "populate":
            for number in range(given[0]):
                client.write_array(numpy.arange(2.0), key=f"small-{number:05}", metadata={**given[1], "number": number})
        elif act == "write array":
            client.write_array(kept["array"], key=given[0])
        elif act == "write table":
            client.write_table(kept["table"], key=given[0])
        elif act == "read":
            assert len(client[given[0]].read())
        elif act == "delete":
            client.delete_contents([given[0]], external_only=False)
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
