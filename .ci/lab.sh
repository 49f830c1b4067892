# shellcheck shell=bash
# Sourced by the checks: a running lab, and whatever else they start. All of it ends with the script.

roles="shop payments traffic console"
work=$(mktemp -d)
started=()

# Ends everything that was started, last first, and waits for it: the next check needs the cores.
finish() {
  local index
  for ((index = ${#started[@]} - 1; index >= 0; index--)); do
    stop "${started[index]}"
  done
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# PID: asks it to end; after 15 s it is made to.
stop() {
  kill -TERM "$1" 2>/dev/null || return 0
  if ! wait_until 15 gone "$1"; then
    echo "Process $1 did not end when asked to." >&2
    kill -KILL "$1" 2>/dev/null || true
  fi
}

gone() { ! kill -0 "$1" 2>/dev/null; }

# SECONDS COMMAND...: whether the command succeeds before the time is over.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

# A port that nobody listens on, below those that the kernel gives to outgoing connections.
free_port() {
  local port
  for port in $(shuf -i 20000-32000 -n 50); do
    if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  echo "No free port was found." >&2
  return 1
}

# OPTION...: starts a lab on free ports that ends by itself (after lab_for, a minute if not set), and waits until
# each role says that it is ready.
start_lab() {
  target/release/firedrill up --ports auto --data "$work/lab" --for "${lab_for:-60s}" "$@" \
    >"$work/ready" 2>"$work/log" </dev/null &
  lab=$!
  started+=("$lab")
  if ! wait_until 30 all_ready_or_ended || ! all_ready; then
    echo "Not every role became ready. Standard output, then the end of the log:" >&2
    cat "$work/ready" >&2
    tail -n 30 "$work/log" >&2
    return 1
  fi
}

all_ready() {
  local role
  for role in $roles; do
    [ -n "$(control "$role")" ] || return 1
  done
}

all_ready_or_ended() { all_ready || gone "$lab"; }

# ROLE: the address of its control plane, or of its data plane; nothing while there is none.
control() { address "$1" control; }
data() { address "$1" data; }

# ROLE KEY: an address from its ready line.
address() {
  grep '"event":"ready"' "$work/ready" | grep "\"role\":\"$1\"" | head -n 1 |
    sed -n "s/.*\"$2\":\"\([^\"]*\)\".*/\1/p"
}
