"""The status page: one self-contained static file, which NGINX serves if there is no hub."""

from __future__ import annotations

import time
from html import escape

from hubsmith.guest.status.report import Report

TITLES = {
    "ready": "This hub is ready",
    "starting": "This hub is starting",
    "degraded": "This hub runs, but needs care",
    "failed": "This hub has a fault",
    "refused": "This hub is not set up yet",
}
HELP = {
    "starting": "It takes a minute or two. This page looks again by itself.",
    "degraded": "People can work. The administrator should look at the items below.",
    "failed": "The administrator finds more with <code>sudo hubsmith status</code> on the machine.",
    "refused": "Its settings are missing or wrong, so it serves nothing. The administrator corrects "
    "<code>/etc/hubsmith/settings.toml</code> and runs <code>sudo hubsmith apply</code>.",
}
STYLE = """
:root { color-scheme: light dark; --bg: #f6f7f9; --card: #fff; --ink: #1c2330; --soft: #5b6575; --line: #e3e7ed;
  --ready: #1a7f4b; --starting: #2563b8; --degraded: #9a6400; --failed: #b42318; --refused: #b42318; }
@media (prefers-color-scheme: dark) { :root { --bg: #12161d; --card: #1a2029; --ink: #e7ebf1; --soft: #9aa5b5;
  --line: #2b333f; --ready: #4cc38a; --starting: #70a5f2; --degraded: #e0a63a; --failed: #f08579;
  --refused: #f08579; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--bg); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; padding: 8vh 1rem 2rem; }
main { background: var(--card); border: 1px solid var(--line); border-radius: 12px; max-width: 46rem; margin: auto;
  overflow: hidden; }
header { border-top: 5px solid var(--tone); padding: 1.75rem 2rem 1.5rem; }
h1 { font-size: 1.5rem; font-weight: 650; letter-spacing: -.01em; }
header p { color: var(--soft); margin-top: .4rem; }
code { background: var(--bg); border-radius: 4px; font: .88em ui-monospace, monospace; overflow-wrap: anywhere;
  padding: .1em .35em; }
table { border-collapse: collapse; width: 100%; }
th, td { border-top: 1px solid var(--line); padding: .7rem 1rem; text-align: left; vertical-align: top; }
th { font-weight: 600; padding-left: 2rem; white-space: nowrap; }
td:last-child { color: var(--soft); overflow-wrap: anywhere; padding-right: 2rem; }
.state { color: var(--tone); font-weight: 600; white-space: nowrap; }
.state::before { background: currentColor; border-radius: 50%; content: ""; display: inline-block; height: .55em;
  margin-right: .5em; width: .55em; }
.ready { --tone: var(--ready); } .starting { --tone: var(--starting); } .degraded { --tone: var(--degraded); }
.failed { --tone: var(--failed); } .refused { --tone: var(--refused); }
footer { color: var(--soft); font-size: .85rem; margin: 1rem auto; max-width: 46rem; padding: 0 .5rem; }
@media (max-width: 34rem) { th, td, td:last-child { display: block; border: 0; padding: .1rem 1.25rem; }
  th { border-top: 1px solid var(--line); padding-top: .7rem; } td:last-child { padding-bottom: .7rem; }
  header { padding: 1.25rem; } }
"""


def render(report: Report) -> str:
    """Return the HTML page of a report."""
    rows = "\n".join(
        f'<tr><th scope="row">{escape(item.name)}</th><td class="state {item.state}">{item.state}</td>'
        f"<td>{escape(item.why)}</td></tr>"
        for item in report.items
    )
    lead = f"<p>{HELP[report.state]}</p>" if report.state in HELP else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10">
<meta name="robots" content="noindex">
<title>{TITLES[report.state]}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header class="{report.state}"><h1>{TITLES[report.state]}</h1>{lead}</header>
<table><tbody>
{rows}
</tbody></table>
</main>
<footer>Last look: {time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(report.time))} UTC</footer>
</body>
</html>
"""
