"""The page at ``/``: the state at a glance, in one self-contained file."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 0 0 2rem }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8886 }
td.number { font-variant-numeric: tabular-nums }
"""

SCRIPT = """
const cell = (row, text) => { row.insertCell().textContent = text ?? "" };
const fill = (id, items, columns) => {
  const body = document.getElementById(id).tBodies[0];
  body.replaceChildren();
  for (const item of items) {
    const row = body.insertRow();
    for (const column of columns) cell(row, item[column]);
  }
};
const show = async () => {
  const state = document.getElementById("state");
  try {
    const answer = await fetch("status", { headers: { accept: "application/json" } });
    const found = await answer.json();
    state.textContent = (found.ready ? "Ready" : "Not ready: " + found.reasons.join("; "))
      + ". Version " + found.version + ", running since " + found.started + ".";
    fill("streams", found.streams, ["account", "stream", "phase", "covered_until", "error"]);
    fill("sinks", found.sinks,
      ["sink", "type", "phase", "backlog_events", "oldest_unacknowledged_seconds", "error"]);
  } catch (error) {
    state.textContent = "The daemon does not answer.";
  }
};
show();
setInterval(show, 2000);
"""

PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>forwarder</title>
<style>{STYLE}</style>
<main>
<h1>forwarder</h1>
<p id="state" role="status">Loading.</p>
<table id="streams"><caption>Streams</caption><thead><tr><th scope="col">Account
<th scope="col">Stream<th scope="col">Phase<th scope="col">Covered until<th scope="col">Trouble
</thead><tbody></tbody></table>
<table id="sinks"><caption>Sinks</caption><thead><tr><th scope="col">Sink<th scope="col">Type
<th scope="col">Phase<th scope="col">Backlog<th scope="col">Oldest, seconds
<th scope="col">Trouble</thead><tbody></tbody></table>
<p><a href="status">Status as JSON</a>, <a href="metrics">metrics</a>,
<a href="readyz">readiness</a>
</main>
<script>{SCRIPT}</script>
</html>
"""


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: its own style and script, and nothing from elsewhere."""
