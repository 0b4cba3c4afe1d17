"""Starts a daruma and a Prometheus on loopback and gives both the same samples by remote write. Standard library only."""
import http.client, json, os, pathlib, re, shutil, socket, struct, subprocess, tempfile, time, urllib.error, urllib.parse, urllib.request

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
PATIENCE_S = 60


def program(name):
    """In the folder $PEERS_BIN, else on the path."""
    path = os.path.join(os.environ.get("PEERS_BIN", ""), name)
    return path if os.environ.get("PEERS_BIN") and os.path.exists(path) else shutil.which(name)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A running program with an API."""

    def __init__(self, argv, url, ready, log):
        self.url, self.log = url, log
        with open(log, "w") as out:
            self.process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT)
        until = time.monotonic() + PATIENCE_S
        while True:
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"{argv[0]} did not start:\n{pathlib.Path(log).read_text()[-2000:]}")
            try:
                urllib.request.urlopen(url + ready, timeout=1).read()
                break
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, path, params=(), post=False, headers=None):
        """Status and JSON (or text) of an API call."""
        params = list(params.items()) if isinstance(params, dict) else list(params)
        text = urllib.parse.urlencode(params)
        url = self.url + path + ("" if post or not text else "?" + text)
        request = urllib.request.Request(url, data=text.encode() if post else None, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        try:
            return status, json.loads(body)
        except ValueError:
            return status, body.decode("utf-8", "replace")

    def write(self, series, version=1, headers=None):
        """series: [(labels, [(ms, value), …])] in one request. Status, headers and text."""
        body = snappy((request_v1 if version == 1 else request_v2)(series))
        media = "application/x-protobuf" + ("" if version == 1 else ";proto=io.prometheus.write.v2.Request")
        head = {"Content-Type": media, "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version":
                "0.1.0" if version == 1 else "2.0.0", **(headers or {})}
        request = urllib.request.Request(self.url + "/api/v1/write", data=body, headers=head, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, dict(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read().decode()


def daruma(binary, folder, config="", flags=()):
    port = free_port()
    with open(f"{folder}/daruma.yaml", "w") as f:
        # Nothing is collected: what is asked for is what was written.
        f.write(config or "collect: {}\n")
    argv = [binary, "run", "--config", f"{folder}/daruma.yaml", "--data", f"{folder}/daruma", "--listen", f"127.0.0.1:{port}", *flags]
    return Server(argv, f"http://127.0.0.1:{port}", "/-/healthy", f"{folder}/daruma.log")


def prometheus(folder):
    """None if there is no Prometheus."""
    binary = program("prometheus")
    if not binary:
        return None, (0, 0)
    said = subprocess.run([binary, "--version"], capture_output=True, text=True)
    version = tuple(map(int, re.search(r"version (\d+)\.(\d+)", said.stdout + said.stderr).groups()))
    port = free_port()
    with open(f"{folder}/prometheus.yml", "w") as f:
        # The step of a subquery that names none.
        f.write("global: {evaluation_interval: 1m}\n")
    features = "promql-at-modifier,promql-negative-offset" if version < (3, 0) else "promql-experimental-functions,promql-delayed-name-removal,native-histograms"
    argv = [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver", "--log.level=warn",
            f"--enable-feature={features}"]
    return Server(argv, f"http://127.0.0.1:{port}", "/-/ready", f"{folder}/prometheus.log"), version


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def zigzag(number):
    return varint(number << 1 ^ number >> 63)


class Histogram:
    """A native histogram: {index: count} above and below zero; with bounds, custom buckets. Whole counts go as differences, others
    as floats."""

    def __init__(self, schema, positive, negative=(), sum=0.0, zero=0, threshold=0.0, bounds=(), hint=0, floats=False, count=None):
        self.schema, self.positive, self.negative, self.sum, self.zero = schema, dict(positive), dict(negative), sum, zero
        self.threshold, self.bounds, self.hint, self.floats = threshold, bounds, hint, floats
        inside = zero + sum_of(self.positive) + sum_of(self.negative)
        self.count = inside if count is None else count

    def encoded(self, ms):
        double = lambda number, value: varint(number << 3 | 1) + struct.pack("<d", value)
        whole = lambda number, value: varint(number << 3) + varint(value)
        out = double(2, self.count) if self.floats else whole(1, self.count)
        out += double(3, self.sum) + varint(4 << 3) + zigzag(self.schema) + double(5, self.threshold)
        out += double(7, self.zero) if self.floats else whole(6, self.zero)
        for first, side in ((8, self.negative), (11, self.positive)):
            spans, end = [], 0
            for at in sorted(side):
                if not spans or at != end:
                    spans.append([at - end, 0])
                spans[-1][1] += 1
                end = at + 1
            out += b"".join(field(first, varint(1 << 3) + zigzag(offset) + whole(2, length)) for offset, length in spans)
            counts = [side[at] for at in sorted(side)]
            if self.floats:
                out += field(first + 2, b"".join(struct.pack("<d", count) for count in counts))
            else:
                out += field(first + 1, b"".join(zigzag(count - before) for count, before in zip(counts, [0, *counts])))
        out += whole(14, self.hint) + whole(15, ms)
        return out + field(16, b"".join(struct.pack("<d", bound) for bound in self.bounds))


def sum_of(buckets):
    return sum(buckets.values())


def sample(ms, value, histograms):
    """`histograms` is the number of their field."""
    if isinstance(value, Histogram):
        return field(histograms, value.encoded(ms))
    return field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(ms))


def request_v1(series):
    label = lambda name, value: field(1, field(1, name.encode()) + field(2, value.encode()))
    one = lambda labels, points: field(1, b"".join(label(*pair) for pair in sorted(labels.items())) + b"".join(sample(*p, 4) for p in points))
    return b"".join(one(*each) for each in series)


def request_v2(series):
    table = {"": 0}
    at = lambda text: table.setdefault(text, len(table))
    bodies = []
    for labels, points in series:
        refs = b"".join(varint(at(text)) for pair in sorted(labels.items()) for text in pair)
        bodies.append(field(5, field(1, refs) + b"".join(sample(*p, 3) for p in points)))
    return b"".join(field(4, text.encode()) for text in table) + b"".join(bodies)


def snappy(data):
    """Valid, though nothing is compressed: literals only."""
    out = bytearray(varint(len(data)))
    for i in range(0, len(data), 65536):
        part = data[i:i + 65536]
        out += bytes([61 << 2]) + struct.pack("<H", len(part) - 1) + part
    return bytes(out)


def folder():
    return tempfile.mkdtemp(prefix="daruma-prometheus-")
