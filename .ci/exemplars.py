#!/usr/bin/env python3
"""Follows exemplars as a person would: from a point over a latency panel to the trace behind it.

usage: exemplars.py PROMETHEUS CONSOLE SECONDS

For each histogram of requests: Prometheus must have exemplars with a trace id, and the console must have one of
these traces. It is asked again until it has or the time is over, because traces arrive later than scrapes.
"""
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

FAMILIES = ["http_server_request_duration_seconds_bucket", "firedrill_journey_duration_seconds_bucket"]


def get(url):
    """The JSON of an answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def exemplars(prometheus, family):
    """The trace ids of the exemplars of the last minute, newest first."""
    now = time.time()
    parameters = urllib.parse.urlencode({"query": family, "start": now - 60, "end": now})
    series = get(f"{prometheus}/api/v1/query_exemplars?{parameters}")["data"]
    found = [exemplar for one in series for exemplar in one["exemplars"]]
    found.sort(key=lambda exemplar: -exemplar["timestamp"])
    return [exemplar["labels"]["trace_id"] for exemplar in found]


def is_trace(console, trace):
    """Whether the console has it."""
    try:
        return bool(get(f"{console}/api/traces/{trace}"))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        raise


def follow(prometheus, console, family, deadline):
    """Whether an exemplar of the family leads to a trace before the deadline."""
    asked, known = set(), None
    while known is None and time.monotonic() < deadline:
        ids = exemplars(prometheus, family)[:50]
        asked.update(ids)
        known = next((trace for trace in ids if is_trace(console, trace)), None)
        time.sleep(0 if known else 0.5)
    print(f"{family}: {len(asked)} exemplars, " + (f"trace {known} is known" if known else "and no trace of them"))
    return known is not None


def main():
    prometheus, console, seconds = sys.argv[1:]
    deadline = time.monotonic() + float(seconds)
    sys.exit(not all([follow(prometheus, console, family, deadline) for family in FAMILIES]))


main()
