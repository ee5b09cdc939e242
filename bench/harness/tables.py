# SPDX-License-Identifier: MIT
"""Tables of the figures that `make bench` prints."""

from harness.plots import WAY_NAMES


def round_trip_rows(parts):
    """Rows (path, operation, p50 µs, p99 µs, ratio to the raw round trip at p50 or None)."""
    rows = []
    for entry in parts.get("roundtrip", {}).get("results", []):
        name = {"raw_socket": "raw socket", "native": "native"}.get(entry["path"], "host process")
        rows.append((f"{name}, {entry['placement']}", entry["operation"], entry["p50_ns"] / 1000,
                     entry["p99_ns"] / 1000, entry.get("ratio_to_raw_p50")))
    return rows


def comparison_rows(comparison):
    """Rows (path, operation, p50 µs, p99 µs, how many times the fast path's best p50)."""
    lines = comparison.get("lines", [])
    fast = min((line["p50_us"] for line in lines
                if line["path"] == "queue" and line["operation"] == "add"), default=None)
    return [(f"{WAY_NAMES.get(line['path'], line['path'])}, {line['wait']}", line["operation"],
             line["p50_us"], line["p99_us"], line["p50_us"] / fast if fast else None)
            for line in lines]


def print_rows(title, ratio_title, rows):
    if not rows:
        return
    print(f"\n{title:<32}{'operation':<11}{'p50 µs':>12}{'p99 µs':>12}{ratio_title:>13}")
    for path, operation, p50, p99, ratio in rows:
        shown = f"{ratio:.2f}" if ratio is not None else "-"
        print(f"{path:<32}{operation:<11}{p50:>12.1f}{p99:>12.1f}{shown:>13}")


def print_figures(title, figures):
    if not figures:
        return
    print(f"\n{title:<50}{'figure':>12}")
    for figure in figures:
        line = f"{figure['name']:<50}{figure['value']:>12.2f} {figure['unit']:<12}"
        if "target" in figure:
            line += (f" {figure['bound'].replace('_', ' ')} {figure['target']:g}: "
                     f"{'reached' if figure['reached'] else 'MISSED'}")
        print(line.rstrip())


def print_results(parts):
    print_rows("host, by socket", "p50 / raw", round_trip_rows(parts))
    throughput = parts.get("roundtrip", {}).get("throughput")
    if throughput:
        print(f"\n{throughput['connections']} connections at once: "
              f"{throughput['mediator_per_second']:.0f} NOP/s "
              f"(raw sockets: {throughput['raw_per_second']:.0f})")
    print_figures("under load", parts.get("load", {}).get("figures", []))
    print_figures("fast path, host process", parts.get("fastpath", {}).get("figures", []))
    vm = parts.get("vm", {})
    print_rows(f"from inside a VM ({vm.get('accel')})", "p50 / fast", comparison_rows(vm))
    print_figures("from inside a VM", vm.get("figures", []))
    micro = parts.get("micro", {}).get("benchmarks", [])
    if micro:
        print(f"\n{'piece':<50}{'ns':>12}")
    for entry in micro:
        print(f"{entry['name']:<50}{entry['cpu_time']:>12.1f}")
