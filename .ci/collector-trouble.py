"""Reads what traffic reported and what the shop exposed in each state of the collector, prints a table, and fails
if users were hurt, memory grew, or lost spans were not counted."""

import json
import sys

# A queue of 2048 spans holds some MB; a leak of all spans for 25 s would be far more.
GROWTH_MAX = 16 * 2**20


def metric(text, name, label=""):
    values = [
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.split("{")[0].split(" ")[0] == name and label in line
    ]
    return sum(values)


def state(folder, name):
    with open(f"{folder}/report.{name}") as file:
        total = json.load(file)["total"]
    with open(f"{folder}/metrics.{name}") as file:
        text = file.read()
    processed = "otel_sdk_processor_span_processed_total"
    exported = "otel_sdk_exporter_span_exported_total"
    return {
        "good": total["good"],
        "offered": total["offered"],
        "p50": total["p50_s"],
        "p99": total["p99_s"],
        "memory": metric(text, "process_resident_memory_bytes"),
        "ended": metric(text, "firedrill_spans_ended_total"),
        "queued": metric(text, "otel_sdk_processor_span_queue_size"),
        "handed": metric(text, processed) - metric(text, processed, "queue_full"),
        "dropped": metric(text, processed, "queue_full"),
        "failed": metric(text, exported, "export_failed"),
    }


def main(folder, *names):
    states = {name: state(folder, name) for name in names}
    first = states[names[0]]
    print("| collector | offered | good | p50 ms | p99 ms | shop's memory MB | spans ended | dropped | failed | waiting |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    wrong = []
    for name, s in states.items():
        print(
            f"| {name} | {s['offered']} | {s['good']} | {s['p50'] * 1e3:.1f} | {s['p99'] * 1e3:.0f} "
            f"| {s['memory'] / 1e6:.1f} | {s['ended']:.0f} | {s['dropped']:.0f} | {s['failed']:.0f} | {s['queued']:.0f} |"
        )
        if s["good"] < 0.99 * s["offered"]:
            wrong.append(f"{name}: users were hurt")
        if s["memory"] > first["memory"] + GROWTH_MAX:
            wrong.append(f"{name}: the shop's memory grew")
        if abs(s["ended"] - s["handed"] - s["dropped"] - s["queued"]) > 1:
            wrong.append(f"{name}: not every span that ended is accounted for")
    if not first["dropped"] == 0:
        wrong.append("spans were dropped while all was well")
    if not states["stalled"]["dropped"] > first["dropped"]:
        wrong.append("a stalled collector loses spans, and none was counted")
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    sys.exit(bool(wrong))


main(*sys.argv[1:])
