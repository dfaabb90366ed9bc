#!/bin/sh
# Latency over a network, live beside its prediction: scripts/network.sh [DELAY_MS ...]
#
# A server on a simulated device and its clients in two network namespaces of this machine, the link between
# them with a delay (1, 5 and 20 ms one way unless told otherwise) and 100 Mbit/s each way: by tc's netem
# where the kernel has it, else by a process between two TUN devices (network.py). Fails where mean, median or p99
# are over 10 % from what `twinstream simulate --network` says of the same arrivals. Takes root; prints
# SKIPPED where namespaces cannot be made. TWINSTREAM names a command that was built already.
set -eu
cd "$(dirname "$0")/.."
clients=twinstream-clients-$$
server=twinstream-server-$$
rate_mbit=100

skip() {
    echo "SKIPPED: $1"
    exit 0
}
clean() {
    [ -z "${wire:-}" ] || kill "$wire" 2>/dev/null || true
    [ -z "${serving:-}" ] || kill "$serving" 2>/dev/null || true
    ip netns delete "$clients" 2>/dev/null || true
    ip netns delete "$server" 2>/dev/null || true
}

{ command -v ip && command -v tc; } >/dev/null || skip "no ip and tc: install iproute2"
[ "$(id -u)" = 0 ] || skip "network namespaces take root"
ip netns add "$clients" 2>/dev/null || skip "a network namespace cannot be made here (ip netns add)"
trap clean EXIT
ip netns add "$server"
if [ -z "${TWINSTREAM:-}" ]; then
    cargo build --locked --release --package twinstream-cli --features serve
    TWINSTREAM=target/release/twinstream
fi
mkdir -p target/network

[ $# -gt 0 ] || set -- 1 5 20
for delay_ms in "$@"; do
    ip link add link0 netns "$clients" type veth peer name link0 netns "$server"
    netem="netem delay ${delay_ms}ms rate ${rate_mbit}mbit limit 100000"
    # shellcheck disable=SC2086
    if tc -n "$clients" qdisc add dev link0 root $netem 2>/dev/null; then
        tc -n "$server" qdisc add dev link0 root $netem
        by="tc netem"
    else
        ip -n "$clients" link delete link0
        python3 scripts/network.py wire "$clients" "$server" "$delay_ms" $rate_mbit &
        wire=$!
        by="a process between TUN devices: this kernel has no netem"
    fi
    tries=0
    until ip -n "$clients" link show link0 >/dev/null 2>&1 && ip -n "$server" link show link0 >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { echo "no link between the namespaces; is there /dev/net/tun?" >&2 && exit 1; }
        sleep 0.1
    done
    ip -n "$clients" address add 10.79.0.1/24 dev link0
    ip -n "$server" address add 10.79.0.2/24 dev link0
    for namespace in "$clients" "$server"; do
        ip -n "$namespace" link set link0 mtu 9000 up
    done
    ip netns exec "$server" "$TWINSTREAM" serve --backend sim:gtx-1080ti --listen 10.79.0.2:8000 >/dev/null &
    serving=$!
    echo "$delay_ms ms one way, $rate_mbit Mbit/s, by $by"
    ip netns exec "$clients" python3 scripts/network.py clients "$TWINSTREAM" "$delay_ms" $rate_mbit
    kill $serving
    wait $serving || true
    if [ -n "${wire:-}" ]; then
        kill "$wire"
        wait "$wire" 2>/dev/null || true
        wire=
    else
        ip -n "$clients" link delete link0
    fi
done
