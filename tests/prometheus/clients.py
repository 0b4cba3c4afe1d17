#!/usr/bin/env python3
"""Real clients and their very calls against a running daruma: promtool, Grafana's data source as its documentation and source
describe it, a sender of remote write, and, where there is one, a Prometheus that sends to it.
  clients.py DARUMA"""
import os, shutil, signal, subprocess, sys, time, unittest

import lib

RULES = """groups:
- name: shop
  interval: 1s
  rules:
  - { record: "job:up:sum", expr: sum by (job) (up) }
  - { alert: Down, expr: up == 0, labels: { severity: critical }, annotations: { summary: "{{ $labels.instance }} is down" } }
  - { alert: Slow, expr: up > 5, for: 10m }
"""


class Clients(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = lib.folder()
        with open(f"{cls.folder}/rules.yml", "w") as f:
            f.write(RULES)
        config = "collect: { scrape: [ { job: gone, targets: [ '127.0.0.1:1' ], every: 1s } ] }\ndetect: { rule_files: [ rules.yml ] }\nserver: { query: { samples_max: 100000 } }\n"
        cls.daruma = lib.daruma(DARUMA, cls.folder, config)
        cls.now = int(time.time())
        series = [({"__name__": "up", "job": job, "instance": f"{job}:1"}, [((cls.now - 600 + 15 * i) * 1000, float(job != "db")) for i in range(40)])
                  for job in ("api", "db")]
        series.append(({"__name__": "odd.name", "a b": "ü"}, [((cls.now - 60) * 1000, 1.5)]))
        status, _, text = cls.daruma.write(series)
        assert (status, text) == (204, ""), (status, text)

    @classmethod
    def tearDownClass(cls):
        cls.daruma.stop()
        shutil.rmtree(cls.folder, ignore_errors=True)

    def good(self, path, params=(), post=False):
        status, answer = self.daruma.ask(path, params, post)
        self.assertEqual((status, isinstance(answer, dict) and answer.get("status")), (200, "success"), f"{path} {params}: {answer}")
        return answer["data"]

    def refused(self, path, params, status, kind, says, post=False):
        got, answer = self.daruma.ask(path, params, post)
        self.assertEqual((got, answer["status"], answer["errorType"]), (status, "error", kind), answer)
        self.assertIn(says, answer["error"])

    def until(self, look, what):
        until = time.monotonic() + lib.PATIENCE_S
        while time.monotonic() < until:
            found = look()
            if found:
                return found
            time.sleep(0.1)
        self.fail(f"never: {what}")

    # Grafana: "Save & test", the query editor's completion, panels, the alert list.

    def test_grafana_saves_and_tests_the_data_source(self):
        data = self.good("/api/v1/query", {"query": "1+1", "time": self.now}, post=True)
        self.assertEqual((data["resultType"], data["result"][1]), ("scalar", "2"))
        self.assertRegex(self.good("/api/v1/status/buildinfo")["version"], r"^\d+\.\d+\.\d+$")

    def test_grafana_completes_metrics_labels_and_values(self):
        bounds = [("start", self.now - 3600), ("end", self.now)]
        self.assertIn("up", self.good("/api/v1/label/__name__/values", bounds))
        self.assertIn("up", self.good("/api/v1/label/__name__/values", bounds + [("match[]", '{job="db"}'), ("limit", 40000)]))
        self.assertEqual(self.good("/api/v1/labels", bounds + [("match[]", "up{job!='gone'}")]), ["__name__", "instance", "job"])
        self.assertIn("a b", self.good("/api/v1/labels", bounds, post=True))
        self.assertEqual(self.good("/api/v1/label/job/values", bounds + [("match[]", 'up{job=~"api|db"}')]), ["api", "db"])
        self.assertEqual(self.good("/api/v1/label/U__a_20_b/values"), ["ü"])
        self.assertEqual(self.good("/api/v1/label/nothing/values"), [])
        self.assertEqual(self.good("/api/v1/series", bounds + [("match[]", '{"odd.name"}')], post=True), [{"__name__": "odd.name", "a b": "ü"}])
        self.assertIsInstance(self.good("/api/v1/metadata", {"limit": 5000}), dict)

    def test_grafana_draws_a_panel(self):
        start, end = self.now - 450, self.now - 150
        data = self.good("/api/v1/query_range", {"query": 'sum by (job) (up{job=~"api|db"})', "start": start, "end": end, "step": 15}, post=True)
        self.assertEqual([one["metric"] for one in data["result"]], [{"job": "api"}, {"job": "db"}])
        self.assertEqual(data["result"][0]["values"], [[start + 15 * i, "1"] for i in range(21)])
        self.assertEqual(self.good("/api/v1/query_exemplars", {"query": "up", "start": start, "end": end}, post=True), [])

    def test_grafana_lists_rules_and_alerts(self):
        look = lambda: [a for a in self.good("/api/v1/alerts")["alerts"] if a["labels"]["alertname"] == "Down" and a["labels"]["job"] == "db"]
        alert = self.until(look, "an alert")[0]
        self.assertEqual((alert["state"], alert["value"], alert["annotations"]), ("firing", "0e+00", {"summary": "db:1 is down"}))
        self.assertEqual(alert["labels"], {"alertname": "Down", "instance": "db:1", "job": "db", "severity": "critical"})
        groups = {group["name"]: group for group in self.good("/api/v1/rules", {"type": "alert"})["groups"]}
        rules = {rule["name"]: rule for rule in groups["shop"]["rules"]}
        self.assertEqual((rules["Down"]["state"], rules["Down"]["type"], rules["Down"]["query"]), ("firing", "alerting", "up == 0"))
        self.assertEqual(rules["Slow"]["duration"], 600)
        self.assertEqual((rules["Down"]["health"], rules["Down"]["annotations"]), ("ok", {"summary": "{{ $labels.instance }} is down"}))
        recorded = self.good("/api/v1/rules", {"type": "record"})["groups"][0]["rules"]
        self.assertEqual([(rule["name"], rule["query"], rule["type"]) for rule in recorded], [("job:up:sum", "sum by (job) (up)", "recording")])
        one = self.good("/api/v1/rules", [("rule_name[]", "Slow"), ("exclude_alerts", "true"), ("group_limit", 1)])["groups"]
        self.assertEqual([[rule["name"] for rule in group["rules"]] for group in one], [["Slow"]])
        self.assertNotIn("alerts", one[0]["rules"][0])

    def test_grafana_formats_and_explains_a_query(self):
        self.assertEqual(self.good("/api/v1/format_query", {"query": "sum(rate(up[5m]))by(job)"}, post=True), "sum by (job) (rate(up[5m]))")
        tree = self.good("/api/v1/parse_query", {"query": "-up{job='x'} + 1"})
        self.assertEqual((tree["type"], tree["op"], tree["lhs"]["type"], tree["rhs"]["val"]), ("binaryExpr", "+", "unaryExpr", "1"))

    # promtool.

    def promtool(self, *words):
        program = lib.program("promtool")
        if not program:
            self.skipTest("there is no promtool")
        done = subprocess.run([program, "query", *words], capture_output=True, text=True, timeout=lib.PATIENCE_S)
        return done.returncode, done.stdout, done.stderr

    def test_promtool_queries(self):
        url = self.daruma.url
        code, out, err = self.promtool("instant", "--time", str(self.now - 60), url, 'up{job=~"api|db"}')
        self.assertEqual((code, sorted(line.split(" @")[0] for line in out.splitlines())),
                         (0, ['up{instance="api:1", job="api"} => 1', 'up{instance="db:1", job="db"} => 0']), err)
        code, out, err = self.promtool("range", "--start", str(self.now - 300), "--end", str(self.now - 240), "--step", "30s", url, "sum(up{job='api'})")
        self.assertEqual((code, out.count("1 @[")), (0, 3), out + err)
        code, out, err = self.promtool("series", "--match", 'up{job="api"}', url)
        self.assertEqual((code, out.strip()), (0, '{__name__="up", instance="api:1", job="api"}'), err)
        code, out, err = self.promtool("labels", url, "instance")
        self.assertIn("db:1", out.split(), err)
        code, out, err = self.promtool("instant", url, "sum(")
        self.assertNotEqual(code, 0)
        self.assertIn("bad_data", out + err)

    # What is wrong is said in Prometheus' classes.

    def test_refusals(self):
        ranged = {"query": "up", "start": 0, "end": 10, "step": 1}
        for path, params, status, kind, says in [
            ("/api/v1/query", {"query": "sum(up"}, 400, "bad_data", 'invalid parameter "query": 1:7: parse error'),
            ("/api/v1/query", {}, 400, "bad_data", 'invalid parameter "query"'),
            ("/api/v1/query", {"query": "up", "time": "soon"}, 400, "bad_data", 'invalid parameter "time": cannot parse "soon" to a valid timestamp'),
            ("/api/v1/query", {"query": "up", "limit": "-1"}, 400, "bad_data", "limit must be non-negative"),
            ("/api/v1/query", {"query": "up + on (job) group_left up{job='api'} * on () group_left up"}, 422, "execution", "match"),
            ("/api/v1/query", {"query": "sum_over_time(vector(1)[100y:1ms])"}, 422, "execution", "too many samples"),
            ("/api/v1/query", {"query": "count_over_time(vector(1)[1m:1ms])", "timeout": "0.001"}, 503, "timeout", "timed out"),
            ("/api/v1/query_range", {**ranged, "step": 0}, 400, "bad_data", "zero or negative query resolution step"),
            ("/api/v1/query_range", {**ranged, "end": -1}, 400, "bad_data", "end timestamp must not be before start time"),
            ("/api/v1/query_range", {**ranged, "end": 11001}, 400, "bad_data", "exceeded maximum resolution of 11,000 points"),
            ("/api/v1/query_range", {**ranged, "start": "-1e300", "end": "1e300", "step": "1e9"}, 400, "bad_data", "11,000"),
            ("/api/v1/query_range", {**ranged, "query": "up[5m]"}, 400, "bad_data", "invalid expression type"),
            ("/api/v1/query_range", {"query": "up", "end": 1, "step": 1}, 400, "bad_data", 'invalid parameter "start"'),
            ("/api/v1/format_query", {"query": "sum("}, 400, "bad_data", "parse error"),
            ("/api/v1/query", {"query": "mad_over_time(up[5m])"}, 400, "bad_data", "experimental"),
            ("/api/v1/series", {}, 400, "bad_data", "no match[] parameter provided"),
            ("/api/v1/series", {"match[]": "{}"}, 400, "bad_data", 'invalid parameter "match[]"'),
            ("/api/v1/rules", {"type": "both"}, 400, "bad_data", "not supported value"),
            ("/api/v1/rules", {"group_next_token": "x"}, 400, "bad_data", "group_limit needs to be present"),
        ]:
            with self.subTest(path=path, params=params):
                self.refused(path, params, status, kind, says)
        self.assertEqual(self.daruma.ask("/api/v1/query_range", {**ranged, "end": 11000})[0], 200)
        for path in ("/api/v1/nothing", "/api/v1/admin/tsdb/snapshot", "/api/v1/read"):
            self.assertEqual(self.daruma.ask(path)[0], 404, path)

    def test_a_limit_is_said_when_it_cuts(self):
        status, answer = self.daruma.ask("/api/v1/query", {"query": 'up{job=~"api|db"}', "time": self.now - 60, "limit": 1})
        self.assertEqual((len(answer["data"]["result"]), answer["warnings"]), (1, ["results truncated due to limit"]))
        status, answer = self.daruma.ask("/api/v1/query", {"query": "quantile(2, up)", "stats": "all"})
        self.assertIn("quantile value should be between 0 and 1, got 2 (1:10)", answer["warnings"][0])
        self.assertGreaterEqual(answer["data"]["stats"]["timings"]["execTotalTime"], 0)
        status, answer = self.daruma.ask("/api/v1/query", {"query": "rate(up[5m])", "time": self.now - 60})
        self.assertIn("metric might not be a counter", answer["infos"][0])

    def test_targets_and_status(self):
        def failed():
            found = [t for t in self.good("/api/v1/targets", {"state": "active"})["activeTargets"] if t["health"] == "down"]
            return found[0] if found else None
        target = self.until(failed, "the target that is not there")
        self.assertEqual((target["scrapePool"], target["scrapeUrl"], target["labels"]["instance"]), ("gone", "http://127.0.0.1:1/metrics", "127.0.0.1:1"))
        self.assertTrue(target["lastError"])
        for path in ("runtimeinfo", "config", "flags", "tsdb", "walreplay"):
            self.good(f"/api/v1/status/{path}")
        self.assertIn("rules.yml", self.good("/api/v1/status/config")["yaml"])
        head = self.good("/api/v1/status/tsdb")["headStats"]
        self.assertTrue(0 < head["numSeries"] <= head["chunkCount"], head)
        self.assertTrue(0 < head["minTime"] <= head["maxTime"] <= (time.time() + 5) * 1000, head)
        group = self.until(lambda: next((g for g in self.good("/api/v1/rules")["groups"] if g["evaluationTime"] > 0), None), "a group that was timed")
        self.assertAlmostEqual(group["evaluationTime"], sum(rule["evaluationTime"] for rule in group["rules"]), 6)

    # Remote write.

    def test_what_is_pushed_is_kept_and_what_cannot_be_is_said(self):
        now, labels = int(time.time() * 1000), {"__name__": "pushed", "job": "w"}
        value = lambda: (self.good("/api/v1/query", {"query": 'pushed{other=""}', "time": (now + 500) / 1000})["result"] or [{"value": [0, None]}])[0]["value"][1]
        self.assertEqual(self.daruma.write([(labels, [(now - 2000, 1.0), (now - 1000, 2.0)])], version=2)[0], 204)
        self.assertEqual(value(), "2")
        status, headers, _ = self.daruma.write([(labels, [(now - 1000, 2.0)])], version=2)
        self.assertEqual((status, headers["X-Prometheus-Remote-Write-Samples-Written".lower()]), (204, "1"), "the same again changes nothing")
        for points in ([(now - 1000, 3.0)], [(now - 1500, 1.0)], [(now + 3_600_000, 1.0)]):
            status, _, text = self.daruma.write([(labels, points), ({**labels, "other": str(points[0][0])}, [(now - 5, 7.0)])])
            self.assertEqual(status, 400, text)
        self.assertEqual(len(self.good("/api/v1/series", {"match[]": 'pushed{other!=""}'})), 3, "what could be kept is kept")
        self.assertEqual(self.daruma.write([({"job": "nameless"}, [(now, 1.0)])])[0], 400)
        self.assertEqual(self.daruma.write([(labels, [(now, lib.STALE)])])[0], 204)
        self.assertEqual(value(), None, "a marker ends a series")

    def test_what_is_no_request_is_refused(self):
        for headers, want in [({"Content-Type": "text/plain"}, 415), ({"Content-Encoding": "zstd"}, 415), ({"Content-Type": "application/x-protobuf;proto=x"}, 415),
                              ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Host": "elsewhere.example"}, 421)]:
            self.assertEqual(self.daruma.write([], headers=headers)[0], want, headers)
        self.assertEqual(self.daruma.ask("/api/v1/query", {"query": "1"}, post=True, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})[0], 403)

    def test_a_prometheus_sends_what_it_scrapes(self):
        folder = lib.folder()
        try:
            source, version = lib.prometheus(folder)
            if not source:
                self.skipTest("there is no prometheus")
            try:
                port = source.url.rsplit(":", 1)[1]
                with open(f"{folder}/prometheus.yml", "w") as f:
                    f.write(f"scrape_configs: [{{ job_name: self, scrape_interval: 1s, static_configs: [{{ targets: ['127.0.0.1:{port}'] }}] }}]\n"
                            f"remote_write: [{{ url: '{self.daruma.url}/api/v1/write', metadata_config: {{ send_interval: 1s }} }}]\n")
                os.kill(source.process.pid, signal.SIGHUP)
                look = lambda: self.good("/api/v1/query", {"query": 'count({job="self"})'})["result"]
                found = self.until(look, "samples from Prometheus")
                self.assertGreater(float(found[0]["value"][1]), 100)
                self.until(lambda: self.good("/api/v1/metadata", {"metric": "prometheus_build_info"}), "what Prometheus says of its metrics")
            finally:
                source.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    DARUMA = sys.argv.pop(1)
    unittest.main(verbosity=1)
