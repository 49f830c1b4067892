#!/usr/bin/env python3
"""Asks a Prometheus for every target of every panel, annotation and variable of the dashboards.

usage: panels.py PROMETHEUS SECONDS DASHBOARD...

A target passes once it has returned a series with a number other than 0; it is asked again until it does or the
time is over, because some mechanisms move only while a shock lasts. Prints each panel with the number of series
of each of its targets, and fails if a target returned none, or nothing but zeros without being listed here.
"""
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

# What Grafana would put in. With a scrape every second $__rate_interval is 4 s at least: the hardest case.
VARIABLES = {"__rate_interval": "4s", "__range": "60s", "job": "firedrill", "instance": ".+", "http_route": ".+"}

# Targets that must return series, but whose value stays 0 in a lab that nobody kills: why.
STAYS_ZERO = {
    ("firedrill / Overview", "Targets down", "A"): "every process is up",
    ("firedrill / Engine", "Panics", "A"): "nothing panics",
    ("firedrill / Dependencies", "Outbox lag", "A"): "no shock stops the delivery",
    ("firedrill / Telemetry", "Spans dropped", "A"): "whoever takes the spans keeps up",
    ("firedrill / Telemetry", "Label values dropped", "A"): "no label has that many values",
    ("firedrill / Telemetry", "Log lines dropped", "A"): "standard error is read",
    ("firedrill / Telemetry", "Log queue", "A"): "it is written faster than a scrape sees",
    ("firedrill / Telemetry", "Log records exported", "A"): "no export of logs is asked for",
    ("firedrill / Dependencies", "Broken invariants", "A"): "no shock makes the books wrong",
    ("firedrill / Telemetry", "Judge: rules", "B"): "every evaluation is in time",
    ("firedrill / Telemetry", "Judge: notifications", "A"): "the lab has no Alertmanager",
}


def substitute(expression):
    """The expression with Grafana's variables replaced; an unknown one is an error."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: VARIABLES[found[1] or found[2]], expression)


def ask(prometheus, path, **parameters):
    """The data of an answer of Prometheus's API; an error says which question it did not like."""
    url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{parameters}: {error.read().decode()}")


class Target:
    """One question of a dashboard, and the best answer to it so far."""

    def __init__(self, dashboard, panel, reference, expression):
        self.key = (dashboard, panel, reference)
        self.expression = expression
        self.series = 0
        self.moved = False

    def query(self, prometheus):
        """Asks once more."""
        values = re.fullmatch(r"label_values\((.+), (\w+)\)", self.expression)
        if values:
            found = ask(prometheus, f"label/{values[2]}/values", **{"match[]": substitute(values[1])})
        else:
            result = ask(prometheus, "query", query=substitute(self.expression))["result"]
            numbers = [float(series["value"][1]) for series in result]
            found = [number for number in numbers if number == number]  # NaN is no data
        self.series = max(self.series, len(found))
        self.moved = self.moved or any(found)

    def passes(self):
        """Whether the best answer so far is good enough."""
        return self.series > 0 and (self.moved or self.key in STAYS_ZERO)


def targets(path):
    """Every question of a dashboard's file."""
    with open(path, encoding="utf-8") as file:
        dashboard = json.load(file)
    title = dashboard["title"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield Target(title, "(variables)", variable["name"], variable["query"])
    for annotation in dashboard["annotations"]["list"]:
        yield Target(title, "(annotations)", annotation["name"], annotation["expr"])
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield Target(title, panel["title"], target["refId"], target["expr"])


def report(every):
    """Prints each panel with the number of series of each of its targets; * marks what never left 0."""
    panels = {}
    for target in every:
        counts = panels.setdefault(target.key[:2], [])
        counts.append(f"{target.series}{'' if target.moved else '*'}")
    for (dashboard, panel), counts in panels.items():
        print(f"{dashboard:26}  {panel:34}  {' '.join(counts)}")


def main():
    prometheus, seconds, *paths = sys.argv[1:]
    every = [target for path in paths for target in targets(path)]
    deadline = time.monotonic() + float(seconds)
    waiting = every
    while waiting and time.monotonic() < deadline:
        for target in waiting:
            target.query(prometheus)
        waiting = [target for target in waiting if not target.passes()]
        time.sleep(0.5)
    # Once more, for series that appeared later.
    for target in every:
        target.query(prometheus)
    report(every)
    unknown = STAYS_ZERO.keys() - {target.key for target in every}
    for key in sorted(unknown):
        print(f"No dashboard has the target {key}, which may stay 0.", file=sys.stderr)
    bad = [target for target in every if not target.passes()]
    for target in bad:
        print(f"{'Only zeros' if target.series else 'No data'}: {target.key}: {target.expression}", file=sys.stderr)
    print(f"{len(every)} targets, {len(every) - len(bad)} as they must be; * stays 0")
    sys.exit(bool(bad or unknown or not every))


main()
