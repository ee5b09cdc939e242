# SPDX-License-Identifier: MIT
"""Checks examples/monitoring against a running mediator: every metric, label and label value that
dashboard and alerts use is exported, and the alert rules pass their own tests (promtool). Without
promtool that part is skipped, and the exit status is 77. ctest passes the build in VGPU_BUILD."""

import json
import os
import re
import shutil
import sys
import tempfile
import unittest
import urllib.request

sys.dont_write_bytecode = True
from mediator import mediator, program, run  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(ROOT, "examples", "monitoring")
# Labels that Prometheus adds.
ADDED = {"instance", "job", "severity", "alertname"}
SELECTOR = re.compile(r"\b(vgpu_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|ignoring|on)\s*\(([^)]*)\)")


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def parse(text):
    """Returns {metric: {label: values}} of metrics in the text format."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"(\w+)(?:\{(.*)\})? \S+$", line)
        if match:
            labels = found.setdefault(match.group(1), {})
            for name, value in re.findall(r'(\w+)="([^"]*)"', match.group(2) or ""):
                labels.setdefault(name, set()).add(value)
    return found


def faults_of(expression, legend, exported, known_values):
    """Returns what an expression uses and the mediator does not export."""
    faults, labels = [], set(ADDED)
    for name, matchers in SELECTOR.findall(expression):
        if name not in exported:
            faults.append(f"no metric {name}")
            continue
        labels.update(exported[name])
        for label, _, pattern in MATCHER.findall(matchers):
            if label not in exported[name] and label not in ADDED:
                faults.append(f"{name} has no label {label}")
            elif "$" not in pattern and label not in ADDED:
                values = exported[name][label] | known_values.get(label, set())
                faults += [f"{name} never has {label}={value}" for value in pattern.split("|")
                           if value not in values]
    grouped = {label.strip() for group in GROUPING.findall(expression) for label in group.split(",")}
    faults += [f"no label {label} to group by" for label in sorted(grouped - labels)]
    aggregated = re.search(r"\b(?:sum|max|min|avg|count|histogram_quantile)\b", expression)
    present = (grouped | {"job"} if aggregated else labels) - {"le"}
    faults += [f"no label {label} in the result" for label in
               re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", legend) if label not in present]
    return faults


class Monitoring(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with mediator() as running:
            # A request of each outcome that is easy to cause: done, refused, limited.
            status, output = running.vgpu("--vm-id", "7", "bench", "-n", "50", "--op", "nop")
            if status != 0:
                raise AssertionError(output)
            running.vgpu("--vm-id", "8", "--pool", "Z", "add", "1", "2")
            running.vgpuctl("vm", "set", "7", "--requests-per-second", "1", "--burst", "1")
            for _ in range(3):
                running.vgpu("--vm-id", "7", "add", "1", "2")
            with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics") as answer:
                cls.text = answer.read().decode()
            status, cls.of_vms = run([sys.executable, os.path.join(FOLDER, "vgpu-vm-metrics"),
                                      "--vgpuctl", program("src/cli/vgpuctl/vgpuctl")],
                                     VGPU_ADMIN_SOCKET=running.admin)
            if status != 0:
                raise AssertionError(cls.of_vms)
        cls.exported = parse(cls.text + cls.of_vms)
        # Outcomes that take a broken GPU or a disconnect at the right time.
        outcomes = re.search(r"kOutcomes\{([^}]*)\}", read("src/mediator/admin/metrics.cpp")).group(1)
        cls.known_values = {"outcome": set(re.findall(r'"(\w+)"', outcomes))}

    def check(self, expression, legend=""):
        self.assertEqual(faults_of(expression, legend, self.exported, self.known_values), [],
                         expression)

    def test_the_traffic_has_the_outcomes(self):
        self.assertGreaterEqual(self.exported["vgpu_requests_total"]["outcome"],
                                {"done", "refused", "limited"})
        self.assertIn("dropped", self.known_values["outcome"])

    def test_the_dashboard(self):
        dashboard = json.loads(read("examples/monitoring/dashboard.json"))
        panels = dashboard["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken, used = set(), set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}
            self.assertFalse(cells & taken, f"{panel['title']} overlaps another panel")
            self.assertLessEqual(place["x"] + place["w"], 24)
            taken |= cells
            self.assertTrue(panel["targets"] and panel["description"], panel["title"])
            for target in panel["targets"]:
                with self.subTest(panel=panel["title"]):
                    self.check(target["expr"], target["legendFormat"])
                    self.assertEqual(target["datasource"]["uid"], "${datasource}")
                    used |= {name for name, _ in SELECTOR.findall(target["expr"])}
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                self.check(variable["query"])
        # Whatever the mediator exports is shown, but for what is the same everywhere.
        bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in self.exported}
        shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
        self.assertEqual(bases - shown, {"vgpu_heap_bytes_copied_by_processor_total",
                                         "vgpu_vm_connected", "vgpu_vm_quarantined",
                                         "vgpu_vm_memory_limit_bytes"})

    def test_the_alerts(self):
        rules = re.split(r"^ +- alert: ", read("examples/monitoring/alerts.yml"), flags=re.MULTILINE)[1:]
        tests = read("examples/monitoring/alerts-test.yml")
        self.assertGreater(len(rules), 5)
        for rule in rules:
            name = rule.split("\n", maxsplit=1)[0]
            expression = re.search(r"expr: (?:>\n)?(.*?)\n +(?:for|labels):", rule, re.DOTALL).group(1)
            with self.subTest(alert=name):
                self.check(expression, rule)
                self.assertIn("summary:", rule)
                self.assertIn(f"alertname: {name}, exp_alerts: []", tests, "no test that it is silent")
                self.assertRegex(tests, rf"alertname: {name}\n +exp_alerts:\n +- exp_labels",
                                 "no test that it fires")

    def test_promtool(self):
        if shutil.which("promtool") is None:
            self.skipTest("there is no promtool: scripts/fetch-promtool gets it")
        for command in (["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"],
                        ["test", "rules", "alerts-test.yml"]):
            with self.subTest(command):
                status, output = run(["sh", "-c", 'cd "$0" && exec promtool "$@"', FOLDER, *command])
                self.assertEqual(status, 0, output)
                self.assertIn("SUCCESS", output)
        for text in (self.text, self.of_vms):
            status, output = run(["sh", "-c", 'printf %s "$0" | promtool check metrics', text])
            self.assertEqual((status, output), (0, ""))

    def test_the_collector_removes_old_values(self):
        with tempfile.TemporaryDirectory() as folder:
            output, control = os.path.join(folder, "vgpu.prom"), os.path.join(folder, "vgpuctl")
            for answer, status in ('{"vms": []}', 0), ("no answer", 1):
                with open(control, "w", encoding="utf-8") as file:
                    file.write(f"#!/bin/sh\necho '{answer}'\n")
                os.chmod(control, 0o755)
                done = run([sys.executable, os.path.join(FOLDER, "vgpu-vm-metrics"),
                            "--output", output, "--vgpuctl", control])
                self.assertEqual(done[0], status, done[1])
                self.assertEqual(os.path.exists(output), status == 0)


class TheCheckItself(unittest.TestCase):
    EXPORTED = {"vgpu_a": {"vm": {"1"}, "pool": {"A"}}, "vgpu_b_bucket": {"le": {"1"}, "pool": {"A"}}}

    def faults(self, expression, legend=""):
        return faults_of(expression, legend, self.EXPORTED, {})

    def test_what_is_not_exported_is_found(self):
        self.assertEqual(self.faults('sum by (vm) (rate(vgpu_a{pool="A", instance=~"$i"}[5m]))',
                                     "{{vm}}"), [])
        self.assertEqual(self.faults("vgpu_c"), ["no metric vgpu_c"])
        self.assertEqual(self.faults('vgpu_a{gpu="0"}'), ["vgpu_a has no label gpu"])
        self.assertEqual(self.faults('vgpu_a{pool=~"A|B"}'), ["vgpu_a never has pool=B"])
        self.assertEqual(self.faults("sum by (gpu) (vgpu_a)"), ["no label gpu to group by"])
        self.assertEqual(self.faults("sum by (vm) (vgpu_a)", "{{pool}}"),
                         ["no label pool in the result"])


if __name__ == "__main__":
    outcome = unittest.main(exit=False).result
    for _, reason in outcome.skipped:
        print(f"skipped: {reason}")
    sys.exit(1 if not outcome.wasSuccessful() else 77 if outcome.skipped else 0)
