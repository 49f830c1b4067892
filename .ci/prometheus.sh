# shellcheck shell=bash
# Sourced by the checks that need a Prometheus. People run both majors, and they read ranges differently: the older one
# counts a sample on the older edge, the newer one does not.

# 2|3: from here on `prometheus` and `promtool` are of this major.
use_prometheus() {
  case $1 in
    2) found=$(command -v promtool) ;;
    3) found=$(realpath "${FIREDRILL_PEERS:-target/peers}")/prometheus3/promtool ;;
    *)
      echo "$1 is no major of Prometheus; 2 and 3 are." >&2
      return 1
      ;;
  esac
  if [ "$1" = 2 ] && ! promtool --version 2>&1 | grep -q '^promtool, version 2\.'; then
    echo "The promtool of this system is not of Prometheus 2." >&2
    return 1
  fi
  PATH=$(dirname "$found"):$PATH
  hash -r
}
