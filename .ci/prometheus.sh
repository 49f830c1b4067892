# shellcheck shell=bash
# Sourced by the checks that need a Prometheus. People run both majors, and they read ranges differently: the older one
# counts a sample on the older edge, the newer one does not.

# 2|3: from here on `prometheus` and `promtool` are of this major.
use_prometheus() {
  local built
  case $1 in
    2)
      if ! promtool --version 2>&1 | grep -q '^promtool, version 2\.'; then
        echo "There is no promtool of Prometheus 2; run .ci/peers." >&2
        return 1
      fi
      ;;
    3)
      built=$(realpath "${FIREDRILL_PEERS:-target/peers}")/prometheus3
      if ! [ -x "$built/promtool" ] || ! [ -x "$built/prometheus" ]; then
        echo "There is no Prometheus 3 in $built; run .ci/peers." >&2
        return 1
      fi
      PATH=$built:$PATH
      hash -r
      ;;
    *)
      echo "$1 is no major of Prometheus; 2 and 3 are." >&2
      return 1
      ;;
  esac
}
