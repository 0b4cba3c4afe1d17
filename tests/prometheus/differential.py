#!/usr/bin/env python3
"""Asks a daruma and a Prometheus, fed the same samples, the same generated queries, and compares their answers.
  differential.py DARUMA [--queries 200] [--seed 1]
Labels must agree exactly, numbers within 1e-9 relative, errors in their class. What may differ is listed in `excused`, each
with its reason. A query that differs is printed with both answers and its seed; the exit code is then 1."""
import argparse, math, random, shutil, sys, time

import lib

TOLERANCE = 1e-9
STEP_MS = 15_000
POINTS = 480  # Two hours.


def series(start_ms, rng):
    """[(labels, [(ms, value)])]: counters with resets, gauges with gaps, markers and odd numbers, classic histograms."""
    times = [start_ms + i * STEP_MS for i in range(POINTS)]
    out = []
    for job in ("api", "db"):
        for instance in ("a:1", "b:1", "c:1"):
            base = {"job": job, "instance": instance}
            for code in ("200", "404", "500"):
                total, points = rng.random() * 1e6, []
                rate = rng.random() * 100
                for t in times:
                    total = 0.0 if rng.random() < 0.004 else total + rate * 15 * rng.random()
                    points.append((t, round(total, 3) if code == "200" else float(int(total))))
                out.append(({"__name__": "requests_total", "code": code, **base}, points))
            out.append(({"__name__": "temperature", **base}, [(t + rng.randrange(900), rng.gauss(20, 5)) for t in times]))
            gaps = [(t, float(rng.randrange(100))) for t in times if rng.random() < 0.6]
            out.append(({"__name__": "queue_length", **base}, gaps))
            out.append(({"__name__": "up", **base}, [(t, float(rng.random() < 0.9)) for t in times]))
            counts, mass = [0.0] * 6, 0.0
            rows = {le: [] for le in ("0.01", "0.1", "1.0", "5.0", "+Inf")}
            sums, totals = [], []
            for t in times:
                for _ in range(rng.randrange(5)):
                    value = rng.expovariate(1.5)
                    mass += value
                    for i, le in enumerate(rows):
                        counts[i] += value <= float(le)
                for i, le in enumerate(rows):
                    rows[le].append((t, counts[i]))
                sums.append((t, mass))
                totals.append((t, counts[4]))
            for le, points in rows.items():
                out.append(({"__name__": "latency_bucket", "le": le, **base}, points))
            out.append(({"__name__": "latency_sum", **base}, sums))
            out.append(({"__name__": "latency_count", **base}, totals))
        out.append(({"__name__": "limits", "job": job}, [(t, 50.0 if job == "api" else 0.0) for t in times]))
    odd = [float("nan"), float("inf"), float("-inf"), -0.0, 1e300, 0.25, 1.0]
    out.append(({"__name__": "odd", "kind": "numbers"}, [(t, rng.choice(odd)) for t in times]))
    ended = [(t, 3.0) for t in times[:200]] + [(times[200], lib.STALE)]
    out.append(({"__name__": "odd", "kind": "ended"}, ended))
    blinks = [(t, lib.STALE if i % 17 == 5 else float(i)) for i, t in enumerate(times)]
    out.append(({"__name__": "odd", "kind": "blinks"}, blinks))
    # Before 3.0 `.` did not match a line's end, and names were ASCII.
    text = {"kind": "t\"e\\x\nt", "ü": "ä"} if UTF8 else {"kind": "t\"e\\xt"}
    out.append(({"__name__": "odd", **text}, [(t, 7.0) for t in times]))
    return out


def natives(start_ms, rng, version):
    """Native histograms: counters with resets and gaps in several resolutions and flavours, custom buckets, a gauge, ends, and a
    series that is now a number and now a histogram."""
    # Before 3.14 custom buckets with other bounds did not mix, and rates were extrapolated beyond the birth of a counter.
    mixing, born = version >= (3, 14), {0: 0} if version >= (3, 14) else {0: 5000}
    times = [start_ms + i * STEP_MS for i in range(POINTS)]
    out = []
    for job in ("api", "db"):
        for at, instance in enumerate(("a:1", "b:1", "c:1")):
            base = {"job": job, "instance": instance}
            grown, total, points = dict(born), 0.0, []
            wide, mass, others = {0: float(born[0])}, 0.0, []
            custom, custom_sum, customs = dict(born), 0.0, []
            gauges = []
            bounds = (0.1, 1.0, 5.0) if job == "api" and mixing else (0.1, 0.5, 1.0, 5.0, 10.0)
            for t in times:
                if rng.random() < 0.005:
                    grown, total = dict(born), 0.0
                if rng.random() < 0.005:
                    custom, custom_sum = dict(born), 0.0
                for _ in range(rng.randrange(6)):
                    value = rng.lognormvariate(0, 1)
                    index = math.ceil(math.log2(value) * 8)
                    grown[index] = grown.get(index, 0) + 1
                    total += value
                    index = math.ceil(math.log2(value) * 2 ** at)
                    wide[index] = wide.get(index, 0.0) + rng.random()
                    mass += value
                    index = sum(value > bound for bound in bounds)
                    custom[index] = custom.get(index, 0) + 1
                    custom_sum += value
                if rng.random() < 0.95:
                    points.append((t, lib.Histogram(3, grown, sum=total, zero=len(points) if at == 1 else 0, threshold=1e-3 if at == 1 else 0.0)))
                others.append((t + rng.randrange(900), lib.Histogram(at, wide, sum=mass, threshold=2.0 ** -20, floats=True)))
                customs.append((t, lib.Histogram(-53, custom, sum=custom_sum, bounds=bounds, floats=at == 2)))
                gauge = [rng.gauss(0, 3) for _ in range(rng.randrange(1, 9))]
                side = lambda sign: {i: n for i in range(-9, 4) if (n := sum(math.ceil(math.log2(sign * v)) == i for v in gauge if sign * v > 0))}
                gauges.append((t, lib.Histogram(0, side(1), side(-1), sum=sum(gauge), hint=3)))
            out.append(({"__name__": "request_seconds", **base}, points))
            out.append(({"__name__": "wait_seconds", **base}, others))
            out.append(({"__name__": "batch_size", **base}, customs))
            out.append(({"__name__": "depth", **base}, gauges))
    stale = lib.Histogram(0, {}, sum=lib.STALE)
    some = lambda n: lib.Histogram(1, {-1: n, 2: 2 * n}, sum=3.5 * n)
    out.append(({"__name__": "native_odd", "kind": "ended"}, [(t, some(i)) for i, t in enumerate(times[:300])] + [(times[300], stale)]))
    out.append(({"__name__": "native_odd", "kind": "blinks"}, [(t, stale if i % 17 == 5 else some(i % 100)) for i, t in enumerate(times)]))
    # One kind a request: in one, all numbers of a series are stored before its histograms.
    turns = [(t, some(i) if i // 60 % 2 else float(i)) for i, t in enumerate(times)]
    out.append(({"__name__": "native_odd", "kind": "turns"}, turns))
    return out


UTF8 = False


def feed(server, data):
    """In order of time, as a sender would."""
    for at in range(0, POINTS, 60):
        first, last = data[0][1][0][0] + at * STEP_MS, data[0][1][0][0] + (at + 60) * STEP_MS
        part = [(labels, [p for p in points if first <= p[0] < last]) for labels, points in data]
        status, _, text = server.write([one for one in part if one[1]])
        assert status in (200, 204), f"{server.url}: {status} {text}"


class Queries:
    """Random queries that mean something; the same seed gives the same."""

    def __init__(self, seed, version):
        self.r, self.version = random.Random(seed), version
        # Prometheus 2 closes windows on the left, inside subqueries too, spreads infinite values differently, keeps a
        # name through `atan2`, and extrapolates beyond the birth of a counter: of it only the rest is asked.
        self.old = version < (3, 0)

    def pick(self, *choices):
        return self.r.choice(choices)

    def span(self):
        return self.pick("1m", "90s", "5m", "10m", "6m" if self.old else "1h", "37s", "2m30s", "300" if not self.old else "4m")

    def shift(self):
        roll = self.r.random()
        if roll < 0.75:
            return ""
        if roll < 0.85:
            return f" offset {self.pick('1m', '-1m', '7m', '1h')}"
        if roll < 0.95:
            return f" @ {self.pick('start()', 'end()', self.moment(), f'{self.middle}.5')}"
        return f" offset 3m @ {self.moment()}"

    def moment(self):
        # Before 3.0 windows were closed on the left: between two samples that makes no difference.
        return f"{self.middle}" if not self.old else f"{self.middle}.123"

    middle = 0

    def matchers(self, *labels):
        some = []
        for name, values in labels:
            if self.r.random() < 0.35:
                some.append(self.pick(f'{name}="{self.pick(*values)}"', f'{name}!="{self.pick(*values)}"',
                                      f'{name}=~"{self.pick(*values)}|{self.pick(*values)}"', f'{name}=~".+"', f'{name}!~"{self.pick(*values)}.*"',
                                      f'absent_label=""'))
        return "{" + ",".join(some) + "}" if some else ""

    def who(self):
        return [("job", ("api", "db")), ("instance", ("a:1", "b:1", "c:1"))]

    def counter(self):
        return self.pick("requests_total" + self.matchers(("code", ("200", "404", "500")), *self.who()), "latency_count" + self.matchers(*self.who()))

    def gauge(self):
        return self.pick("temperature", "queue_length", "up") + self.matchers(*self.who())

    def selector(self):
        return self.pick(self.counter, self.gauge, self.gauge, lambda: "odd" + self.matchers(("kind", ("numbers", "ended", "blinks"))),
                         lambda: "limits", lambda: '{__name__=~"temp.*|queue.*"}' + "", lambda: "nothing_here")()

    def window(self):
        if not self.old and self.r.random() < 0.25:
            step = self.pick("", "30s", "1m", "7s")
            return f"({self.vector(2)})[{self.pick('5m', '10m', '3m')}:{step}]{self.shift()}"
        return f"{self.selector()}[{self.span()}]{self.shift()}"

    def number(self):
        return self.pick("0", "1", "2", "0.5", "-1", "1e3", "100", "0x10", "Inf", "NaN", "3.14159", "time()", "scalar(limits{job=\"api\"})", "pi()", "5m" if not self.old else "300")

    def grouping(self):
        labels = self.r.sample(["job", "instance", "code", "kind", "le", "nolabel"], self.r.randrange(4))
        return self.pick("", f" by ({','.join(labels)})", f" without ({','.join(labels)})")

    def vector(self, depth):
        if depth <= 0 or self.r.random() < 0.12:
            return self.selector() + self.shift()
        return self.pick(self.over_time, self.rates, self.aggregate, self.aggregate, self.binary, self.binary, self.math, self.labels,
                         self.buckets, self.other, self.compare)(depth - 1)

    def over_time(self, depth):
        name = self.pick("avg", "min", "max", "sum", "count", "last", "present", *([] if self.old else ["stddev", "stdvar"]))
        roll = self.r.random()
        if roll < 0.1:
            return f"quantile_over_time({self.pick('0.5', '0.9', '0', '1', '-1', '2')}, {self.window()})"
        if roll < 0.15:
            return f"absent_over_time({self.window()})"
        if roll < 0.2 and not self.old:
            return f"mad_over_time({self.window()})"
        return f"{name}_over_time({self.window()})"

    def rates(self, depth):
        name = self.pick("irate", "delta", "idelta", "resets", "changes", "deriv", *([] if self.old else ["rate", "increase"]))
        if not self.old and self.r.random() < 0.1:
            return f"predict_linear({self.window()}, {self.pick('60', '3600', '-60')})"
        if self.r.random() < 0.5:
            return f"{name}({self.counter()}[{self.span()}]{self.shift()})"
        return f"{name}({self.window()})"

    def aggregate(self, depth):
        roll, inner = self.r.random(), self.vector(depth)
        if roll < 0.15:
            # Of equal values either may be chosen: only what has none is ranked.
            ranked = self.pick("temperature" + self.shift(), f"deriv(latency_sum[{self.span()}])" if self.old else f"avg_over_time(temperature[{self.span()}])", f"rate(latency_sum[{self.span()}])", "temperature + on (job, instance) latency_sum")
            return f"{self.pick('topk', 'bottomk')}{self.grouping()} ({self.pick('1', '2', '3', '0', '100')}, {ranked})"
        if roll < 0.25:
            return f"quantile{self.grouping()} ({self.pick('0.5', '0.95', '0', '1', '1.5')}, {inner})"
        if roll < 0.3:
            return f"count_values{self.grouping()} (\"value\", {self.pick('round(' + inner + ')', 'up')})"
        return f"{self.pick('sum', 'avg', 'min', 'max', 'count', 'group', *([] if self.old else ['stddev', 'stdvar']))}{self.grouping()} ({inner})"

    def operator(self):
        return self.pick("+", "-", "*", "/", "%", "^", "-" if self.old else "atan2")

    def binary(self, depth):
        roll = self.r.random()
        left = self.vector(depth)
        if roll < 0.3:
            pair = [left, self.number()]
            self.r.shuffle(pair)
            return f"({pair[0]}) {self.operator()} ({pair[1]})"
        if roll < 0.5:
            match = self.pick("", " on (job, instance)", " ignoring (code, le, kind)", " on (job)")
            return f"({left}) {self.operator()}{match} ({self.vector(depth)})"
        if roll < 0.7:
            one = self.pick("limits", f"sum by (job) ({self.gauge()})", f"max by (job) ({self.selector()})")
            kept = self.pick("", "", " (nolabel)")
            return self.pick(f"({left}) {self.operator()} on (job) group_left{kept} {one}", f"{one} {self.operator()} on (job) group_right{kept} ({left})")
        match = self.pick("", "", " on (job)", " on (job, instance)", " ignoring (code)", " on ()")
        return f"({left}) {self.pick('and', 'or', 'unless')}{match} ({self.vector(depth)})"

    def compare(self, depth):
        op, boolean = self.pick("==", "!=", ">", "<", ">=", "<="), self.pick("", " bool")
        if self.r.random() < 0.6:
            return f"({self.vector(depth)}) {op}{boolean} {self.number()}"
        return f"({self.vector(depth)}) {op}{boolean} on (job, instance) ({self.pick('temperature', 'queue_length', 'up')})"

    def math(self, depth):
        inner = self.vector(depth)
        name = self.pick("abs", "ceil", "floor", "exp", "ln", "log2", "log10", "sqrt", "sgn", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
                         "tanh", "asinh", "acosh", "atanh", "deg", "rad", "-", "+")
        if name in "+-":
            return f"{name}({inner})"
        if self.r.random() < 0.3:
            return self.pick(f"clamp({inner}, {self.pick('0', '10', '-5')}, {self.pick('20', '5', '100')})", f"clamp_min({inner}, 10)", f"clamp_max({inner}, 10)",
                             f"round({inner})", f"round({inner}, {self.pick('0.1', '5', '10')})")
        return f"{name}({inner})"

    def labels(self, depth):
        inner = self.vector(depth)
        return self.pick(f'label_replace({inner}, "{self.pick("job", "new", "__name__")}", "{self.pick("$1", "x-$1", "", "${1}y")}", "{self.pick("instance", "code", "nolabel")}", "{self.pick("(.*):.*", "(.*)", "2(..)", "")}")',
                         f'label_join({inner}, "joined", "-", "job", "{self.pick("instance", "code", "nolabel")}")')

    def buckets(self, depth):
        if self.old:
            return self.rates(depth)
        by = self.pick(" by (le)", " by (job, le)", " by (instance, le)")
        return self.pick(f"histogram_quantile({self.pick('0.5', '0.9', '0.99', '0', '1', '-1', '2')}, sum{by} (rate(latency_bucket[{self.span()}])))",
                         f"histogram_quantile(0.9, latency_bucket)", f"histogram_quantile(0.5, rate(latency_bucket{self.matchers(*self.who())}[5m]))")

    def other(self, depth):
        inner = self.vector(depth)
        # What date NaN is differs from processor to processor there.
        date = self.pick("day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year")
        moment = self.pick("timestamp(temperature)", "temperature * 1e7", f"vector(time() {self.pick('+', '-')} {self.r.randrange(10 ** 9)})", "")
        return self.pick(f"absent({inner})", f"{date}({moment})", f"vector({self.number()})", f"timestamp({inner})", f"sort({inner})", f"sort_desc({inner})", f"scalar({inner}) + temperature",
                         f"vector(scalar({inner}))", f"({inner})")

    def native_selector(self):
        name = self.pick("request_seconds", "request_seconds", "wait_seconds", "batch_size", "depth", "native_odd")
        if name == "native_odd":
            return name + self.matchers(("kind", ("ended", "blinks", "turns")))
        return name + self.matchers(*self.who())

    def native(self, depth):
        """A vector of native histograms, mostly."""
        roll, selector = self.r.random(), self.native_selector()
        if depth <= 0 or roll < 0.1:
            return selector + self.shift()
        inner = lambda: self.native(depth - 1)
        if roll < 0.4:
            name = self.pick("rate", "rate", "increase", "delta", "irate", "idelta")
            if self.version < (3, 14) and name in ("rate", "increase") and selector.startswith("depth"):
                name = "delta"
            return f"{name}({selector}[{self.span()}]{self.shift()})"
        if roll < 0.55:
            window = f"({inner()})[5m:{self.pick('30s', '1m', '')}]" if self.r.random() < 0.3 else f"{selector}[{self.span()}]{self.shift()}"
            return f"{self.pick('sum', 'avg', 'last', 'sum')}_over_time({window})"
        if roll < 0.8:
            return f"{self.pick('sum', 'avg', 'sum', 'group')}{self.grouping()} ({inner()})"
        if roll < 0.87:
            return self.pick(f"({inner()}) {self.pick('*', '/')} {self.pick('2', '0.5', '3', '-1', '0')}", f"{self.pick('2', '-1')} * ({inner()})", f"-({inner()})")
        if roll < 0.94:
            if self.r.random() < 0.25:
                # Before 3.14 a comparison brings back the name that `rate` took away.
                return f"({inner()}) {self.pick('==', '!=')} on (job, instance) ({inner()})"
            match = self.pick("", " on (job, instance)", " ignoring (kind)")
            return f"({inner()}) {self.pick('+', '-', '+', 'and', 'or', 'unless')}{match} ({inner()})"
        return self.pick(f'label_replace({inner()}, "new", "$1", "job", "(.*)")', f"sort({inner()})", f"{inner()} > 1", f"abs({inner()})", f"limitk(100, {inner()})")

    def read_off(self, depth):
        """A vector of numbers from native histograms."""
        inner, roll = self.native(depth), self.r.random()
        if roll < 0.35:
            return f"histogram_quantile({self.pick('0.5', '0.9', '0.99', '0', '1', '-1', '2', '0.001', 'NaN')}, {inner})"
        if roll < 0.5:
            return f"histogram_fraction({self.pick('0', '-1', '-Inf', '0.3')}, {self.pick('1', '0.2', 'Inf', '3.7')}, {inner})"
        if roll < 0.8:
            return f"histogram_{self.pick('count', 'sum', 'avg', 'stddev', 'stdvar')}({inner})"
        window = f"{self.native_selector()}[{self.span()}]{self.shift()}"
        name = self.pick("resets", "changes", "count_over_time", "present_over_time", "absent_over_time", "max_over_time", "deriv", "stddev_over_time", "quantile_over_time")
        return self.pick(f"quantile_over_time(0.5, {window})" if name == "quantile_over_time" else f"{name}({window})", f"count{self.grouping()} ({inner})",
                         f"absent({inner})", f"timestamp({inner})", f"count_values(\"value\", {self.native_selector()})", f"topk(3, {inner})",
                         f"histogram_quantile(0.9, {{__name__=~\"latency_bucket|request_seconds\"}})", f"scalar({inner})", f"max({inner})")

    def query(self):
        if not self.old and self.r.random() < 0.3:
            roll = self.r.random()
            if roll < 0.05:
                return f"{self.native_selector()}[{self.span()}]{self.shift()}"
            return self.native(self.r.randrange(3)) if roll < 0.4 else self.read_off(self.r.randrange(3))
        roll = self.r.random()
        if roll < 0.03:
            return self.number()
        if roll < 0.05:
            return f"{self.selector()}[{self.span()}]"
        return self.vector(self.r.randrange(1, 4))


def near(a, b):
    if isinstance(a, dict) or isinstance(b, dict):
        return isinstance(a, dict) and isinstance(b, dict) and near_histograms(a, b)
    a, b = float(a), float(b)
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    if math.isinf(a) or math.isinf(b):
        return a == b
    return abs(a - b) <= TOLERANCE * max(abs(a), abs(b))


def near_histograms(a, b):
    if not near(a["count"], b["count"]) or not near(a["sum"], b["sum"]):
        return False
    # What is left of a count by rounding may fill a bucket here and not there; bounds differ there by what its table rounds.
    least = TOLERANCE * max([1e-300] + [abs(float(count)) for one in (a, b) for *_, count in one.get("buckets", [])])
    buckets = lambda one: {(kind, f"{float(low):.12g}", f"{float(high):.12g}"): count for kind, low, high, count in one.get("buckets", []) if not abs(float(count)) <= least}
    a, b = buckets(a), buckets(b)
    close = lambda x, y: near(x, y) or abs(float(x) - float(y)) <= least
    return set(a) == set(b) and all(close(a[key], b[key]) for key in a)


def flat(answer):
    """{labels: {time: value}} of a result."""
    data = answer["data"]
    kind, result = data["resultType"], data["result"]
    if kind in ("scalar", "string"):
        return kind, {(): {result[0]: result[1]}}
    rows = {}
    for one in result:
        key = tuple(sorted(one["metric"].items()))
        if key in rows:
            return kind, {"twice": {key: key}}
        if kind == "vector":
            rows[key] = dict([one.get("value") or one["histogram"]])
        else:
            rows[key] = dict(one.get("values", []) + one.get("histograms", []))
    return kind, rows


def difference(ours, theirs):
    """None if both answers are the same, else the first thing in which they differ."""
    (status, a), (status2, b) = ours, theirs
    if not isinstance(a, dict) or not isinstance(b, dict):
        return "not JSON"
    if a.get("status") != b.get("status"):
        return f"{a.get('status')} {a.get('error', '')} / {b.get('status')} {b.get('error', '')}"
    if a["status"] == "error":
        return None if (status, a["errorType"]) == (status2, b["errorType"]) else f"{status} {a['errorType']} {a['error']} / {status2} {b['errorType']} {b['error']}"
    (kind, left), (kind2, right) = flat(a), flat(b)
    if kind != kind2:
        return f"{kind} / {kind2}"
    if set(left) != set(right):
        return f"only here {sorted(set(left) - set(right), key=str)[:2]} / only there {sorted(set(right) - set(left), key=str)[:2]} of {len(left)}, {len(right)}"
    for key, points in left.items():
        if set(points) != set(right[key]):
            return f"{dict(key)}: times {sorted(set(points) ^ set(right[key]))[:4]}"
        for at, value in points.items():
            if not near(value, right[key][at]):
                return f"{dict(key)} at {at}: {value} / {right[key][at]}"
    return None


def excused(query, said, version):
    """Why an answer may differ, or None. Each is a difference of the Prometheus that is asked, or of arithmetic alone."""
    same = "vector cannot contain metrics with the same labelset"
    if "last_over_time((" in query and ("__name__" in said or same in said):
        return "before 3.14 `last_over_time` over a subquery brings back the name that the inner query took away"
    if said.startswith("success") and same in said:
        return "before 3.14 series that become equal collide even when their points lie at different times"
    if "% " in query and any(steep in query for steep in ("^", "exp(", "sinh(", "cosh(", "tan(", "1e3")):
        return "what `%` leaves of a number beyond 2^53 hangs on its last bit"
    if ("cosh(" in query or "sinh(" in query) and "Inf" in said:
        return "near the largest number `cosh` and `sinh` overflow one step earlier there"
    if "count_values" in query and "{count:" in said:
        return "bounds of buckets differ in the last digit, by what the table rounds from which Prometheus takes them"
    if "changes(" in query and "_seconds" in query:
        return "where a chunk of histograms ends, two that are equal can count as a change there: their layout changed"
    if "histogram_quantile" in query and ("-1 *" in query or "* -1" in query or "/ -1" in query or "-(" in query):
        return "of negative counts there is no quantile"
    if "mad_over_time" in query and "NaN" in said:
        return "before 3.14 `mad_over_time` passed over NaN"
    return None


def main():
    global UTF8
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("daruma")
    ap.add_argument("--queries", type=int, default=200)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--show", type=int, default=20)
    a = ap.parse_args()
    folder = lib.folder()
    servers = []
    try:
        theirs, version = lib.prometheus(folder)
        if not theirs:
            print("SKIPPED: there is no prometheus; install it, or name the folder that holds it in $PEERS_BIN", file=sys.stderr)
            return 0
        servers.append(theirs)
        ours = lib.daruma(a.daruma, folder, "collect: {}\nserver: { query: { experimental: true } }\n")
        servers.append(ours)
        UTF8 = version >= (3, 0)
        # On the grid of minutes, so that some queries meet samples exactly.
        start = (int(time.time()) // 60 * 60 - POINTS * 15) * 1000
        data = series(start, random.Random(a.seed))
        if version >= (3, 0):
            data += natives(start, random.Random(a.seed + 1), version)
        for server in servers:
            feed(server, data)
        queries = Queries(a.seed, version)
        queries.middle = start // 1000 + 3600
        wrong, let, errors, empty = 0, {}, 0, 0
        for number in range(a.queries):
            query, r = queries.query(), queries.r
            # As in `moment`.
            fraction = 0 if version >= (3, 0) and r.random() < 0.5 else 7.123
            at = start // 1000 + r.randrange(300, POINTS * 15 + 120) // 15 * 15 + fraction
            if r.random() < 0.6:
                path, params = "/api/v1/query", {"query": query, "time": at}
            else:
                step = r.choice([15, 60, 300, 7.5])
                path, params = "/api/v1/query_range", {"query": query, "start": at, "end": at + step * r.randrange(0, 40), "step": step}
            post = r.random() < 0.3
            mine, other = ours.ask(path, params, post), theirs.ask(path, params, post)
            said = difference(mine, other)
            errors += mine[1].get("status") == "error"
            empty += mine[1].get("status") == "success" and not mine[1]["data"]["result"]
            if said:
                reason = excused(query, said, version)
                if reason:
                    let[reason] = let.get(reason, 0) + 1
                    continue
                wrong += 1
                if wrong <= a.show:
                    print(f"DIFFERS (seed {a.seed}, query {number})\n  {query}\n  {params}\n  {said}")
        print(f"prometheus {version[0]}.{version[1]}: {a.queries} queries, {errors} refused by both, {empty} empty, {wrong} differ" +
              "".join(f"; {count} excused: {reason}" for reason, count in sorted(let.items())))
        return 1 if wrong else 0
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
