# SPDX-License-Identifier: MIT
"""Two SVG plots of the figures, made by gnuplot: latency by path, bandwidth by size."""

import shutil
import subprocess

from harness.guest import Failed, Skipped

# Series differ in shape and brightness too, not in colour alone.
STYLE = """
set terminal svg size 900,520 dynamic enhanced font 'sans-serif,13' background '#ffffff'
set border 3 linecolor rgb '#555555'
set tics nomirror textcolor rgb '#222222'
set grid ytics linecolor rgb '#dddddd'
"""

LATENCY = STYLE + """
set output '{output}'
set title 'A request and its answer, from inside a VM ({accel}): median'
set ylabel 'µs, logarithmic'
set logscale y
set yrange [1:*]
set format y '%.0f'
set style fill solid 0.85 noborder
set boxwidth 0.6
set xtics rotate by -25
unset key
$data << END
{rows}
END
plot $data using 0:2:xtic(1) with boxes linecolor rgb '#1b6ca8', \\
     $data using 0:($2*1.35):3 with labels textcolor rgb '#222222'
"""

BANDWIDTH = STYLE + """
set output '{output}'
set title 'Copies between shared memory and the device ({backend}, host process)'
set xlabel 'bytes of one copy, {in_flight} in flight'
set ylabel 'GB/s'
set logscale x 2
set format x '%.0b %BB'
set key tmargin center horizontal maxrows 2 reverse Left
set yrange [0:*]
$data << END
{rows}
END
plot {plots}
"""
SERIES_STYLES = ("linecolor rgb '#1b6ca8' pointtype 7", "linecolor rgb '#d1603d' pointtype 5",
                 "linecolor rgb '#7fb3d8' pointtype 6 dashtype 2",
                 "linecolor rgb '#eaa58c' pointtype 4 dashtype 2")

WAY_NAMES = {"queue": "fast path", "registers": "version 1", "tcp": "TCP, virtio-net",
             "virtio-serial": "virtio-serial", "file-1ms": "NFS, 1 ms", "file-1000ms": "NFS, 1 s",
             "served-notify": "NFS, mediator, inotify", "served-1ms": "NFS, mediator, 1 ms",
             "served-1000ms": "NFS, mediator, 1 s"}


def gnuplot(script):
    if not shutil.which("gnuplot"):
        raise Skipped("there is no gnuplot: run scripts/setup bench")
    run = subprocess.run(["gnuplot"], input=script, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, check=False)
    if run.returncode != 0:
        raise Failed(f"gnuplot: {run.stdout.strip()}")


def plot_latency(comparison, output):
    """Plots the best median of each path."""
    best = {}
    for line in comparison["lines"]:
        if line["operation"] != "nop":
            path = line["path"]
            best[path] = min(line["p50_us"], best.get(path, line["p50_us"]))
    if not best:
        raise Skipped("there are no figures of a VM")
    rows = "\n".join(f'"{WAY_NAMES.get(path, path)}" {value:.2f} "{value:,.1f}"'
                     for path, value in sorted(best.items(), key=lambda item: item[1]))
    gnuplot(LATENCY.format(output=output, accel=comparison["accel"], rows=rows))


def plot_bandwidth(fastpath, output):
    points = fastpath.get("bandwidth", [])
    if not points:
        raise Skipped("there are no figures of copies")
    names = list(dict.fromkeys(point["name"] for point in points))
    sizes = sorted({point["bytes"] for point in points})
    value = {(point["name"], point["bytes"]): point["gb_per_second"] for point in points}
    rows = "\n".join(" ".join([str(size)] + [str(value.get((name, size), "NaN"))
                                             for name in names]) for size in sizes)
    plots = ", ".join(f"$data using 1:{index + 2} with linespoints linewidth 2 {style} "
                      f"title '{name}'"
                      for index, (name, style) in enumerate(zip(names, SERIES_STYLES)))
    gnuplot(BANDWIDTH.format(output=output, backend=fastpath["backend"],
                             in_flight=fastpath["bandwidth_in_flight"], rows=rows, plots=plots))
