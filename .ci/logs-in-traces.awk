# Reads what the collector's debug exporter prints. Prints how many log records carry the id of a trace, and how
# many of these that of a trace whose spans arrived too; exit code 1 if no such record came from each service named
# in the variable `services` (space-separated).
BEGIN { wanted = split(services, names, " ") }
/^Resource attributes:/ { in_resource = 1 }
/^Scope(Spans|Logs)/ { in_resource = 0 }
in_resource && $2 == "service.name:" { service = $3; gsub(/^Str\(|\)$/, "", service) }
# Of a span it is "Trace ID       : ...", of a log record "Trace ID: ...".
$1 == "Trace" && $2 == "ID" { traces[$4] = 1 }
$1 == "Trace" && $2 == "ID:" && $3 != "" { records[++all] = $3; of[all] = service }
END {
  for (i = 1; i <= all; i++) {
    if (records[i] in traces) {
      joined++
      seen[of[i]] = 1
    }
  }
  for (i = 1; i <= wanted; i++) found += names[i] in seen
  printf "%d of %d log records with a trace id have its spans beside them; wanted from %s\n", joined, all, services
  exit found < wanted
}
