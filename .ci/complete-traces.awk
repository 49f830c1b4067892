# Reads what the collector's debug exporter prints. Prints how many traces have spans of each service named
# in the variable `services` (space-separated); exit code 1 if none has.
BEGIN { wanted = split(services, names, " ") }
# A span may carry an attribute of the same name; the resource's counts.
/^Resource attributes:/ { in_resource = 1 }
/^ScopeSpans/ { in_resource = 0 }
in_resource && $2 == "service.name:" { service = $3; gsub(/^Str\(|\)$/, "", service) }
$1 == "Trace" && $2 == "ID" {
  seen[$4, service] = 1
  traces[$4] = 1
}
END {
  for (trace in traces) {
    found = 0
    for (i = 1; i <= wanted; i++) found += (trace, names[i]) in seen
    complete += found == wanted
    all++
  }
  printf "%d of %d traces have spans of %s\n", complete, all, services
  exit complete == 0
}
