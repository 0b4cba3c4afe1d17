"""Seeds from other people's rules and templates, where they are at hand: seeds.py CONFORMANCE CORPUS."""

import hashlib
import pathlib
import re
import sys

shared, corpus = map(pathlib.Path, sys.argv[1:3])


def keep(target: str, text: str) -> None:
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    data = text.encode()[:2048]
    if target == "promql_eval":
        # A time and a number of steps come first.
        data = (120_001).to_bytes(8, "little") + b"\x05" + data
    elif target == "template":
        data = data + b"\0<web-1>"
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


queries, templates = set(), set()
for file in [*shared.rglob("*.yml"), *shared.rglob("*.yaml"), *shared.rglob("*.test")]:
    text = file.read_text(errors="replace")
    queries.update(re.findall(r"^\s*expr:\s*([^|>\n].*)$", text, re.M))
    queries.update(re.findall(r"^eval\s+(?:instant|range)\s.*?\d\w*\s+(\D.*)$", text, re.M))
    templates.update(line.strip() for line in text.splitlines() if "{{" in line)
for file in shared.rglob("*.tmpl"):
    templates.add(file.read_text(errors="replace"))
for file in [*(shared / "common").rglob("*"), *(shared / "prometheus/textparse").rglob("*")]:
    if file.is_file() and file.suffix != ".md":
        keep("exposition", file.read_text(errors="replace"))
for query in queries:
    for matchers in re.findall(r"\{[^{}]*\}", query):
        keep("matchers", matchers)
    keep("promql_parse", query)
    keep("promql_eval", query)
for template in templates:
    keep("template", template)
print(f"{len(queries)} queries and {len(templates)} templates are seeds", file=sys.stderr)
